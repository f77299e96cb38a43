"""A few thousand real paintings at 64 pixels in ten minutes.

    python -m painterjax.prepare folder --input paintings --output data/paintings --image-size 64
    python -m painterjax.train --config configs/paintings.py --workdir runs/paintings

Hardware: two CPU cores. Minutes: 8. Score: 0.74 ROC AUC and 0.30 recall@1 on artists never seen
(three seeds, 5,171 training paintings by 112 artists).
"""

from typing import Any

from configs import default


def get_config() -> Any:
    config = default.get_config()
    config.data.store = "data/paintings"
    config.num_epochs = 16
    config.loss.name = "batch_all"
    config.model.batch_norm = "batch"
    config.model.depths = (1, 2, 2, 2, 2)  # 1.5 times the reference's steps per second at 64 pixels
    config.augmentation.shift = 0.1
    config.augmentation.rotation = 0.0
    config.optimizer.milestones = (9, 13)
    config.optimizer.decay = 0.3
    return config
