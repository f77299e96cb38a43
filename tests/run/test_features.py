"""Features of a frozen backbone: what the backbone reads, once for a store and all heads."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from painterjax.common.config import Config
from painterjax.data import store
from painterjax.data.store import Store
from painterjax.model import embedder
from painterjax.run import features
from tests.helpers import tiny_transformer


@pytest.fixture
def recipe(config, monkeypatch) -> Config:
    tiny_transformer.install(monkeypatch)
    config.model.backbone, config.model.head = tiny_transformer.NAME, "linear"
    config.optimizer.backbone_rate = 0.0
    config.eval.batch_size = 8
    return config


@pytest.fixture
def opened(tiny_store, tmp_path) -> Store:
    shutil.copytree(tiny_store, tmp_path / "store")
    return store.open_store(tmp_path / "store")


def _kept(opened: Store) -> dict[Path, int]:
    """When each file of features was written."""
    folder = opened.path.with_name(f"{opened.path.name}.features")
    return {path: path.stat().st_mtime_ns for path in sorted(folder.glob("*/*.f32"))}


def test_they_are_what_the_backbone_reads_and_are_read_once_for_all_heads(recipe, opened):
    read = features.with_features(recipe, opened, ("train", "val"))
    reader = embedder.feature_reader(recipe, image_size=opened.image_size)
    for name in ("train", "val"):
        expected_NxF = reader.embed(opened.splits[name].image_NxSxSxC)
        np.testing.assert_array_equal(read.splits[name].inputs, expected_NxF)
    assert read.splits["test"].feature_NxF is None
    before = _kept(opened)
    assert len(before) == 2
    recipe.model.head, recipe.seed = "statistics", 1  # It reads the same.
    features.with_features(recipe, opened, ("train", "val"))
    assert _kept(opened) == before


@pytest.mark.parametrize("rows", [0, 5, 11])
def test_interrupted_they_go_on_with_the_same_bytes(recipe, opened, rows):
    features.with_features(recipe, opened, ("train",))
    (path,) = _kept(opened)
    content = path.read_bytes()
    row_bytes = len(content) // len(opened.splits["train"])
    path.rename(path.with_suffix(".partial"))
    os.truncate(path.with_suffix(".partial"), rows * row_bytes + 3)
    features.with_features(recipe, opened, ("train",))
    assert path.read_bytes() == content
    assert not path.with_suffix(".partial").exists()


@pytest.mark.parametrize("change", ["stages", "dtype", "weights", "images"])
def test_others_are_read_anew(recipe, opened, change, monkeypatch):
    features.with_features(recipe, opened, ("val",))
    if change == "stages":
        recipe.model.stages = (1,)
    elif change == "dtype":
        recipe.model.dtype = "bfloat16"
    elif change == "weights":
        tiny_transformer.install(monkeypatch, tiny_transformer.Published(seed=1))
    else:
        opened.info["sha256"]["images.npy"] = "0" * 64
    features.with_features(recipe, opened, ("val",))
    assert len(_kept(opened)) == 2
