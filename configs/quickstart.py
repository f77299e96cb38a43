"""Synthetic painters at 64 pixels, on a laptop.

python -m painterjax.prepare synthetic --output data/synthetic --image-size 64
python -m painterjax.train --config configs/quickstart.py --workdir runs/quickstart
"""

from typing import Any

from configs import default


def get_config() -> Any:
    config = default.get_config()
    config.data.store = "data/synthetic"
    config.num_epochs = 12
    config.log_every_steps = 4
    config.loss.name = "batch_all"
    config.model.batch_norm = "batch"
    config.augmentation.shift = 0.1
    config.augmentation.rotation = 0.0
    config.optimizer.milestones = (9, 11)
    config.optimizer.decay = 0.3
    return config
