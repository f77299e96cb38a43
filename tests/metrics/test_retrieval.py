"""Retrieval against scikit-learn and loops."""

import collections

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from painterjax.metrics import retrieval, tiles


def _collection(seed: int, count_A) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around their artists' centers."""
    rng = np.random.default_rng(seed)
    artist_N = np.repeat(np.arange(len(count_A)), count_A)
    centers = rng.normal(size=(len(count_A), 6))
    return (centers[artist_N] + rng.normal(size=(len(artist_N), 6))).astype(np.float32), artist_N


def _by_loops(emb_NxD: np.ndarray, artist_N: np.ndarray) -> dict[str, list[float]]:
    figures = collections.defaultdict(list)
    for query in range(len(emb_NxD)):
        distance_N = np.linalg.norm(emb_NxD.astype(float) - emb_NxD[query], axis=1)
        ranked = [i for i in np.argsort(distance_N, kind="stable") if i != query]
        hits = [artist_N[i] == artist_N[query] for i in ranked]
        relevant = sum(hits)
        precision = [sum(hits[: k + 1]) / (k + 1) * hits[k] for k in range(relevant)]
        for k in retrieval.RECALL_AT:
            figures[f"recall_at_{k}"].append(float(any(hits[:k])) if relevant else np.nan)
        figures["r_precision"].append(sum(hits[:relevant]) / relevant if relevant else np.nan)
        figures["map_at_r"].append(sum(precision) / relevant if relevant else np.nan)
    return figures


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_matches_loops(seed, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 64)  # The last block is not full.
    count_A = np.random.default_rng(seed).integers(1, 20, 40)
    emb_NxD, artist_N = _collection(seed, count_A)
    assert len(emb_NxD) > 4 * tiles.TILE
    figures, expected = retrieval.retrieval(emb_NxD, artist_N), _by_loops(emb_NxD, artist_N)
    assert figures.keys() == expected.keys()
    lonely_N = (count_A == 1)[artist_N]
    assert lonely_N.any()
    for key, value_N in figures.items():
        # Figures are rounded to float32 at the end, to 1 / 2^24 of themselves.
        np.testing.assert_allclose(value_N, expected[key], rtol=1e-6, err_msg=key)
        assert np.isnan(value_N[lonely_N]).all()
    assert 0.05 < np.nanmean(figures["map_at_r"]) < 0.6


def test_equal_distances_rank_by_row(monkeypatch):
    """300 paintings on 27 points of a grid, so that most distances are ties."""
    monkeypatch.setattr(tiles, "TILE", 128)
    emb_NxD = np.random.default_rng(0).integers(0, 3, (300, 3)).astype(np.float32)
    artist_N = np.repeat(np.arange(60), 5)
    figures, expected = retrieval.retrieval(emb_NxD, artist_N), _by_loops(emb_NxD, artist_N)
    for key, value_N in figures.items():
        np.testing.assert_allclose(value_N, expected[key], rtol=1e-6, err_msg=key)
    assert 0 < np.mean(expected["map_at_r"]) < 0.2


def test_recall_at_1_matches_scikit_learn():
    emb_NxD, artist_N = _collection(0, [12] * 30)
    recall_N = retrieval.retrieval(emb_NxD, artist_N)["recall_at_1"]
    nearest = KNeighborsClassifier(n_neighbors=2).fit(emb_NxD, artist_N)
    neighbor_N = nearest.kneighbors(emb_NxD, return_distance=False)[:, 1]
    np.testing.assert_array_equal(recall_N, artist_N[neighbor_N] == artist_N)


def test_map_at_r_matches_scikit_learn_s_average_precision():
    """Average precision of the nearest R; scikit-learn divides by the hits among them, not by R."""
    emb_NxD, artist_N = _collection(1, [5] * 10)
    precision_N = retrieval.retrieval(emb_NxD, artist_N)["map_at_r"]
    for query in range(len(emb_NxD)):
        distance_N = np.linalg.norm(emb_NxD - emb_NxD[query], axis=1)
        nearest = np.argsort(distance_N)[1:5]
        hits = artist_N[nearest] == artist_N[query]
        expected = average_precision_score(hits, -distance_N[nearest]) if hits.any() else 0.0
        assert precision_N[query] == pytest.approx(expected * hits.sum() / 4, rel=1e-6)


def test_near_duplicates_far_from_the_origin_are_told_apart():
    emb_NxD = np.full((4, 8), 1000.0, np.float32)
    emb_NxD[:, 0] += (0.0, 0.01, 1.0, 1.02)
    figures = retrieval.retrieval(emb_NxD, np.array([0, 0, 1, 1]))
    assert all(value_N.tolist() == [1, 1, 1, 1] for value_N in figures.values())


@pytest.mark.parametrize("far", [1e5, 1e25])
def test_one_vector_far_out_does_not_change_what_is_near_to_others(far):
    emb_NxD, artist_N = _collection(2, [8] * 12)
    emb_NxD[5] = far
    figures, expected = retrieval.retrieval(emb_NxD, artist_N), _by_loops(emb_NxD, artist_N)
    for key, value_N in figures.items():
        np.testing.assert_allclose(value_N, expected[key], rtol=1e-6, err_msg=key)
