"""95 % confidence intervals by bootstrap over artists: of paintings and triplets, and of pairs.

Artists are drawn, not paintings, since paintings by one artist are not independent. An interval
spans the 2.5th to 97.5th percentile of the replicates.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from painterjax.metrics.pairs import METRICS, Pairs

# With two artists every valid resample is the same: there is no interval.
FEWEST_ARTISTS = 3
REPLICATES_AT_ONCE = 25  # of pairs, which bounds the memory


def intervals(
    metrics: Mapping[str, Callable[..., float]],
    artist_NxM: np.ndarray,
    *values: np.ndarray,
    replicates: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Returns each metric's `value` and the ends of its interval, `low` and `high`.

    Each replicate draws as many artists as there are, with replacement, and takes an element once
    for each way to pick its artists among those drawn. With fewer than FEWEST_ARTISTS artists both
    ends are None.

    Args:
      metrics: each maps arrays like `values` to a number.
      artist_NxM: the different artists of each element: of a painting its own, of a triplet two.
      *values: arrays of length N.
      replicates: number of draws.
      seed: of the draws.

    Source: for several artists, Owen 2007, The pigeonhole bootstrap,
    https://arxiv.org/abs/0712.1111
    """
    rng = np.random.default_rng(seed)
    artists, place_M = np.unique(artist_NxM, return_inverse=True)
    place_MxN, count = place_M.reshape(artist_NxM.shape).T.copy(), len(artists)
    found = {name: metric(*values) for name, metric in metrics.items()}
    draws = []
    for _ in range(replicates if count >= FEWEST_ARTISTS else 0):
        drawn_A = np.bincount(rng.integers(count, size=count), minlength=count)
        chosen = np.repeat(np.arange(len(artist_NxM)), drawn_A[place_MxN].prod(axis=0))
        if len(chosen):  # With few artists all draws may be of one.
            # Shuffled, so that mean_of_two_accuracy does not pair a triplet with its copy.
            chosen = rng.permutation(chosen)
            drawn = [value[chosen] for value in values]
            draws.append([metric(*drawn) for metric in metrics.values()])
    return _with_ends(found, draws)


def mean_intervals(
    values: Mapping[str, np.ndarray], artist_N: np.ndarray, *, replicates: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Returns the mean of each array of length N with its interval, as `intervals` does."""
    artists, place_N = np.unique(artist_N, return_inverse=True)
    count, paintings_A = len(artists), np.bincount(place_N)
    found = {name: float(value_N.mean(dtype=np.float64)) for name, value_N in values.items()}
    if count < FEWEST_ARTISTS:
        return _with_ends(found, [])
    rng = np.random.default_rng(seed)
    drawn_RxA = rng.multinomial(count, np.full(count, 1 / count), size=replicates)
    sum_AxM = np.stack([np.bincount(place_N, value_N) for value_N in values.values()], axis=1)
    draw_RxM = (drawn_RxA @ sum_AxM) / (drawn_RxA @ paintings_A)[:, None]
    return _with_ends(found, draw_RxM)


def _with_ends(values: Mapping[str, float], draw_RxM: Any) -> dict[str, dict[str, Any]]:
    """The value of each metric with the ends of its interval; without replicates they are None."""
    if not len(draw_RxM):
        return {name: {"value": value, "low": None, "high": None} for name, value in values.items()}
    ends_Mx2 = np.percentile(draw_RxM, [2.5, 97.5], axis=0).T.tolist()
    return {
        name: {"value": value, "low": low, "high": high}
        for (name, value), (low, high) in zip(values.items(), ends_Mx2, strict=True)
    }


def as_text(figure: dict[str, Any]) -> str:
    """Returns a figure with its interval.

    >>> as_text({"value": 0.75, "low": 0.5, "high": 1.0})
    '0.750 [0.500, 1.000]'
    """
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def pair_intervals(pairs: Pairs, *, replicates: int, seed: int) -> dict[str, dict[str, Any]]:
    """Returns each metric of pairs with the ends of its interval, as `intervals` does.

    A pair counts as often as both its artists were drawn; a pair of copies of one artist's
    paintings counts once a copy. Above pairs.GROUPS artists, groups of them are drawn.
    """
    values = {name: metric(pairs.same_K, pairs.different_K) for name, metric in METRICS.items()}
    if len(pairs.same_GxJ) < FEWEST_ARTISTS:
        return _with_ends(values, [])
    draws = [
        [metric(same_J, different_J) for metric in METRICS.values()]
        for same_J, different_J in _resampled(pairs, replicates, seed)
        if same_J.any() and different_J.any()  # With few artists all draws may be of one.
    ]
    ends_2xM = np.percentile(draws, [2.5, 97.5], axis=0)
    coarse = pairs.same_GxJ.sum(axis=0), pairs.different_GxGxJ.sum(axis=(0, 1))
    figures = {}
    for (name, metric), ends_2 in zip(METRICS.items(), ends_2xM.T, strict=True):
        # Coarse bins shift all replicates alike.
        low, high = np.clip(ends_2 + values[name] - metric(*coarse), 0, 1).tolist()
        figures[name] = {"value": values[name], "low": low, "high": high}
    return figures


def _resampled(pairs: Pairs, replicates: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields each replicate's pairs by one artist and by two, in coarse bins."""
    groups, rng = len(pairs.same_GxJ), np.random.default_rng(seed)
    same_GxJ = pairs.same_GxJ.astype(float)
    different_GxM = pairs.different_GxGxJ.astype(float).reshape(groups, -1)
    within_GxJ = pairs.different_GxGxJ[np.arange(groups), np.arange(groups)].astype(float)
    for start in range(0, replicates, REPLICATES_AT_ONCE):
        count = min(REPLICATES_AT_ONCE, replicates - start)
        drawn_RxG = rng.multinomial(groups, np.full(groups, 1 / groups), size=count).astype(float)
        first_RxGxJ = (drawn_RxG @ different_GxM).reshape(count, groups, -1)
        different_RxJ = np.einsum("rg,rgj->rj", drawn_RxG, first_RxGxJ)
        # Two artists of one group were drawn together.
        different_RxJ -= (drawn_RxG**2 - drawn_RxG) @ within_GxJ
        yield from zip(drawn_RxG @ same_GxJ, different_RxJ, strict=True)
