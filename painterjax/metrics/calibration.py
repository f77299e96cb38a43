"""From distances to probabilities that two paintings are by one artist."""

import dataclasses

import numpy as np
import numpy.typing as npt

from painterjax.metrics.pairs import Pairs

MERGED_BINS = 4096


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Probability that two paintings are by one artist, by their distance; the prior is 1/2.

    p = 1 / (1 + exp(slope * distance - offset))
    """

    offset: float
    slope: float

    def probability(self, distance: npt.ArrayLike) -> np.ndarray:
        """Maps distances to probabilities."""
        return 1 / (1 + np.exp(np.clip(self.slope * np.asarray(distance) - self.offset, -80, 80)))

    def error(self, pairs: Pairs) -> float:
        """Returns the expected calibration error over ten bins of the probability."""
        return calibration_error(*self.reliability(pairs))

    def reliability(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the reliability diagram of pairs by one artist; both kinds weigh the same."""
        distance_M, same_M, different_M = _merged_shares(pairs)
        return reliability(self.probability(distance_M), same_M, same_M + different_M)


def reliability(
    probability_M: np.ndarray, right_M: np.ndarray, weight_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a reliability diagram, over ten bins of the probability without empty ones.

    Args:
      probability_M: what was stated.
      right_M: how much of each weight was right.
      weight_M: the weights.

    Returns:
      Of each bin the mean probability, the share that was right, and its share of all.
    """
    bin_M = np.minimum((10 * probability_M).astype(int), 9)
    weight_B, stated_B, right_B = (
        np.bincount(bin_M, values_M, minlength=10)
        for values_M in (weight_M, weight_M * probability_M, right_M)
    )
    is_full_B = weight_B > 0
    weight_B, stated_B, right_B = weight_B[is_full_B], stated_B[is_full_B], right_B[is_full_B]
    return stated_B / weight_B, right_B / weight_B, weight_B / weight_B.sum()


def calibration_error(
    probability_B: np.ndarray, share_B: np.ndarray, weight_B: np.ndarray
) -> float:
    """Returns the expected calibration error of a reliability diagram."""
    return float(np.abs(probability_B - share_B) @ weight_B)


def calibrate(pairs: Pairs) -> Calibration:
    """Fits a Calibration by logistic regression; both kinds of pairs weigh the same.

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


def _merged_shares(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances in merged bins, and the shares of pairs by one and by two artists in each."""
    seen_K = pairs.same_K + pairs.different_K > 0
    share_2xK = np.stack([n_K[seen_K] / n_K.sum() for n_K in (pairs.same_K, pairs.different_K)])
    weight_K = share_2xK.sum(axis=0)
    # Each has about as many pairs, so that a few outliers do not take most of the bins.
    merged_K = ((np.cumsum(weight_K) - weight_K / 2) * MERGED_BINS / 2).astype(int)
    begin_M = np.flatnonzero(np.diff(merged_K, prepend=-1))
    distance_M = np.add.reduceat(weight_K * pairs.middles()[seen_K], begin_M)
    same_M, different_M = np.add.reduceat(share_2xK, begin_M, axis=1)
    return distance_M / (same_M + different_M), same_M, different_M
