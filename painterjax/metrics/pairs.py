"""Verification: are two paintings by one artist? All pairs of a collection, by their distance.

Pairs are counted by distance in steps, those of one artist apart from those of two artists: memory
holds the steps, not the pairs. All figures follow from the two counts; pairs within one step count
as equally distant.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from painterjax.metrics import bootstrap, histogram, pairwise

TILE = 2048  # Paintings along a side of what is compared at once; what bounds the memory.
GROUPS = 256  # More artists are drawn in groups by the bootstrap, which merges steps as well.
REPLICATES_AT_ONCE = 25


@dataclasses.dataclass(frozen=True)
class Pairs:
    """How many pairs there are at each distance.

    Attributes:
      same_K, different_K: pairs by one artist and by two artists in each of K steps, int64.
      end_E: the distances at which the steps begin and end, E = K + 1.
      same_GxJ, different_GxGxJ: the same by group of artists and by two groups, in fewer steps.
    """

    same_K: np.ndarray
    different_K: np.ndarray
    end_E: np.ndarray
    same_GxJ: np.ndarray
    different_GxGxJ: np.ndarray

    def middles(self) -> np.ndarray:
        """Returns the distance in the middle of each step."""
        return (self.end_E[:-1] + self.end_E[1:]) / 2


def count_pairs(emb_NxD: np.ndarray, artist_N: np.ndarray) -> Pairs:
    """Counts all N (N - 1) / 2 pairs by their Euclidean distance.

    Args:
      emb_NxD: embeddings.
      artist_N: artist numbers 0, 0, 1, ..., ascending.
    """
    groups = min(int(artist_N[-1]) + 1, GROUPS)
    placed = pairwise.place(emb_NxD)
    square_P = pairwise.sampled_squares(placed)
    first_C = histogram.first_steps(square_P)
    end_E = histogram.ends(first_C)
    merged_K = histogram.merged_steps(square_P, end_E)
    fine_K = np.zeros(2 * histogram.STEPS + 1, np.int64)
    grouped_K = np.zeros((groups + groups**2) * histogram.MERGED_STEPS + 1, np.int64)
    for fine_M, grouped_M in _tiles(placed, artist_N, first_C, merged_K, groups=groups):
        fine_K += np.bincount(fine_M, minlength=len(fine_K))
        grouped_K += np.bincount(grouped_M, minlength=len(grouped_K))
    same_J, different_J = np.split(grouped_K[:-1], [groups * histogram.MERGED_STEPS])
    return Pairs(
        same_K=fine_K[: histogram.STEPS],
        different_K=fine_K[histogram.STEPS : -1],
        end_E=np.sqrt(end_E) * placed.unit,
        same_GxJ=same_J.reshape(groups, histogram.MERGED_STEPS),
        different_GxGxJ=different_J.reshape(groups, groups, histogram.MERGED_STEPS),
    )


def _tiles(
    placed: pairwise.Placed,
    artist_N: np.ndarray,
    first_C: np.ndarray,
    merged_K: np.ndarray,
    *,
    groups: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields where each pair counts, tile by tile; the device works on the next one meanwhile."""
    side = min(TILE, len(artist_N))
    group_N = artist_N.astype(np.int64) * groups // (artist_N[-1] + 1)
    of_N = (jnp.asarray(artist_N, jnp.int32), jnp.asarray(group_N, jnp.int32))
    table = (jnp.asarray(first_C, jnp.int32), jnp.asarray(merged_K, jnp.int32))
    starts, pending = range(0, len(artist_N), side), None
    for first, second in [(i, j) for i in starts for j in starts if i <= j]:
        with jax.enable_x64(True):
            tile = _tile(placed, of_N, first, second, table, side=side, groups=groups)
        if pending is not None:
            yield np.asarray(pending[0]), np.asarray(pending[1])
        pending = tile
    if pending is not None:
        yield np.asarray(pending[0]), np.asarray(pending[1])


@jax.jit(static_argnames=("side", "groups"))
def _tile(placed: pairwise.Placed, of_N, first, second, table, *, side: int, groups: int):
    """Where each pair of a tile counts: in all steps, and by groups in merged ones.

    What is no pair, or counted elsewhere, goes behind the last count.
    """
    (artist_N, group_N), (first_C, merged_K) = of_N, table
    row_M, column_M = (start + jnp.arange(side, dtype=jnp.int32) for start in (first, second))
    is_pair_MxM = (row_M[:, None] < column_M[None]) & (column_M[None] < len(artist_N))
    row_M, column_M = (jnp.minimum(place_M, len(artist_N) - 1) for place_M in (row_M, column_M))
    step_MxM = histogram.steps(pairwise.squares(placed, row_M, column_M), first_C)
    is_same_MxM = artist_N[row_M][:, None] == artist_N[column_M][None]
    fine_MxM = jnp.where(is_same_MxM, step_MxM, histogram.STEPS + step_MxM)
    group_MxM = jnp.where(
        is_same_MxM,
        group_N[row_M][:, None],
        groups + groups * group_N[row_M][:, None] + group_N[column_M][None],
    )
    grouped_MxM = group_MxM * histogram.MERGED_STEPS + merged_K[step_MxM]
    last = (groups + groups**2) * histogram.MERGED_STEPS
    return (
        jnp.where(is_pair_MxM, fine_MxM, 2 * histogram.STEPS).ravel(),
        jnp.where(is_pair_MxM, grouped_MxM, last).ravel(),
    )


def pair_roc_auc(same_K: np.ndarray, different_K: np.ndarray) -> float:
    """Chance that a pair by one artist is nearer than a pair by two, ties counting half.

    >>> pair_roc_auc(np.array([1, 1, 0]), np.array([0, 1, 1]))
    0.875
    """
    farther_K = different_K.sum() - np.cumsum(different_K) + different_K / 2
    return float(same_K @ farther_K / (float(same_K.sum()) * float(different_K.sum())))


def true_positive_rate(
    same_K: np.ndarray, different_K: np.ndarray, *, false_positive_rate: float
) -> float:
    """Share of pairs by one artist within the distance that this share of pairs by two is within.

    >>> true_positive_rate(np.array([6, 4]), np.array([1, 9]), false_positive_rate=0.1)
    0.6
    """
    positive_K, negative_K = _roc(same_K, different_K)
    return float(np.interp(false_positive_rate, negative_K, positive_K))


def equal_error_rate(same_K: np.ndarray, different_K: np.ndarray) -> float:
    """Share of wrong answers at the distance where both kinds of pairs have the same share.

    >>> equal_error_rate(np.array([8, 2]), np.array([2, 8]))
    0.2
    """
    positive_K, negative_K = _roc(same_K, different_K)
    return float(np.interp(0, positive_K + negative_K - 1, negative_K))


METRICS = {
    "pair_roc_auc": pair_roc_auc,
    "equal_error_rate": equal_error_rate,
    "tpr_at_1_percent_fpr": functools.partial(true_positive_rate, false_positive_rate=0.01),
    "tpr_at_0.1_percent_fpr": functools.partial(true_positive_rate, false_positive_rate=0.001),
}


def judge(pairs: Pairs, *, replicates: int, seed: int) -> dict[str, dict[str, Any]]:
    """Returns each of METRICS with its 95 % interval by bootstrap over artists.

    Each replicate draws as many artists as there are, with replacement, and counts a pair as often
    as both its artists were drawn; a pair of copies of one artist's paintings counts once a copy.
    """
    values = {name: metric(pairs.same_K, pairs.different_K) for name, metric in METRICS.items()}
    if len(pairs.same_GxJ) < bootstrap.FEWEST_ARTISTS:
        return {key: {"value": value, "low": None, "high": None} for key, value in values.items()}
    groups, rng = len(pairs.same_GxJ), np.random.default_rng(seed)
    same_GxJ = pairs.same_GxJ.astype(float)
    different_GxM = pairs.different_GxGxJ.astype(float).reshape(groups, -1)
    within_GxJ = pairs.different_GxGxJ[np.arange(groups), np.arange(groups)].astype(float)
    draws: dict[str, list[float]] = {name: [] for name in METRICS}
    for start in range(0, replicates, REPLICATES_AT_ONCE):
        count = min(REPLICATES_AT_ONCE, replicates - start)
        drawn_RxG = rng.multinomial(groups, np.full(groups, 1 / groups), size=count).astype(float)
        first_RxGxJ = (drawn_RxG @ different_GxM).reshape(count, groups, -1)
        different_RxJ = np.einsum("rg,rgj->rj", drawn_RxG, first_RxGxJ)
        # Two artists of one group were drawn together.
        different_RxJ -= (drawn_RxG**2 - drawn_RxG) @ within_GxJ
        for same_J, different_J in zip(drawn_RxG @ same_GxJ, different_RxJ, strict=True):
            if same_J.any() and different_J.any():  # Of few artists only one may be drawn.
                for name, metric in METRICS.items():
                    draws[name].append(metric(same_J, different_J))
    figures: dict[str, dict[str, Any]] = {}
    for name, metric in METRICS.items():
        # What merging the steps changed, it changed in all draws.
        merged = metric(same_GxJ.sum(axis=0), pairs.different_GxGxJ.sum(axis=(0, 1)))
        ends_2 = np.percentile(draws[name], [2.5, 97.5]) + values[name] - merged
        low, high = np.clip(ends_2, 0, 1).tolist()
        figures[name] = {"value": values[name], "low": low, "high": high}
    return figures


def best_threshold(pairs: Pairs) -> float:
    """Returns the distance within which calling two paintings one artist's is right most often.

    Both kinds of pairs weigh the same: it maximizes the balanced accuracy.
    """
    positive_E, negative_E = _roc(pairs.same_K, pairs.different_K)
    return float(pairs.end_E[np.argmax(positive_E - negative_E)])


def at_threshold(pairs: Pairs, distance: float) -> dict[str, float]:
    """Returns how calling pairs within a distance one artist's fares."""
    positive_E, negative_E = _roc(pairs.same_K, pairs.different_K)
    tpr, fpr = (float(np.interp(distance, pairs.end_E, r)) for r in (positive_E, negative_E))
    return {
        "distance": distance,
        "true_positive_rate": tpr,
        "false_positive_rate": fpr,
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
    }


def _roc(same_K: np.ndarray, different_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positive rates within each step's end, beginning with (0, 0)."""
    positive_K, negative_K = (
        np.concatenate([[0], np.cumsum(count_K)]) / count_K.sum()
        for count_K in (same_K, different_K)
    )
    return positive_K, negative_K
