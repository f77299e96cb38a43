"""The first steps of small trainings: what any number of devices must agree on."""

import dataclasses
from typing import Any

import jax
import numpy as np

from configs import default
from painterjax.common.config import Config
from painterjax.data import store
from painterjax.distributed import sharding
from painterjax.model import augment
from painterjax.training import trainer

STEPS = 2
# One with the recipe's warps, one with all other augmentation, and others without any: it takes
# seconds to compile.
NO_CHANGES = augment.Augmentation()
WARPS = augment.Augmentation(**default.get_config().augmentation)
CHANGES = augment.Augmentation(crop=28, flips=True, contrast=0.1, tint=0.1)
CASES = [
    ("triplet", "float32", "host", WARPS),
    ("batch_all", "float64", "device", CHANGES),
    ("cosine_classifier", "float64", "host", NO_CHANGES),
    ("supervised_contrastive", "float64", "host", NO_CHANGES),
]


class Watched(np.ndarray):
    """Images that know which of them were read."""

    rows: list[np.ndarray]

    def __getitem__(self, index: Any) -> Any:
        self.rows.append(index)
        return np.asarray(self)[index]


def watched(image_NxSxSxC: np.ndarray) -> Watched:
    view = image_NxSxSxC.view(Watched)
    view.rows = []
    return view


def small(
    loss: str, dtype: str, residency: str, augmentation: augment.Augmentation = NO_CHANGES
) -> Config:
    """The reference recipe with four tuples and few channels; one loss with chunks of four."""
    config = default.get_config()
    config.batch_size, config.loss.name, config.data.residency = 4, loss, residency
    config.model.widths, config.model.depths, config.model.embedding_dim = (8,), (1,), 16
    config.model.dtype = dtype
    config.loss.margin = 0.2 if loss == "cosine_classifier" else 2.0
    if loss == "supervised_contrastive":
        config.batch_size, config.chunk_size, config.loss.sampler = 8, 4, "paintings"
    config.augmentation = dataclasses.asdict(augmentation)
    return config


def take(split: store.Split, config: Config) -> dict[str, np.ndarray]:
    """Rows, artists, losses, and the first step's gradients; which images this process read."""
    dtype, images = config.model.dtype, watched(split.image_NxSxSxC)
    with jax.enable_x64(dtype == "float64"):
        training = trainer.build(config, dataclasses.replace(split, image_NxSxSxC=images))
        # Fresh networks are float32.
        state = jax.tree.map(lambda x: x.astype(dtype) if x.ndim else x, training.state)
        taken: dict[str, list[Any]] = {"row": [], "artist": [], "loss": []}
        gradients = None
        for _ in range(STEPS):
            batch = next(training.batches)
            state, scalars = training.run(state, batch, 1)
            if gradients is None:  # Adam's first moment is a tenth of the first gradient.
                gradients = jax.device_get(sharding.local(state.moments))
            for key, values in taken.items():
                values.append(np.asarray({**batch, **scalars}[key][0]))
        training.batches.close()
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    named = {f"moments{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    reads = [rows for rows in images.rows if isinstance(rows, np.ndarray)]
    return {**{key: np.stack(values) for key, values in taken.items()}, **named,
            "read": np.concatenate(reads or [np.zeros((0, 1, 0), int)])}  # fmt: skip


def all_cases(split: store.Split) -> dict[str, np.ndarray]:
    """All cases together, each array named `<loss>/<what>`."""
    return {
        f"{case[0]}/{name}": array
        for case in CASES
        for name, array in take(split, small(*case)).items()
    }
