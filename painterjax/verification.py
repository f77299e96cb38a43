"""Verification: are two paintings by one artist? All pairs of a collection, by their distance.

Pairs are counted by distance in STEPS equal steps from 0 to an upper bound of all distances, those
of one artist apart from those of two artists: memory holds the steps, not the pairs. All figures
follow from the two counts; pairs within one step count as equally distant.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from painterjax import files
from painterjax.errors import InputError

STEPS = 2**20
TILE = 2048  # Paintings along a side of what is compared at once; what bounds the memory.
# Of the bootstrap: more artists are drawn in groups, and steps are merged.
GROUPS, MERGED_STEPS = 256, 128
SAMPLED_PAIRS = 2**18  # They tell which steps to merge.
REPLICATES_AT_ONCE = 25
CALIBRATION_STEPS = 4096


@dataclasses.dataclass(frozen=True)
class Pairs:
    """How many pairs there are at each distance.

    Attributes:
      same_K, different_K: pairs by one artist and by two artists in each of K steps, int64.
      step: the width of a step.
      same_GxJ, different_GxGxJ: the same by group of artists and by two groups, in fewer steps.
    """

    same_K: np.ndarray
    different_K: np.ndarray
    step: float
    same_GxJ: np.ndarray
    different_GxGxJ: np.ndarray


def count_pairs(emb_NxD: np.ndarray, artist_N: np.ndarray) -> Pairs:
    """Counts all N (N - 1) / 2 pairs by their Euclidean distance.

    Args:
      emb_NxD: embeddings.
      artist_N: artist numbers 0, 0, 1, ..., ascending.
    """
    artists = int(artist_N[-1]) + 1
    groups = min(artists, GROUPS)
    centered_NxD = (emb_NxD - emb_NxD.mean(axis=0, dtype=np.float64)).astype(np.float32)
    # No distance is above twice the largest length; a little more, for what rounding adds.
    limit = 2.001 * float(np.sqrt(np.square(centered_NxD).sum(axis=1).max())) or 1.0
    fine_K = np.zeros(2 * STEPS + 1, np.int64)
    merged_K = np.zeros((groups + groups**2) * MERGED_STEPS + 1, np.int64)
    for fine_MxM, merged_MxM in _tiles(centered_NxD, artist_N, groups=groups, limit=limit):
        fine_K += np.bincount(fine_MxM.ravel(), minlength=len(fine_K))
        merged_K += np.bincount(merged_MxM.ravel(), minlength=len(merged_K))
    same_J, different_J = np.split(merged_K[:-1], [groups * MERGED_STEPS])
    return Pairs(
        same_K=fine_K[:STEPS],
        different_K=fine_K[STEPS:-1],
        step=limit / STEPS,
        same_GxJ=same_J.reshape(groups, MERGED_STEPS),
        different_GxGxJ=different_J.reshape(groups, groups, MERGED_STEPS),
    )


def _tiles(
    emb_NxD: np.ndarray, artist_N: np.ndarray, *, groups: int, limit: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields where each pair counts, tile by tile; the device works on the next one meanwhile."""
    count, side = len(emb_NxD), min(TILE, len(emb_NxD))
    artist_N = artist_N.astype(np.int32)
    group_N = (artist_N.astype(np.int64) * groups // (artist_N[-1] + 1)).astype(np.int32)
    merged_K = _merged_steps(emb_NxD, limit)
    starts, pending = range(0, count, side), None
    for first, second in [(i, j) for i in starts for j in starts if i <= j]:
        sides = []
        for start in (first, second):
            # Rows beyond the end are copies, which do not count.
            row_M = np.arange(start, start + side)
            taken_M = np.minimum(row_M, count - 1)
            place_M = np.where(row_M < count, row_M, -1).astype(np.int32)
            sides.append((emb_NxD[taken_M], artist_N[taken_M], group_N[taken_M], place_M))
        tile = _tile(*sides, merged_K, STEPS / limit, groups=groups)
        if pending is not None:
            yield np.asarray(pending[0]), np.asarray(pending[1])
        pending = tile
    if pending is not None:
        yield np.asarray(pending[0]), np.asarray(pending[1])


@jax.jit(static_argnames="groups")
def _tile(row, column, merged_K, steps_per_distance, *, groups: int):
    """Where each pair of a tile counts: in all steps, and by groups in merged ones.

    What is no pair, or counted elsewhere, goes behind the last count.
    """
    (row_MxD, row_artist_M, row_group_M, row_M), (column_MxD, artist_M, group_M, column_M) = (
        row, column,
    )  # fmt: skip
    product_MxM = jnp.matmul(row_MxD, column_MxD.T, precision="highest")
    squares = jnp.square(row_MxD).sum(axis=1)[:, None] + jnp.square(column_MxD).sum(axis=1)[None]
    distance_MxM = jnp.sqrt(jnp.maximum(squares - 2 * product_MxM, 0))
    step_MxM = jnp.minimum((distance_MxM * steps_per_distance).astype(jnp.int32), STEPS - 1)
    is_pair_MxM = (row_M[:, None] < column_M[None]) & (row_M[:, None] >= 0)
    is_same_MxM = row_artist_M[:, None] == artist_M[None]
    fine_MxM = jnp.where(is_same_MxM, step_MxM, STEPS + step_MxM)
    place_MxM = jnp.where(
        is_same_MxM, row_group_M[:, None], groups + groups * row_group_M[:, None] + group_M[None]
    )
    merged_MxM = place_MxM * MERGED_STEPS + merged_K[step_MxM]
    last = (groups + groups**2) * MERGED_STEPS
    return (
        jnp.where(is_pair_MxM, fine_MxM, 2 * STEPS),
        jnp.where(is_pair_MxM, merged_MxM, last),
    )


def _merged_steps(emb_NxD: np.ndarray, limit: float) -> np.ndarray:
    """Maps each step to one of MERGED_STEPS, narrow where the nearest pairs are: int32 K."""
    rng = np.random.default_rng(0)
    distance_P = np.concatenate(
        [
            np.linalg.norm(emb_NxD[first_P] - emb_NxD[second_P], axis=1)
            for first_P, second_P in rng.integers(len(emb_NxD), size=(64, 2, SAMPLED_PAIRS // 64))
        ]
    )
    share_J = np.linspace(0, 1, MERGED_STEPS + 1)[1:-1] ** 3
    end_J = np.quantile(distance_P[distance_P > 0], share_J) if distance_P.any() else share_J
    return np.searchsorted(end_J * STEPS / limit, np.arange(STEPS)).astype(np.int32)


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


def judge(pairs: Pairs, *, replicates: int, seed: int) -> dict[str, dict[str, float]]:
    """Returns each of METRICS with its 95 % interval by bootstrap over artists.

    Each replicate draws as many artists as there are, with replacement, and counts a pair as often
    as both its artists were drawn; a pair of copies of one artist's paintings counts once a copy.
    """
    groups, rng = len(pairs.same_GxJ), np.random.default_rng(seed)
    same_GxJ = pairs.same_GxJ.astype(float)
    different_HxJ = pairs.different_GxGxJ.reshape(groups**2, -1).astype(float)
    draws: dict[str, list[float]] = {name: [] for name in METRICS}
    for start in range(0, replicates, REPLICATES_AT_ONCE):
        count = min(REPLICATES_AT_ONCE, replicates - start)
        drawn_RxG = rng.multinomial(groups, np.full(groups, 1 / groups), size=count).astype(float)
        both_RxGxG = drawn_RxG[:, :, None] * drawn_RxG[:, None]
        # Two artists of one group were drawn together.
        both_RxGxG[:, np.arange(groups), np.arange(groups)] = drawn_RxG
        different_RxJ = both_RxGxG.reshape(count, -1) @ different_HxJ
        for same_J, different_J in zip(drawn_RxG @ same_GxJ, different_RxJ, strict=True):
            if same_J.any() and different_J.any():  # Of few artists only one may be drawn.
                for name, metric in METRICS.items():
                    draws[name].append(metric(same_J, different_J))
    figures = {}
    for name, metric in METRICS.items():
        value = metric(pairs.same_K, pairs.different_K)
        # What merging the steps changed, it changed in all draws.
        merged = metric(same_GxJ.sum(axis=0), different_HxJ.sum(axis=0))
        low, high = (np.percentile(draws[name], [2.5, 97.5]) + value - merged).tolist()
        figures[name] = {"value": value, "low": low, "high": high}
    return figures


def best_threshold(pairs: Pairs) -> float:
    """Returns the distance within which calling two paintings one artist's is right most often.

    Both kinds of pairs weigh the same: it maximizes the balanced accuracy.
    """
    positive_K, negative_K = _roc(pairs.same_K, pairs.different_K)
    return float(np.argmax(positive_K - negative_K) * pairs.step)


def at_threshold(pairs: Pairs, distance: float) -> dict[str, float]:
    """Returns how calling pairs within a distance one artist's fares."""
    positive_K, negative_K = _roc(pairs.same_K, pairs.different_K)
    place = distance / pairs.step
    tpr, fpr = (float(np.interp(place, np.arange(STEPS + 1), r)) for r in (positive_K, negative_K))
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
        distance_K, same_K, different_K = _merged_shares(pairs)
        probability_K = self.probability(distance_K)
        excess_K = different_K * probability_K - same_K * (1 - probability_K)
        bin_K = np.minimum((10 * probability_K).astype(int), 9)
        return float(np.abs(np.bincount(bin_K, excess_K)).sum() / 2)


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
    counts = (pairs.same_K, pairs.different_K)
    shares = (n_K.reshape(CALIBRATION_STEPS, -1).sum(axis=1) / n_K.sum() for n_K in counts)
    width = pairs.step * STEPS / CALIBRATION_STEPS
    return (np.arange(CALIBRATION_STEPS) + 0.5) * width, *shares


def _roc(same_K: np.ndarray, different_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positive rates within each step's end, beginning with (0, 0)."""
    positive_K, negative_K = (
        np.concatenate([[0], np.cumsum(count_K)]) / count_K.sum()
        for count_K in (same_K, different_K)
    )
    return positive_K, negative_K
