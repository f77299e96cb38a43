"""The reference solution to Kaggle's Painter by Numbers, whole: triplets at 256 pixels.

    python -m painterjax.prepare kaggle --input painter-by-numbers --output data/painter_by_numbers
    python -m painterjax.train --config configs/painter_by_numbers.py --workdir runs/reference

Hardware: one GPU; the reference took three days. Score: the reference's ROC AUC on unseen artists
is 0.7465, and 0.7904 by mean_of_two_accuracy. Neither was measured here yet.
"""

from typing import Any

from configs import default

IMAGE_SIZE = default.IMAGE_SIZE


def get_config() -> Any:
    config = default.get_config()
    config.data.store = "data/painter_by_numbers"
    config.checkpoint_keep_every_epochs = 5
    return config
