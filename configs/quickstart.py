"""Synthetic painters in minutes: paintings.py on fewer paintings.

    python -m painterjax.prepare synthetic --output data/synthetic --image-size 64
    python -m painterjax.train --config configs/quickstart.py --workdir runs/quickstart

Hardware: two CPU cores. Minutes: 2. Score: 0.93 ROC AUC on painters never seen.
"""

from typing import Any

from configs import paintings


def get_config() -> Any:
    config = paintings.get_config()
    config.data.store = "data/synthetic"
    config.log_every_steps = 4
    return config
