"""Synthetic painters in minutes, on a laptop."""

from typing import Any

from configs import default


def get_config() -> Any:
    config = default.get_config()
    config.data.store = "data/synthetic"
    return config
