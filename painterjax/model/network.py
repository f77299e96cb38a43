"""The network: a backbone, and a head that reads some of its stages."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from painterjax.model.heads import Head


class StyleNet(nnx.Module):
    """Embeds images.

    Args:
      backbone: maps images to a list of stages.
      stages: which of them the head reads.
      head: a row of HEADS.
      mapping: its module.
    """

    def __init__(
        self, backbone: Any, *, stages: Sequence[int], head: Head, mapping: nnx.Module
    ) -> None:
        self.backbone, self.head = backbone, mapping
        self.stages, self.read = tuple(stages), head.read

    def __call__(self, image_NxSxSxC: jax.Array, *, branches: int | None = None) -> jax.Array:
        """Maps images in [-1, 1] to float32 embeddings: N x S x S x 3 to N x D.

        Args:
          image_NxSxSxC: images; in training the branches one after the other.
          branches: in training the number of BatchNorm's branches; None in evaluation.
        """
        return self.head(self.features(image_NxSxSxC, branches=branches))

    def features(self, image_NxSxSxC: jax.Array, *, branches: int | None = None) -> jax.Array:
        """Maps images to what the head reads of the stages, N x F."""
        stages = self.backbone(image_NxSxSxC, branches=branches)
        return self.read([stages[number] for number in self.stages])


class HeadNet(nnx.Module):
    """The head alone, under the same names, for features that a frozen backbone has read."""

    def __init__(self, mapping: nnx.Module) -> None:
        self.head: Any = mapping

    def __call__(self, feature_NxF: jax.Array, *, branches: int | None = None) -> jax.Array:
        """Maps features to float32 embeddings, N x D; `branches` means nothing here."""
        return self.head(feature_NxF)
