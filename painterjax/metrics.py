"""Figures of merit of embeddings, and their intervals by bootstrap over artists.

Triplet metrics compare the distances of anchors to positives and to negatives; retrieval metrics
rank a whole split around each painting.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

QUERY_BLOCK = 256  # Queries ranked at once; what bounds the memory.


def triplet_accuracy(positive_T: np.ndarray, negative_T: np.ndarray) -> float:
    """Share of triplets whose positive is nearer than their negative; a tie counts as wrong.

    >>> triplet_accuracy(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]))
    0.3333333333333333
    """
    return float((positive_T < negative_T).mean())


def mean_of_two_accuracy(positive_T: np.ndarray, negative_T: np.ndarray) -> float:
    """Share of batches of two consecutive triplets whose mean distances are in order.

    The test accuracy of the reference solution to Painter by Numbers; easier than
    `triplet_accuracy`. A last triplet without a partner is a batch of one.

    >>> mean_of_two_accuracy(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0]))
    0.5
    """
    starts = np.arange(0, len(positive_T), 2)
    return float((np.add.reduceat(positive_T, starts) < np.add.reduceat(negative_T, starts)).mean())


def roc_auc(positive_T: np.ndarray, negative_T: np.ndarray) -> float:
    """Chance that a positive distance is smaller than a negative one, ties counting half.

    The area under the ROC curve of "same artist" judged by the distance: the mean over all (i, j)
    of [p_i < n_j] + [p_i = n_j] / 2.

    >>> roc_auc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875
    """
    negative_T = np.sort(negative_T)
    below = np.searchsorted(negative_T, positive_T, side="left")
    not_above = np.searchsorted(negative_T, positive_T, side="right")
    return float(1 - (below + not_above).mean() / (2 * len(negative_T)))


def retrieval(emb_NxD: np.ndarray, artist_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks all other paintings around each one and returns recall@1 and AP@R per painting.

    recall@1 is 1 where the nearest is by the same artist. With R the number of other paintings by
    the artist, AP@R = sum over ranks k <= R of precision@k * [rank k is by the artist] / R.

    Args:
      emb_NxD: embeddings, compared by Euclidean distance; equal distances rank by row.
      artist_N: artist numbers 0, 0, 1, ...

    Returns:
      Two float32 arrays of length N; NaN for the only painting of an artist.

    Source: Musgrave et al. 2020, A Metric Learning Reality Check, https://arxiv.org/abs/2003.08505
    """
    others_N = np.bincount(artist_N)[artist_N] - 1
    depth = max(int(others_N.max(initial=0)), 1)
    count = len(emb_NxD)
    centered_NxD = jnp.asarray(emb_NxD - emb_NxD.mean(axis=0, dtype=np.float64), jnp.float32)
    recall_N, precision_N = np.empty(count, np.float32), np.empty(count, np.float32)
    for start in range(0, count, QUERY_BLOCK):
        # A block beyond the end would change shape and compile again.
        row_Q = np.minimum(np.arange(start, start + QUERY_BLOCK), count - 1)
        block = _rank_block(
            centered_NxD, jnp.asarray(artist_N), row_Q, jnp.asarray(others_N[row_Q]), depth=depth
        )
        kept = slice(start, min(start + QUERY_BLOCK, count))
        size = kept.stop - kept.start
        recall_N[kept], precision_N[kept] = (np.asarray(value)[:size] for value in block)
    recall_N[others_N == 0] = precision_N[others_N == 0] = np.nan
    return recall_N, precision_N


@jax.jit(static_argnames="depth")
def _rank_block(emb_NxD, artist_N, row_Q, others_Q, *, depth: int) -> tuple[jax.Array, jax.Array]:
    query_QxD = emb_NxD[row_Q]
    product_QxN = jnp.matmul(query_QxD, emb_NxD.T, precision="highest")
    nearness_QxN = 2 * product_QxN - jnp.square(emb_NxD).sum(axis=1)[None]  # ||q||^2 - D^2
    nearness_QxN = nearness_QxN.at[jnp.arange(len(row_Q)), row_Q].set(-jnp.inf)
    _, nearest_QxR = jax.lax.top_k(nearness_QxN, depth)
    same_QxR = artist_N[nearest_QxR] == artist_N[row_Q][:, None]
    rank_1xR = jnp.arange(1, depth + 1)[None]
    precision_QxR = jnp.cumsum(same_QxR, axis=1) / rank_1xR
    counted_QxR = same_QxR & (rank_1xR <= others_Q[:, None])
    average_Q = (precision_QxR * counted_QxR).sum(axis=1) / jnp.maximum(others_Q, 1)
    return same_QxR[:, 0].astype(jnp.float32), average_Q


def interval(
    metric: Callable[..., float],
    artist_N: np.ndarray,
    *values: np.ndarray,
    replicates: int,
    seed: int,
) -> dict[str, float]:
    """Returns a metric's value and its 95 % interval by bootstrap over artists.

    Each replicate draws as many artists as there are, with replacement, and takes all elements of
    each draw, since paintings by one artist are not independent. The interval spans the 2.5th to
    97.5th percentile.

    Args:
      metric: maps arrays like `values` to a number.
      artist_N: the artist of each element; for triplets, the anchor's.
      *values: arrays of length N.
      replicates: number of draws.
      seed: of the draws.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(artist_N, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(artist_N[order])) + 1)
    draws = np.empty(replicates)
    for i in range(replicates):
        chosen = np.concatenate([members[a] for a in rng.integers(len(members), size=len(members))])
        # Shuffled, so that mean_of_two_accuracy does not pair triplets of one artist.
        chosen = rng.permutation(chosen)
        draws[i] = metric(*(value[chosen] for value in values))
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": metric(*values), "low": float(low), "high": float(high)}
