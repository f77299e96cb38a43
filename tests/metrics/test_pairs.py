"""Metrics of all pairs against scikit-learn and loops; calibration against known odds."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from painterjax.metrics import histogram, pairs, tiles
from painterjax.metrics.bootstrap import pair_intervals
from painterjax.metrics.calibration import Calibration, calibrate
from painterjax.metrics.pairs import (
    Pairs,
    at_threshold,
    best_threshold,
    count_pairs,
    equal_error_rate,
    pair_roc_auc,
    true_positive_rate,
)

# The widest bins span 2^-11 of a squared distance, 2^-12 of a distance.
BIN = 2**-12


def _collection(seed: int, count_A, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around their artists' centers."""
    rng = np.random.default_rng(seed)
    artist_N = np.repeat(np.arange(len(count_A)), count_A)
    centers = rng.normal(size=(len(count_A), dim))
    noise_NxD = rng.normal(size=(len(artist_N), dim))
    return (centers[artist_N] + noise_NxD).astype(np.float32), artist_N


def _by_loops(emb_NxD: np.ndarray, artist_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair's distance, and whether it is by one artist."""
    pairs = list(itertools.combinations(range(len(emb_NxD)), 2))
    distance_P = [float(np.linalg.norm(emb_NxD[i].astype(float) - emb_NxD[j])) for i, j in pairs]
    return np.array(distance_P), np.array([artist_N[i] == artist_N[j] for i, j in pairs])


def _auc_error(pairs: Pairs, distance_P: np.ndarray, is_same_P: np.ndarray) -> float:
    """A bound on the error of the ROC AUC: rounding moves a pair to the next bin at most.

    Of all comparisons of a pair by one artist with a pair by two, the share of those that lie
    within a bin of each other and are no ties.
    """
    near = pairs.same_K @ np.convolve(pairs.different_K, [1, 1, 1], mode="same")
    value_P, kinds = np.unique(distance_P, return_inverse=True)[1], (is_same_P, ~is_same_P)
    same_P, different_P = (np.bincount(value_P[is_P], minlength=len(value_P)) for is_P in kinds)
    return float(near - same_P @ different_P) / (is_same_P.sum() * (~is_same_P).sum())


@pytest.fixture(scope="module", params=[0, 1])
def case(request) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Counts of pairs, and the distance and kind of each pair by loops."""
    count_A = np.random.default_rng(request.param).integers(1, 12, 30)
    emb_NxD, artist_N = _collection(request.param, count_A)
    return count_pairs(emb_NxD, artist_N), *_by_loops(emb_NxD, artist_N)


def test_every_pair_is_counted_once(case):
    pairs, distance_P, is_same_P = case
    assert pairs.same_K.sum() == pairs.same_GxJ.sum() == is_same_P.sum()
    assert pairs.different_K.sum() == pairs.different_GxGxJ.sum() == (~is_same_P).sum()
    mean = pairs.middles() @ pairs.same_K / pairs.same_K.sum()
    assert mean == pytest.approx(distance_P[is_same_P].mean(), rel=BIN)


def test_roc_auc_matches_scikit_learn(case):
    pairs, distance_P, is_same_P = case
    expected = roc_auc_score(is_same_P, -distance_P)
    assert 0.6 < expected < 0.95
    error = _auc_error(pairs, distance_P, is_same_P)
    assert error < 1e-5
    assert pair_roc_auc(pairs.same_K, pairs.different_K) == pytest.approx(expected, abs=error)


def test_rates_match_scikit_learn(case):
    pairs, distance_P, is_same_P = case
    counts = pairs.same_K, pairs.different_K
    few = (pairs.same_K.max() + 1) / is_same_P.sum()  # the pairs of a bin, and one of the next
    assert few < 0.01
    negative_K, positive_K, _ = roc_curve(is_same_P, -distance_P, drop_intermediate=False)
    for rate in (0.001, 0.01, 0.1, 0.5):
        expected = np.interp(rate, negative_K, positive_K)
        ours = true_positive_rate(*counts, false_positive_rate=rate)
        assert ours == pytest.approx(expected, abs=few)
    crossing = np.argmin(np.abs(negative_K - (1 - positive_K)))
    assert equal_error_rate(*counts) == pytest.approx(negative_K[crossing], abs=few)


def test_the_best_threshold_matches_a_search(case):
    pairs, distance_P, is_same_P = case
    at = at_threshold(pairs, best_threshold(pairs))

    def accuracy(threshold: float) -> float:
        within_P = distance_P < threshold
        return (within_P[is_same_P].mean() + (~within_P)[~is_same_P].mean()) / 2

    best = max(accuracy(threshold) for threshold in distance_P)
    pair = 1 / is_same_P.sum()  # may round into the next bin
    assert at["balanced_accuracy"] == pytest.approx(best, abs=pair)
    assert at["balanced_accuracy"] == pytest.approx(accuracy(at["distance"]), abs=pair)


def test_tiles_and_groups_count_the_same_pairs(monkeypatch):
    emb_NxD, artist_N = _collection(3, [2, 3] * 20)
    whole = count_pairs(emb_NxD, artist_N)
    monkeypatch.setattr(tiles, "TILE", 32)  # 100 paintings: the last tile is not full.
    monkeypatch.setattr(pairs, "GROUPS", 16)
    tiled = count_pairs(emb_NxD, artist_N)
    assert len(tiled.same_GxJ) == 16
    assert tiled.different_GxGxJ.sum() == whole.different_K.sum()
    # Products of other shapes round in another way: a pair may fall into the next bin.
    for kind in ("same_K", "different_K"):
        ours_P, expected_P = (
            np.repeat(whole.middles(), getattr(counts, kind)) for counts in (tiled, whole)
        )
        np.testing.assert_allclose(ours_P, expected_P, rtol=BIN)


def test_intervals_match_resampling_of_artists():
    emb_NxD, artist_N = _collection(0, [6] * 12)
    figures = pair_intervals(count_pairs(emb_NxD, artist_N), replicates=400, seed=0)
    distance_P, is_same_P = _by_loops(emb_NxD, artist_N)
    first_P, second_P = np.array(list(itertools.combinations(artist_N, 2))).T
    rng, draws = np.random.default_rng(1), []
    for _ in range(400):
        drawn_A = np.bincount(rng.integers(12, size=12), minlength=12)
        weight_P = np.where(is_same_P, drawn_A[first_P], drawn_A[first_P] * drawn_A[second_P])
        draws.append(roc_auc_score(is_same_P, -distance_P, sample_weight=weight_P))
    low, high = np.percentile(draws, [2.5, 97.5])
    ours = figures["pair_roc_auc"]
    # An end by 400 draws has a standard error of 3.4 % of the interval: three of two such.
    assert ours["low"] == pytest.approx(low, abs=0.15 * (high - low))
    assert ours["high"] == pytest.approx(high, abs=0.15 * (high - low))
    assert low < ours["value"] < high


def test_intervals_of_rates_are_within_0_and_1():
    # The correction for coarse bins would take one of these below 0.
    pairs = count_pairs(*_collection(1, [8] * 4))
    for figure in pair_intervals(pairs, replicates=50, seed=0).values():
        assert 0 <= figure["low"] <= figure["high"] <= 1


def test_calibration_finds_the_odds_of_sampled_pairs():
    """Distances are uniform; whether a pair is by one artist is drawn with known odds."""
    rng = np.random.default_rng(0)
    truth = Calibration(offset=3.0, slope=4.0)
    distance_P = rng.uniform(0, 2, 400_000)
    is_same_P = rng.random(len(distance_P)) < truth.probability(distance_P)
    bin_P = (distance_P / 2.0 * histogram.BINS).astype(int)
    same_K, different_K = (
        np.bincount(bin_P[is_P], minlength=histogram.BINS) for is_P in (is_same_P, ~is_same_P)
    )
    edge_E = np.linspace(0, 2, histogram.BINS + 1)
    pairs = Pairs(same_K, different_K, edge_E, *[np.zeros(0)] * 4)
    found = calibrate(pairs)
    # Both kinds weigh the same, whatever their numbers: that moves the offset alone.
    odds = np.log((~is_same_P).sum() / is_same_P.sum())
    # So many pairs tell both to 0.3 %.
    assert found.slope == pytest.approx(4.0, rel=0.02)
    assert found.offset == pytest.approx(3.0 + odds, rel=0.02)
    assert found.error(pairs) < 0.01
    assert Calibration(offset=0.0, slope=4.0).error(pairs) > 0.2


def test_equal_embeddings_have_a_roc_auc_of_one_half():
    pairs = count_pairs(np.ones((6, 3), np.float32), np.array([0, 0, 0, 1, 1, 1]))
    assert pair_roc_auc(pairs.same_K, pairs.different_K) == 0.5
    assert equal_error_rate(pairs.same_K, pairs.different_K) == 0.5


def test_a_collection_of_millions_of_pairs_takes_bounded_memory():
    """5,000 paintings, 12.5 million pairs: arrays of all of them would take hundreds of MB."""
    import tracemalloc

    emb_NxD, artist_N = _collection(0, [50] * 100, dim=16)
    tracemalloc.start()
    pairs = count_pairs(emb_NxD, artist_N)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pairs.same_K.sum() + pairs.different_K.sum() == 5000 * 4999 // 2
    assert peak < 250e6


def test_extreme_distances_have_finite_probabilities():
    calibration = Calibration(offset=4.0, slope=1000.0)
    probability_2 = calibration.probability(np.array([0.0, 1e6], np.float32))
    assert probability_2[0] == pytest.approx(1 / (1 + np.exp(-4)))
    assert 0 <= probability_2[1] < 1e-30


def _moved(emb_NxD: np.ndarray, how: str) -> np.ndarray:
    """Embeddings that are hard for float32."""
    moved_NxD = emb_NxD.copy()
    if how == "one far out":
        moved_NxD[7] = 1e5
    elif how == "half of them far out":
        moved_NxD[: len(emb_NxD) // 2] += np.float32(1e4)
    elif how == "far from the origin":
        moved_NxD += np.float32(1e4)
    elif how == "one at 1e25":
        moved_NxD[7] = 1e25
    else:
        moved_NxD *= np.float32(how)
    return moved_NxD


@pytest.mark.parametrize(
    "how",
    ["one far out", "half of them far out", "far from the origin", "one at 1e25", "1e25", "1e-25"],
)
def test_vectors_far_out_and_of_any_scale_are_judged_as_scikit_learn_does(how):
    emb_NxD, artist_N = _collection(4, [10] * 12)
    emb_NxD = _moved(emb_NxD, how)
    pairs = count_pairs(emb_NxD, artist_N)
    distance_P, is_same_P = _by_loops(emb_NxD, artist_N)
    expected = roc_auc_score(is_same_P, -distance_P)
    assert 0.55 < expected < 0.99
    counts = pairs.same_K, pairs.different_K
    error = _auc_error(pairs, distance_P, is_same_P)
    assert error < 1e-5
    assert pair_roc_auc(*counts) == pytest.approx(expected, abs=error)
    nearest = int(counts[0].nonzero()[0][0])
    assert pairs.middles()[nearest] == pytest.approx(distance_P[is_same_P].min(), rel=BIN)


def test_one_outlier_does_not_change_the_calibration():
    emb_NxD, artist_N = _collection(4, [10] * 12)
    expected = calibrate(count_pairs(emb_NxD, artist_N))
    # By an artist of its own, so that only pairs by two artists are far apart.
    emb_NxD = np.concatenate([emb_NxD, np.full((1, 6), 1e5, np.float32)])
    pairs = count_pairs(emb_NxD, np.append(artist_N, 12))
    found = calibrate(pairs)
    # Of the pairs by two artists 120 in 6,720 are new: 2 %.
    assert found.slope == pytest.approx(expected.slope, rel=0.1)
    assert found.offset == pytest.approx(expected.offset, rel=0.1)
    assert found.error(pairs) < 0.05


def test_copies_far_from_the_median_are_at_distance_0():
    rng = np.random.default_rng(0)
    emb_NxD = np.repeat(rng.normal(scale=1e3, size=(8, 300)).astype(np.float32), 5, axis=0)
    artist_N = np.arange(40) // 10
    pairs = count_pairs(emb_NxD, artist_N)
    assert pairs.same_K[0] == 8 * 10
    assert pairs.different_K[0] == 0
