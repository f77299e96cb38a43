"""Heads, and the table of them: from the stages of a backbone to embeddings.

A head reads features from the stages, N x F, without parameters, and maps them to embeddings. So
the features of a frozen backbone can be kept, and the mapping trained on them alone.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from painterjax.model.layers import (
    EPSILON,
    at_least_float32,
    layer_norm,
    linear,
    max_pool,
    unit_length,
)


def pixels(stages: Sequence[jax.Array]) -> jax.Array:
    """Returns the last stage, pooled 2 x 2 and flattened."""
    return max_pool(stages[-1]).reshape(stages[-1].shape[0], -1)


def statistics(stages: Sequence[jax.Array]) -> jax.Array:
    """Returns mean and deviation of every stage's channels over the image, in at least float32.

    Such statistics describe the style of an image and not its layout (Huang and Belongie 2017,
    https://arxiv.org/abs/1703.06868).
    """
    parts = []
    for stage in map(at_least_float32, stages):
        axes = tuple(range(1, stage.ndim - 1))  # of an image's pixels or tokens
        parts += [stage.mean(axes), jnp.sqrt(stage.var(axes) + EPSILON)]
    return jnp.concatenate(parts, axis=1)


class DenseHead(nnx.Module):
    """The reference's: Linear, LayerNorm and ReLU."""

    def __init__(
        self, features: int, embedding_dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.linear = linear(features, embedding_dim, dtype=dtype, rngs=rngs)
        self.norm = layer_norm(embedding_dim, dtype=dtype, rngs=rngs)

    def __call__(self, feature_NxF: jax.Array) -> jax.Array:
        """Maps features to embeddings, N x D."""
        return jax.nn.relu(self.norm(self.linear(feature_NxF)))


class NormedHead(nnx.Module):
    """LayerNorm and Linear; embeddings have length 1."""

    def __init__(
        self, features: int, embedding_dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.norm = layer_norm(features, dtype=dtype, rngs=rngs)
        self.linear = linear(features, embedding_dim, dtype=dtype, rngs=rngs)

    def __call__(self, feature_NxF: jax.Array) -> jax.Array:
        """Maps features to embeddings, N x D."""
        return unit_length(self.linear(self.norm(feature_NxF)))


class LinearHead(nnx.Module):
    """Linear; embeddings have length 1. What a discriminant analysis gives."""

    def __init__(
        self, features: int, embedding_dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.linear = linear(features, embedding_dim, dtype=dtype, rngs=rngs)

    def __call__(self, feature_NxF: jax.Array) -> jax.Array:
        """Maps features to embeddings, N x D."""
        return unit_length(self.linear(feature_NxF))


@dataclasses.dataclass(frozen=True)
class Head:
    """A row of HEADS.

    Attributes:
      read: maps stages to features, N x F.
      features: the number F of them, from the side of the images and the channels of the stages.
      module: maps features to embeddings.
      pools: the number of 2 x 2 pools in `read`.
      any_size: whether it takes images of other sizes than it was built for.
      unit_length: whether embeddings have length 1, so that no distance is above 2.
    """

    read: Callable[[Sequence[jax.Array]], jax.Array]
    features: Callable[[int, Sequence[int]], int]
    module: Callable[..., Any]
    pools: int
    any_size: bool
    unit_length: bool


def _two_of_each(_side: int, channels: Sequence[int]) -> int:
    return 2 * sum(channels)


# What `model.head` names.
HEADS = {
    "dense": Head(
        pixels,
        lambda side, channels: (side // 2 ** len(channels)) ** 2 * channels[-1],
        DenseHead,
        pools=1,
        any_size=False,
        unit_length=False,
    ),
    "statistics": Head(
        statistics, _two_of_each, NormedHead, pools=0, any_size=True, unit_length=True
    ),
    "linear": Head(statistics, _two_of_each, LinearHead, pools=0, any_size=True, unit_length=True),
}
