"""A transformer with published weights, so small that many tests can afford one."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from painterjax.model import backbones, vit_published

NAME = "dinov2_small"  # Whose row it takes.
ARCHITECTURE = dataclasses.replace(
    vit_published.DINOV2[NAME], width=16, depth=2, heads=2, hidden=32, patch=8, grid=4
)


class Published:
    """Random numbers that pass for published weights."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def read(self, _: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self._seed)
        return {name: rng.normal(0, 0.3, shapes[name]) for name in sorted(shapes)}

    def file_sha256(self, path: str) -> str:
        return f"{self._seed} of {path}"


def install(monkeypatch, published: Any = None) -> None:
    """Puts it, with other weights where given, in the place of `NAME` in the table of backbones."""
    row = backbones._transformer(ARCHITECTURE, published or Published())  # pyright: ignore
    monkeypatch.setitem(backbones.BACKBONES, NAME, row)
