"""Confidence intervals of a metric by bootstrap over artists."""

from collections.abc import Callable
from typing import Any

import numpy as np

# Draws of two artists that have both are all alike: no interval then.
FEWEST_ARTISTS = 3


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
