"""The features of a frozen backbone: read once for a store, and kept beside it for any head."""

import dataclasses
import math
from pathlib import Path

import jax
import numpy as np

from painterjax.common import files
from painterjax.common.config import Config
from painterjax.common.progress import Progress
from painterjax.data.store import Split, Store
from painterjax.model import embedder
from painterjax.model.build import arrays_sha256
from painterjax.model.embedder import Embedder, embed_resumably, embed_together
from painterjax.model.heads import HEADS


def with_features(config: Config, store: Store, names: tuple[str, ...]) -> Store:
    """Returns a store whose splits have the features that a config's head takes.

    They lie in `<store>.features/<digest of the backbone and the images>/<split>.f32`. Interrupted
    work goes on. Several processes of a training call it together, and keep nothing.
    """
    names = tuple(name for name in names if store.splits[name].feature_NxF is None)
    if not names:
        return store
    reader = embedder.feature_reader(config, image_size=store.image_size)
    folder = _folder(config, store, reader)
    splits = {name: _with_features(store.splits[name], reader, folder) for name in names}
    return dataclasses.replace(store, splits={**store.splits, **splits})


def _with_features(split: Split, reader: Embedder, folder: Path) -> Split:
    if jax.process_count() > 1:
        feature_NxF = embed_together(reader, split.image_NxSxSxC, f"features of {split.name}")
    else:
        feature_NxF = _kept(split, reader, folder / f"{split.name}.f32")
    return dataclasses.replace(split, feature_NxF=feature_NxF)


def _kept(split: Split, reader: Embedder, path: Path) -> np.ndarray:
    """The features that a file has, after those that it lacks are added."""
    shape = len(split), reader.dim
    if not path.exists() or path.stat().st_size != 4 * math.prod(shape):
        path.parent.mkdir(parents=True, exist_ok=True)
        progress = Progress(f"features of {split.name}", total=len(split), unit="painting")
        with files.claimed(path.parent), progress:
            embed_resumably(reader, split.image_NxSxSxC, path, progress)
    return np.memmap(path, np.float32, "r", shape=shape)


def _folder(config: Config, store: Store, reader: Embedder) -> Path:
    """Where features of these images, by this backbone and its stages, are kept."""
    settings = {
        "images": store.info["sha256"]["images.npy"],
        "backbone": config.model.backbone,
        "stages": list(config.model.stages),
        "read": HEADS[config.model.head].read.__name__,
        "dtype": config.model.dtype,
    }
    backbone = {name: tree.get("backbone", {}) for name, tree in reader.arrays.items()}
    digest = arrays_sha256(backbone, settings)
    return store.path.with_name(f"{store.path.name}.features") / digest[:16]
