"""Losses on embeddings: triplet, contrastive, and batch-all over every triplet of a batch.

Pure functions of float32 arrays with static shapes; each returns a value per tuple, to be reduced
by `jnp.mean` or `masked_mean`.
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


def batch_all(
    distance_NxN: jax.Array, artist_N: jax.Array, *, margin: float
) -> tuple[jax.Array, jax.Array]:
    """Triplet losses of all anchors, positives and negatives in a batch, and which are valid.

    Returns:
      loss_NxNxN and valid_NxNxN by (anchor, positive, negative); a triplet is valid where anchor
      and positive are different rows of one artist and the negative is another artist's.

    Source: Hermans et al. 2017, In Defense of the Triplet Loss, https://arxiv.org/abs/1703.07737
    """
    same_NxN = artist_N[:, None] == artist_N[None, :]
    positive_NxN = same_NxN & ~jnp.eye(len(artist_N), dtype=bool)
    loss_NxNxN = triplet(distance_NxN[:, :, None], distance_NxN[:, None, :], margin=margin)
    return loss_NxNxN, positive_NxN[:, :, None] & ~same_NxN[:, None, :]


def pairwise_euclidean(emb_NxD: jax.Array) -> jax.Array:
    """Euclidean distances between all rows, N x N, by one matrix product in full precision."""
    # Distances do not change with the origin; near it the product cancels least.
    centered_NxD = emb_NxD - jax.lax.stop_gradient(emb_NxD.mean(axis=0, keepdims=True))
    square_N = jnp.square(centered_NxD).sum(axis=1)
    product_NxN = jnp.matmul(centered_NxD, centered_NxD.T, precision="highest")
    square_NxN = square_N[:, None] + square_N[None, :] - 2 * product_NxN
    return safe_sqrt(jnp.where(jnp.eye(len(emb_NxD), dtype=bool), 0.0, square_NxN))


def safe_sqrt(square: jax.Array) -> jax.Array:
    """Square root that is 0 with gradient 0 wherever its argument is not positive."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def masked_mean(value: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean of the valid values; 0 where none is valid.

    >>> print(masked_mean(jnp.array([1.0, 5.0]), jnp.array([True, False])))
    1.0
    """
    return jnp.where(valid, value, 0.0).sum() / jnp.maximum(valid.sum(), 1)
