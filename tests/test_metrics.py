"""Metrics against scikit-learn, plain loops and tables checked by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from painterjax import metrics


@pytest.mark.parametrize("seed", range(5))
def test_roc_auc_is_scikit_learn_s(seed):
    rng = np.random.default_rng(seed)
    # Rounded, so that many distances are equal.
    positive_T, negative_T = rng.normal(0, 1, 300).round(1), rng.normal(0.7, 1, 200).round(1)
    label = np.repeat((1, 0), (300, 200))
    expected = roc_auc_score(label, -np.concatenate([positive_T, negative_T]))
    assert 0.6 < expected < 0.8
    assert metrics.roc_auc(positive_T, negative_T) == pytest.approx(expected, abs=1e-12)


def test_triplet_metrics_on_a_table_checked_by_hand():
    positive_T = np.array([1.0, 4.0, 2.0, 2.0, 5.0])
    negative_T = np.array([2.0, 3.0, 2.0, 9.0, 1.0])
    assert metrics.triplet_accuracy(positive_T, negative_T) == 2 / 5
    # Sums of two: 5 < 5 is wrong, 4 < 11 is right, and the last alone, 5 < 1, is wrong.
    assert metrics.mean_of_two_accuracy(positive_T, negative_T) == pytest.approx(1 / 3)


def _collection(seed: int, count_A) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around their artists' centers."""
    rng = np.random.default_rng(seed)
    artist_N = np.repeat(np.arange(len(count_A)), count_A)
    centers = rng.normal(size=(len(count_A), 6))
    return (centers[artist_N] + rng.normal(size=(len(artist_N), 6))).astype(np.float32), artist_N


def _retrieval_by_loops(emb_NxD: np.ndarray, artist_N: np.ndarray) -> list[tuple[float, float]]:
    figures = []
    for query in range(len(emb_NxD)):
        distance_N = np.linalg.norm(emb_NxD.astype(float) - emb_NxD[query], axis=1)
        ranked = [i for i in np.argsort(distance_N, kind="stable") if i != query]
        hits = [artist_N[i] == artist_N[query] for i in ranked]
        relevant = sum(hits)
        precision = [sum(hits[: k + 1]) / (k + 1) * hits[k] for k in range(relevant)]
        figures.append((float(hits[0]), sum(precision) / relevant if relevant else np.nan))
    return figures


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_is_that_of_plain_loops(seed):
    count_A = np.random.default_rng(seed).integers(1, 20, 40)  # more than one block of queries
    emb_NxD, artist_N = _collection(seed, count_A)
    assert len(emb_NxD) > metrics.QUERY_BLOCK
    recall_N, precision_N = metrics.retrieval(emb_NxD, artist_N)
    expected_Nx2 = np.array(_retrieval_by_loops(emb_NxD, artist_N))
    lonely_N = (count_A == 1)[artist_N]
    assert lonely_N.any()
    assert np.isnan(recall_N[lonely_N]).all()
    np.testing.assert_array_equal(recall_N[~lonely_N], expected_Nx2[~lonely_N, 0])
    np.testing.assert_allclose(precision_N, expected_Nx2[:, 1], rtol=1e-6)
    assert 0.05 < np.nanmean(precision_N) < 0.6


def test_recall_at_1_is_scikit_learn_s_nearest_neighbor():
    emb_NxD, artist_N = _collection(0, [12] * 30)
    recall_N, _ = metrics.retrieval(emb_NxD, artist_N)
    nearest = KNeighborsClassifier(n_neighbors=2).fit(emb_NxD, artist_N)
    neighbor_N = nearest.kneighbors(emb_NxD, return_distance=False)[:, 1]
    np.testing.assert_array_equal(recall_N, artist_N[neighbor_N] == artist_N)


def test_ap_at_r_is_scikit_learn_s_average_precision_of_the_first_r():
    """Where all R paintings by the artist are the nearest R or beyond, both count the same."""
    emb_NxD, artist_N = _collection(1, [5] * 10)
    _, precision_N = metrics.retrieval(emb_NxD, artist_N)
    for query in range(len(emb_NxD)):
        distance_N = np.linalg.norm(emb_NxD - emb_NxD[query], axis=1)
        nearest = np.argsort(distance_N)[1:5]
        hits = artist_N[nearest] == artist_N[query]
        expected = average_precision_score(hits, -distance_N[nearest]) if hits.any() else 0.0
        # scikit-learn divides by the hits among the first R, AP@R by R.
        assert precision_N[query] == pytest.approx(expected * hits.sum() / 4, rel=1e-6)


def test_near_duplicates_far_from_the_origin_are_told_apart():
    emb_NxD = np.full((4, 8), 1000.0, np.float32)
    emb_NxD[:, 0] += (0.0, 0.01, 1.0, 1.02)
    recall_N, precision_N = metrics.retrieval(emb_NxD, np.array([0, 0, 1, 1]))
    assert recall_N.tolist() == precision_N.tolist() == [1, 1, 1, 1]


def test_interval_holds_the_value_and_narrows_with_more_artists():
    widths = []
    for artists in (20, 2000):
        rng = np.random.default_rng(0)
        artist_N = np.repeat(np.arange(artists), 4)
        value_N = (rng.normal(size=artists)[artist_N] + rng.normal(size=4 * artists)).round(3)
        interval = metrics.interval(
            lambda x: float(x.mean()), artist_N, value_N, replicates=500, seed=0
        )
        assert interval["low"] < interval["value"] < interval["high"]
        widths.append(interval["high"] - interval["low"])
    # The standard error of a mean of 2000 artists: sqrt((1 + 1 / 4) / 2000), 1.96 to each side.
    assert widths[1] == pytest.approx(2 * 1.96 * (1.25 / 2000) ** 0.5, rel=0.1)
    assert widths[0] > 5 * widths[1]


def test_interval_depends_on_its_seed_alone():
    emb_N, artist_N = np.arange(12.0) % 5, np.repeat(np.arange(4), 3)
    draw = [
        metrics.interval(lambda x: float(x.mean()), artist_N, emb_N, replicates=50, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert draw[0] == draw[1]
    assert draw[0] != draw[2]
