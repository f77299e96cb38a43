"""A published backbone as it is, for what needs neither a store nor names of artists."""

import dataclasses
import functools
from pathlib import Path
from typing import NoReturn

import numpy as np

from painterjax.common.config import Config, as_config, default_values
from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.distributed import sharding
from painterjax.model import vit_published
from painterjax.model.backbones import BACKBONES, LocalFile
from painterjax.model.embedder import feature_reader, untrained
from painterjax.run.load import NETWORK, Run, load_run, network_sha256

IMAGE_SIZE = 224
# Of EfficientNet-Lite all blocks but the last, as configs/pretrained.py reads it.
EFFICIENTNET_STAGES = (1, 2, 3, 4, 5, 6)


@dataclasses.dataclass(frozen=True)
class Untrained(Run):
    """A published backbone in place of a run: it has no store, and its distances no probability."""

    @functools.cached_property
    def store(self) -> NoReturn:
        """Raises InputError."""
        raise InputError(
            f"{self.origin['run']} is an untrained backbone, and has no store: embed a folder"
            " (embed --images), index it (search --add), or train a run"
        )

    @property
    def artists_trained_on(self) -> set[str]:
        """None."""
        return set()

    @property
    def is_trained(self) -> bool:
        """False."""
        return False


def open_run(path: Path) -> Run:
    """Opens a run, or a published backbone by its name.

    The backbone's embeddings are what `configs/pretrained.py` would fit its head to: means and
    deviations of channels, centered over each image's features, and of length 1.

    Args:
      path: the run folder; or the name of a row of BACKBONES, and behind a "=" the file of its
        weights where it needs one.

    Raises:
      InputError: there is neither, or the weights are missing or do not fit.
    """
    name, _, weights = str(path).partition("=")
    published = BACKBONES[name].published if name in BACKBONES else None
    if path.exists() or published is None:
        return load_run(path)
    if isinstance(published, LocalFile) != bool(weights):
        remedy = f"leave {weights} out, its weights are in a package"
        if not weights:
            remedy = f"give its weights as {name}=FILE, see docs/backbones.md"
        raise InputError(f"--run {path}: {remedy}")
    config = _config(name, weights)
    features = feature_reader(config, image_size=IMAGE_SIZE).dim
    config.model.embedding_dim = features
    start = untrained(config, image_size=IMAGE_SIZE)
    centering_FxF = (np.eye(features) - 1 / features).astype(np.float32)
    linear = {"kernel": centering_FxF, "bias": np.zeros(features, np.float32)}
    head = {"linear": sharding.replicate(start.mesh, linear)}
    embedder = dataclasses.replace(start, params={**start.params, "head": head})
    sha256 = network_sha256(config, embedder, images.DECODING)
    origin = {"run": name, "step": 0, "decoding": images.DECODING, NETWORK: sha256}
    return Untrained(Path("runs") / name, config, embedder, origin, None, None)


def _config(name: str, weights: str) -> Config:
    config = as_config(default_values())
    backbone = BACKBONES[name]
    # Of a transformer the last stage that has all tokens: behind SigLIP's comes a pooled one.
    last = backbone.stages(config.model) - (2 if name in vit_published.SIGLIP else 1)
    stages = (last,) if weights else EFFICIENTNET_STAGES
    config.model.backbone, config.model.weights = name, weights
    config.model.stages, config.model.head = stages, "linear"
    return config
