"""Losses of tuples, triplet and contrastive, and helpers of all losses.

Pure functions of float32 arrays with static shapes; each returns a value per tuple.
"""

import jax
import jax.numpy as jnp


def euclidean(x: jax.Array, y: jax.Array) -> jax.Array:
    """Euclidean distance over the last axis, ||x - y||; its gradient at distance 0 is 0.

    >>> print(euclidean(jnp.array([3.0, 0.0]), jnp.array([0.0, 4.0])))
    5.0
    """
    return safe_sqrt(jnp.square(x - y).sum(axis=-1))


def mean_squared(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean of all squared differences as one number, also over the batch: mean((x - y)^2).

    The distance in the notebook of the reference solution to Painter by Numbers.
    """
    return jnp.square(x - y).mean()


# What `loss.distance` names.
DISTANCES = {"euclidean": euclidean, "mean_squared": mean_squared}


def triplet(positive: jax.Array, negative: jax.Array, *, margin: float) -> jax.Array:
    """Triplet loss: max(0, D(a, p) - D(a, n) + m) for the distances to positive and negative.

    Source: Schroff et al. 2015, FaceNet, https://arxiv.org/abs/1503.03832 (there, D is squared).
    """
    return jax.nn.relu(positive - negative + margin)


def contrastive(distance: jax.Array, different: jax.Array, *, margin: float) -> jax.Array:
    """Contrastive loss: (1 - Y) / 2 * D^2 + Y / 2 * max(0, m - D)^2, Y = 1 for different artists.

    Source: Hadsell et al. 2006, Dimensionality Reduction by Learning an Invariant Mapping.
    """
    pull = jnp.square(distance) / 2
    push = jnp.square(jax.nn.relu(margin - distance)) / 2
    return jnp.where(different, push, pull)


def safe_sqrt(square: jax.Array) -> jax.Array:
    """Square root that is 0 with gradient 0 wherever its argument is not positive."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def masked_mean(value: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean of the valid values; 0 where none is valid.

    >>> print(masked_mean(jnp.array([1.0, 5.0]), jnp.array([True, False])))
    1.0
    """
    return ratio(jnp.where(valid, value, 0.0).sum(), valid.sum(dtype=float))


def ratio(total: jax.Array, count: jax.Array) -> jax.Array:
    """Mean from a sum and a count; 0 where the count is 0."""
    return total / jnp.maximum(count, 1)
