"""In-batch losses, over all pairs of a batch; static shapes, memory O(N^2).

Pure functions of float32 distances or cosines and of which pairs are by one artist. Most return a
loss per anchor and a mask of the anchors that count, for `tuples.masked_mean`: an artist's only
painting in the batch is no anchor, but a negative of the others. `batch_all` returns sums over
triplets, and in `cosine_classifier` every painting is an anchor.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from painterjax.losses.tuples import safe_sqrt

# Of multi_similarity: the defaults of the loss and the miner of pytorch-metric-learning.
ALPHA, BETA, BASE, EPSILON = 2.0, 50.0, 0.5, 0.1


class Triplets(NamedTuple):
    """Sums over the negatives of each (anchor, positive), N x N; 0 for all other pairs.

    All are float32: totals in int32 would overflow from two artists with 1,050 paintings each on.

    Attributes:
      loss_NxN: sum of the losses of the active triplets, those above zero.
      active_NxN: their number.
      ordered_NxN: the number of triplets whose negative is farther than the positive.
      count_NxN: the number of all triplets.
    """

    loss_NxN: jax.Array
    active_NxN: jax.Array
    ordered_NxN: jax.Array
    count_NxN: jax.Array


class Relations(NamedTuple):
    """Which pairs of a batch are positives and which negatives; a painting and itself are neither.

    Attributes:
      positive_NxN: whether they are different paintings by one artist.
      negative_NxN: whether they are by two artists.
    """

    positive_NxN: jax.Array
    negative_NxN: jax.Array


def relations(artist_N: jax.Array, painting_N: jax.Array) -> Relations:
    """Returns the relations of paintings, of which some may be in the batch twice."""
    same_artist_NxN, same_painting_NxN = (
        number_N[:, None] == number_N[None, :] for number_N in (artist_N, painting_N)
    )
    return Relations(same_artist_NxN & ~same_painting_NxN, ~same_artist_NxN)


def first_places(painting_N: jax.Array) -> jax.Array:
    """Returns whether each place is the first of its painting, of which some may be there twice.

    >>> first_places(jnp.array([7, 3, 7, 5])).tolist()
    [True, True, False, True]
    """
    same_NxN = painting_N[:, None] == painting_N[None, :]
    return same_NxN.argmax(axis=1) == jnp.arange(len(painting_N))


def pairwise_euclidean(emb_NxD: jax.Array) -> jax.Array:
    """Euclidean distances between all rows, N x N, by one matrix product in full precision.

    In any order of summation the square of a distance is right to (4 D + 22) R^2 / 2^24, where R is
    the length of the longest row after centering. At D = 2,048 a distance above R / 6 is right to
    1 %, and one below R / 45 may become 0, with gradient 0.
    """
    # The bound, in units of R^2 / 2^24 and to first order: centering 8, two squared lengths and
    # twice the product D each, the two additions 6, the square root 8.
    # Distances do not change with the origin; near it the product cancels least.
    centered_NxD = emb_NxD - jax.lax.stop_gradient(emb_NxD.mean(axis=0, keepdims=True))
    square_N = jnp.square(centered_NxD).sum(axis=1)
    product_NxN = jnp.matmul(centered_NxD, centered_NxD.T, precision="highest")
    square_NxN = square_N[:, None] + square_N[None, :] - 2 * product_NxN
    return safe_sqrt(jnp.where(jnp.eye(len(emb_NxD), dtype=bool), 0.0, square_NxN))


def cosines(x_NxD: jax.Array, y_MxD: jax.Array) -> jax.Array:
    """Cosines of the angles between the rows of x and those of y, N x M; 0 with a zero vector."""
    return jnp.matmul(_unit(x_NxD), _unit(y_MxD).T, precision="highest")


def batch_all(
    distance_NxN: jax.Array, related: Relations, *, margin: float, semi_hard: bool = False
) -> Triplets:
    """Triplet losses max(0, D(a, p) - D(a, n) + m) of all triplets in a batch, summed by (a, p).

    Sorts each anchor's negatives by distance. A binary search then counts those within D(a, p) + m,
    and a prefix sum adds their distances. A table of all triplets would take O(N^3).

    Args:
      distance_NxN: Euclidean distances.
      related: of the same paintings.
      margin: m.
      semi_hard: leaves out triplets whose negative is not farther than their positive.

    Source: Hermans et al. 2017, In Defense of the Triplet Loss, https://arxiv.org/abs/1703.07737;
    semi-hard: Schroff et al. 2015, FaceNet, https://arxiv.org/abs/1503.03832
    """
    positive_NxN, negative_NxN = related
    sorted_NxN = jnp.sort(jnp.where(negative_NxN, distance_NxN, jnp.inf), axis=1)
    finite_NxN = jnp.where(jnp.isfinite(sorted_NxN), sorted_NxN, 0.0)
    sum_NxM = jnp.pad(jnp.cumsum(finite_NxN, axis=1), ((0, 0), (1, 0)))
    search = jax.vmap(jnp.searchsorted, in_axes=(0, 0, None))

    def nearer(limit_NxN: jax.Array, side: str) -> tuple[jax.Array, jax.Array]:
        """The number of negatives within a limit, and the sum of their losses."""
        count_NxN = search(sorted_NxN, jax.lax.stop_gradient(limit_NxN), side)
        sum_NxN = jnp.take_along_axis(sum_NxM, count_NxN, axis=1)
        return count_NxN, count_NxN * (distance_NxN + margin) - sum_NxN

    violated_NxN, violated_loss_NxN = nearer(distance_NxN, "right")
    active_NxN, loss_NxN = nearer(distance_NxN + margin, "left")
    if semi_hard:
        active_NxN, loss_NxN = active_NxN - violated_NxN, loss_NxN - violated_loss_NxN
    count_NxN = jnp.broadcast_to(negative_NxN.sum(axis=1, keepdims=True), positive_NxN.shape)
    sums = Triplets(loss_NxN, active_NxN, count_NxN - violated_NxN, count_NxN)
    return Triplets(*(jnp.where(positive_NxN, x_NxN, 0.0) for x_NxN in sums))


def batch_hard(
    distance_NxN: jax.Array, related: Relations, *, margin: float | None
) -> tuple[jax.Array, jax.Array]:
    """Triplet loss of each anchor's farthest positive and nearest negative: loss_N, valid_N.

    max(0, max D(a, p) - min D(a, n) + m), or with no margin the soft log(1 + exp(max - min)).

    Source: Hermans et al. 2017, In Defense of the Triplet Loss, https://arxiv.org/abs/1703.07737
    """
    positive_NxN, negative_NxN = related
    farthest_N = jnp.max(distance_NxN, axis=1, where=positive_NxN, initial=0.0)
    nearest_N = jnp.min(distance_NxN, axis=1, where=negative_NxN, initial=jnp.inf)
    gap_N = farthest_N - nearest_N
    loss_N = jax.nn.softplus(gap_N) if margin is None else jax.nn.relu(gap_N + margin)
    return loss_N, positive_NxN.any(axis=1) & negative_NxN.any(axis=1)


def supervised_contrastive(
    cosine_NxN: jax.Array, related: Relations, *, scale: float
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of finding an anchor's positives among all others: loss_N, valid_N.

    Mean over positives p of -log(exp(s cos(a, p)) / sum of exp(s cos(a, j)) over all others j).

    Args:
      cosine_NxN: cosines between embeddings.
      related: of the same paintings.
      scale: s, one over the temperature.

    Source: Khosla et al. 2020, Supervised Contrastive Learning, L_out in equation 2,
    https://arxiv.org/abs/2004.11362
    """
    positive_NxN, negative_NxN = related
    all_Nx1 = jax.nn.logsumexp(
        scale * cosine_NxN, axis=1, keepdims=True, where=positive_NxN | negative_NxN
    )
    loss_N = jnp.where(positive_NxN, all_Nx1 - scale * cosine_NxN, 0.0).sum(axis=1)
    count_N = positive_NxN.sum(axis=1)
    return loss_N / jnp.maximum(count_N, 1), count_N > 0


def multi_similarity(cosine_NxN: jax.Array, related: Relations) -> tuple[jax.Array, jax.Array]:
    """Multi-similarity loss of each anchor's hard pairs: loss_N, valid_N.

    log(1 + sum of exp(-alpha (cos(a, p) - base))) / alpha
    + log(1 + sum of exp(beta (cos(a, n) - base))) / beta,
    over the positives p less similar than some negative plus epsilon, and the negatives n more
    similar than some positive minus epsilon.

    Source: Wang et al. 2019, Multi-Similarity Loss, https://arxiv.org/abs/1904.06627
    """
    positive_NxN, negative_NxN = related
    similar_Nx1 = jnp.max(cosine_NxN, axis=1, where=negative_NxN, initial=-jnp.inf, keepdims=True)
    unlike_Nx1 = jnp.min(cosine_NxN, axis=1, where=positive_NxN, initial=jnp.inf, keepdims=True)
    hard_positive_NxN = positive_NxN & (cosine_NxN < similar_Nx1 + EPSILON)
    hard_negative_NxN = negative_NxN & (cosine_NxN > unlike_Nx1 - EPSILON)
    pull_N = _log_one_plus_sum(ALPHA * (BASE - cosine_NxN), hard_positive_NxN) / ALPHA
    push_N = _log_one_plus_sum(BETA * (cosine_NxN - BASE), hard_negative_NxN) / BETA
    return pull_N + push_N, positive_NxN.any(axis=1) & negative_NxN.any(axis=1)


def cosine_classifier(
    cosine_NxA: jax.Array, artist_N: jax.Array, *, scale: float, margin: float
) -> jax.Array:
    """Cross-entropy of classifying the artist by cosines to A learned proxies: loss_N.

    -log softmax over artists of s (cos(a, proxy) - m [proxy is the artist's]).

    Args:
      cosine_NxA: cosines between embeddings and proxies.
      artist_N: artist numbers, below A.
      scale: s.
      margin: m; 0 is the plain normalized softmax.

    Source: Wang et al. 2018, CosFace, https://arxiv.org/abs/1801.09414
    """
    own_NxA = artist_N[:, None] == jnp.arange(cosine_NxA.shape[1])[None, :]
    logit_NxA = scale * jnp.where(own_NxA, cosine_NxA - margin, cosine_NxA)
    return -jnp.where(own_NxA, jax.nn.log_softmax(logit_NxA, axis=1), 0.0).sum(axis=1)


def two_views(cosine_NxN: jax.Array, painting_N: jax.Array, *, scale: float) -> jax.Array:
    """Cross-entropy of telling an image's second view from those of others, and its first: loss_N.

    Mean over both directions of -log(exp(s cos(a_i, b_i)) / sum of exp(s cos(a_i, b_j)) over i and
    all j of other paintings).

    Args:
      cosine_NxN: cosines between first views a (rows) and second views b (columns).
      painting_N: the painting of each; one may be in the batch twice.
      scale: s, one over the temperature.

    Source: InfoNCE, van den Oord et al. 2018, https://arxiv.org/abs/1807.03748
    """
    counts_NxN = (painting_N[:, None] != painting_N[None, :]) | jnp.eye(len(painting_N), dtype=bool)
    all_RxN = jnp.stack(
        [jax.nn.logsumexp(scale * cosine_NxN, axis=axis, where=counts_NxN) for axis in (0, 1)]
    )
    return all_RxN.mean(axis=0) - scale * jnp.diagonal(cosine_NxN)


def _unit(x_NxD: jax.Array) -> jax.Array:
    """Rows at length 1; a zero row stays zero, with gradient zero."""
    norm_Nx1 = safe_sqrt(jnp.square(x_NxD).sum(axis=1, keepdims=True))
    return x_NxD / jnp.where(norm_Nx1 > 0, norm_Nx1, 1.0)


def _log_one_plus_sum(exponent_NxN: jax.Array, valid_NxN: jax.Array) -> jax.Array:
    """log(1 + sum of exp over the valid ones), by row."""
    masked_NxN = jnp.where(valid_NxN, exponent_NxN, -jnp.inf)
    return jax.nn.logsumexp(jnp.pad(masked_NxN, ((0, 0), (0, 1))), axis=1)
