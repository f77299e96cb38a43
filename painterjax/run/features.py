"""The features of a frozen backbone: read once for a store, and kept beside it for any head."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from painterjax.common import files
from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.common.progress import Progress
from painterjax.data.store import Split, Store, images_file
from painterjax.model import embedder
from painterjax.model.backbones import weights_sha256
from painterjax.model.embedder import Embedder, embed_resumably, embed_together
from painterjax.model.heads import HEADS

VERSION = 1  # Another number for other features of the same images.


def with_features(config: Config, store: Store, names: tuple[str, ...]) -> Store:
    """Returns a store whose splits have the features that a config's head takes.

    They lie in `<store>.features/<digest of the backbone and the images>/<split>.f32`. Interrupted
    work goes on. Several processes of a training call it together, and keep nothing.
    """

    @functools.cache
    def reader() -> Embedder:
        return embedder.feature_reader(config, image_size=store.image_size)

    folder, splits = _folder(config, store), dict(store.splits)
    for name in (name for name in names if splits[name].feature_NxF is None):
        split = splits[name]
        if jax.process_count() > 1:
            feature_NxF = embed_together(reader(), split.image_NxSxSxC, f"features of {name}")
        else:
            feature_NxF = _kept(split, reader, folder / f"{name}.f32")
        splits[name] = dataclasses.replace(split, feature_NxF=feature_NxF)
    return dataclasses.replace(store, splits=splits)


def _kept(split: Split, reader: Callable[[], Embedder], path: Path) -> np.ndarray:
    """The features of a file, which is made where it is missing; without it no network is built."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        progress = Progress(f"features of {split.name}", total=len(split), unit="painting")
        partial = path.with_suffix(".partial")
        with files.claimed(path.parent), progress:
            embed_resumably(reader(), split.image_NxSxSxC, partial, progress)
            files.rename(partial, path)
    feature_M = np.memmap(path, np.float32, "r")
    if not len(feature_M) or len(feature_M) % len(split):
        raise InputError(f"{path} is damaged: delete it, and it is made again")
    return feature_M.reshape(len(split), -1)


def _folder(config: Config, store: Store) -> Path:
    """Where features of these images, by this backbone and its stages, are kept."""
    settings = {
        "images": store.info["sha256"][images_file(store.info)],
        "backbone": config.model.backbone,
        "weights": weights_sha256(config.model),
        "stages": list(config.model.stages),
        "read": HEADS[config.model.head].read.__name__,
        "dtype": config.model.dtype,
        "version": VERSION,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return store.path.with_name(f"{store.path.name}.features") / digest[:16]
