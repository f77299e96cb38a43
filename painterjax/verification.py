"""Verification: are two paintings by one artist? All pairs of a collection, by their distance.

Pairs are counted by distance in steps, those of one artist apart from those of two artists: memory
holds the steps, not the pairs. All figures follow from the two counts; pairs within one step count
as equally distant.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from painterjax import bins, distances, files, metrics
from painterjax.errors import InputError

TILE = 2048  # Paintings along a side of what is compared at once; what bounds the memory.
GROUPS = 256  # More artists are drawn in groups by the bootstrap, which merges steps as well.
REPLICATES_AT_ONCE = 25
CALIBRATION_STEPS = 4096


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
    placed = distances.place(emb_NxD)
    square_P = distances.sampled_squares(placed)
    first_C = bins.first_steps(square_P)
    end_E = bins.ends(first_C)
    merged_K = bins.merged_steps(square_P, end_E)
    fine_K = np.zeros(2 * bins.STEPS + 1, np.int64)
    grouped_K = np.zeros((groups + groups**2) * bins.MERGED_STEPS + 1, np.int64)
    for fine_M, grouped_M in _tiles(placed, artist_N, first_C, merged_K, groups=groups):
        fine_K += np.bincount(fine_M, minlength=len(fine_K))
        grouped_K += np.bincount(grouped_M, minlength=len(grouped_K))
    same_J, different_J = np.split(grouped_K[:-1], [groups * bins.MERGED_STEPS])
    return Pairs(
        same_K=fine_K[: bins.STEPS],
        different_K=fine_K[bins.STEPS : -1],
        end_E=np.sqrt(end_E) * placed.unit,
        same_GxJ=same_J.reshape(groups, bins.MERGED_STEPS),
        different_GxGxJ=different_J.reshape(groups, groups, bins.MERGED_STEPS),
    )


def _tiles(
    placed: distances.Placed,
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
def _tile(placed: distances.Placed, of_N, first, second, table, *, side: int, groups: int):
    """Where each pair of a tile counts: in all steps, and by groups in merged ones.

    What is no pair, or counted elsewhere, goes behind the last count.
    """
    (artist_N, group_N), (first_C, merged_K) = of_N, table
    row_M, column_M = (start + jnp.arange(side, dtype=jnp.int32) for start in (first, second))
    is_pair_MxM = (row_M[:, None] < column_M[None]) & (column_M[None] < len(artist_N))
    row_M, column_M = (jnp.minimum(place_M, len(artist_N) - 1) for place_M in (row_M, column_M))
    step_MxM = bins.steps(distances.squares(placed, row_M, column_M), first_C)
    is_same_MxM = artist_N[row_M][:, None] == artist_N[column_M][None]
    fine_MxM = jnp.where(is_same_MxM, step_MxM, bins.STEPS + step_MxM)
    group_MxM = jnp.where(
        is_same_MxM,
        group_N[row_M][:, None],
        groups + groups * group_N[row_M][:, None] + group_N[column_M][None],
    )
    grouped_MxM = group_MxM * bins.MERGED_STEPS + merged_K[step_MxM]
    last = (groups + groups**2) * bins.MERGED_STEPS
    return (
        jnp.where(is_pair_MxM, fine_MxM, 2 * bins.STEPS).ravel(),
        jnp.where(is_pair_MxM, grouped_MxM, last).ravel(),
    )


def roc_auc(same_K: np.ndarray, different_K: np.ndarray) -> float:
    """Chance that a pair by one artist is nearer than a pair by two, ties counting half.

    >>> roc_auc(np.array([1, 1, 0]), np.array([0, 1, 1]))
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
    "pair_roc_auc": roc_auc,
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
    if len(pairs.same_GxJ) < metrics.FEWEST_ARTISTS:
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


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The probability of one artist by distance, where one and two are as likely beforehand.

    p = 1 / (1 + exp(slope * distance - offset))
    """

    offset: float
    slope: float

    def probability(self, distance: npt.ArrayLike) -> np.ndarray:
        """Maps distances to probabilities."""
        return 1 / (1 + np.exp(np.clip(self.slope * np.asarray(distance) - self.offset, -80, 80)))

    def error(self, pairs: Pairs) -> float:
        """Returns the expected calibration error over ten bins of the probability."""
        probability_B, share_B, weight_B = self.reliability(pairs)
        return float(np.abs(probability_B - share_B) @ weight_B)

    def reliability(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns, of those of ten bins of the probability that hold pairs, its mean, the share of
        pairs by one artist, and the share of all pairs; both kinds of pairs weigh the same.
        """
        distance_M, same_M, different_M = _merged_shares(pairs)
        probability_M, weight_M = self.probability(distance_M), same_M + different_M
        bin_M = np.minimum((10 * probability_M).astype(int), 9)
        weight_B, sum_B, same_B = (
            np.bincount(bin_M, values_M, minlength=10)
            for values_M in (weight_M, weight_M * probability_M, same_M)
        )
        is_full_B = weight_B > 0
        weight_B, sum_B, same_B = weight_B[is_full_B], sum_B[is_full_B], same_B[is_full_B]
        return sum_B / weight_B, same_B / weight_B, weight_B / 2


def calibrate(pairs: Pairs) -> Calibration:
    """Fits a Calibration by logistic regression, both kinds of pairs weighing the same.

    Source: Platt 1999, Probabilistic Outputs for Support Vector Machines
    """
    from sklearn.linear_model import LogisticRegression  # Takes a second.

    distance_K, same_K, different_K = _merged_shares(pairs)
    mean = float(distance_K @ (same_K + different_K)) / 2
    relative_Mx1 = np.tile(distance_K / mean, 2)[:, None]
    is_same_M = np.repeat([True, False], len(distance_K))
    weight_M = np.concatenate([same_K, different_K])
    fit = LogisticRegression(C=1e10, tol=1e-7, max_iter=1000).fit(relative_Mx1, is_same_M, weight_M)
    return Calibration(float(fit.intercept_[0]), -float(fit.coef_[0, 0]) / mean)


def read_calibration(run: Path, *, step: int) -> Calibration | None:
    """Returns what evaluation.json says of a step; None where another or none was judged."""
    try:
        evaluation = files.read_json(run / "evaluation.json")
        calibration = {key: float(value) for key, value in evaluation["calibration"].items()}
        return Calibration(**calibration) if evaluation["step"] == step else None
    except (AttributeError, OSError, ValueError, KeyError, TypeError):
        return None


def needed_calibration(run: Path, *, step: int) -> Calibration:
    """Returns what evaluation.json says of a step; raises InputError where it says nothing."""
    calibration = read_calibration(run, step=step)
    if calibration is None:
        raise InputError(
            f"{run} was not calibrated: python -m painterjax.evaluate --run {run}, on a store with"
            " two paintings by each of two artists in its validation"
        )
    return calibration


def _merged_shares(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, and which shares of the pairs by one and by two artists lie there."""
    seen_K = pairs.same_K + pairs.different_K > 0
    share_2xK = np.stack([n_K[seen_K] / n_K.sum() for n_K in (pairs.same_K, pairs.different_K)])
    weight_K = share_2xK.sum(axis=0)
    # About as many pairs in each, so that a few far away leave no gap between all others.
    merged_K = ((np.cumsum(weight_K) - weight_K / 2) * CALIBRATION_STEPS / 2).astype(int)
    begin_M = np.flatnonzero(np.diff(merged_K, prepend=-1))
    distance_M = np.add.reduceat(weight_K * pairs.middles()[seen_K], begin_M)
    same_M, different_M = np.add.reduceat(share_2xK, begin_M, axis=1)
    return distance_M / (same_M + different_M), same_M, different_M


def _roc(same_K: np.ndarray, different_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positive rates within each step's end, beginning with (0, 0)."""
    positive_K, negative_K = (
        np.concatenate([[0], np.cumsum(count_K)]) / count_K.sum()
        for count_K in (same_K, different_K)
    )
    return positive_K, negative_K
