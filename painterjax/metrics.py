"""Figures of triplets, by the distances of anchors to positives and to negatives; and intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np

# Draws of two artists that have both are all alike: no interval then.
FEWEST_ARTISTS = 3


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


def interval(
    metric: Callable[..., float],
    artist_N: np.ndarray,
    *values: np.ndarray,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Returns a metric's value and `low` and `high` of its 95 % interval by bootstrap over artists.

    Each replicate draws as many artists as there are, with replacement, and takes all elements of
    each draw, since paintings by one artist are not independent. The interval spans the 2.5th to
    97.5th percentile; of fewer than FEWEST_ARTISTS there is none, and both ends are None.

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
    if len(members) < FEWEST_ARTISTS:
        return {"value": metric(*values), "low": None, "high": None}
    draws = np.empty(replicates)
    for i in range(replicates):
        chosen = np.concatenate([members[a] for a in rng.integers(len(members), size=len(members))])
        # Shuffled, so that mean_of_two_accuracy does not pair triplets of one artist.
        chosen = rng.permutation(chosen)
        draws[i] = metric(*(value[chosen] for value in values))
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": metric(*values), "low": float(low), "high": float(high)}
