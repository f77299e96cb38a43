"""Retrieval from a database against plain loops and scikit-learn."""

import collections

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from painterjax.metrics import database, tiles


def _collection(*, queries: int, paintings: int, artists: int) -> tuple[np.ndarray, ...]:
    """Embeddings of queries and of a database around their artists' centers, and the artists."""
    rng = np.random.default_rng(queries)
    artist_M = rng.integers(artists, size=queries + paintings)
    center_AxD = rng.normal(size=(artists, 6))
    emb_MxD = center_AxD[artist_M] + rng.normal(size=(queries + paintings, 6))
    emb_MxD = emb_MxD.astype(np.float32)
    return emb_MxD[:queries], artist_M[:queries], emb_MxD[queries:], artist_M[queries:]


def _by_loops(query_QxD, query_artist_Q, database_NxD, database_artist_N):
    figures = collections.defaultdict(list)
    for query_D, artist in zip(query_QxD, query_artist_Q, strict=True):
        distance_N = np.linalg.norm(database_NxD.astype(float) - query_D, axis=1)
        hits = [database_artist_N[i] == artist for i in np.argsort(distance_N, kind="stable")]
        for k in (1, 10, 100):
            precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits[:k])) if hits[i]]
            figures[f"map_at_{k}"].append(sum(precisions) / max(len(precisions), 1))
            figures[f"recall_at_{k}"].append(float(any(hits[:k])))
    return figures


@pytest.mark.parametrize(
    ("queries", "paintings"),
    [
        (300, 500),  # more than one block of queries and of paintings
        (20, 60),  # fewer than 100 to rank
    ],
)
def test_queries_match_loops(queries, paintings, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 128)
    collection = _collection(queries=queries, paintings=paintings, artists=30)
    found, expected = database.retrieve(*collection), _by_loops(*collection)
    assert found.keys() == expected.keys()
    for key, value_Q in found.items():
        # Figures are rounded to float32 at the end, to 1 / 2^24 of themselves.
        np.testing.assert_allclose(value_Q, expected[key], rtol=1e-6, err_msg=key)
    assert 0 < found["map_at_1"].mean() < found["recall_at_10"].mean()


def test_equal_distances_rank_by_row_and_an_artist_not_in_the_database_is_not_found():
    """On 27 points of a grid, so that most distances are ties."""
    rng = np.random.default_rng(0)
    emb_MxD, artist_M = rng.integers(0, 3, (320, 3)).astype(np.float32), rng.integers(9, size=320)
    artist_M[0] = 9
    collection = emb_MxD[:20], artist_M[:20], emb_MxD[20:], artist_M[20:]
    found, expected = database.retrieve(*collection), _by_loops(*collection)
    for key, value_Q in found.items():
        np.testing.assert_allclose(value_Q, expected[key], rtol=1e-6, err_msg=key)
        assert value_Q[0] == 0


def test_queries_match_scikit_learn():
    """Average precision of the ranked k, which scikit-learn also divides by the hits among them.

    MAP@R, in metrics.retrieval, divides by R instead.
    """
    query_QxD, query_artist_Q, database_NxD, database_artist_N = collection = _collection(
        queries=40, paintings=200, artists=8
    )
    found = database.retrieve(*collection)
    neighbors = KNeighborsClassifier(n_neighbors=10).fit(database_NxD, database_artist_N)
    named_Q = neighbors.set_params(n_neighbors=1).predict(query_QxD)
    np.testing.assert_array_equal(found["recall_at_1"], named_Q == query_artist_Q)
    near_Qx10 = neighbors.kneighbors(query_QxD, 10, return_distance=False)
    for query, near_10 in enumerate(near_Qx10):
        hits = database_artist_N[near_10] == query_artist_Q[query]
        expected = average_precision_score(hits, -np.arange(10)) if hits.any() else 0.0
        assert found["map_at_10"][query] == pytest.approx(expected, rel=1e-6)


def test_intervals_are_over_the_queries_artists():
    artist_Q = np.repeat([0, 1, 2, 3], [1, 1, 1, 97])
    figures = database.evaluate({"map_at_1": (artist_Q == 3).astype(np.float32)}, artist_Q)
    figure = figures["map_at_1"]
    assert figure["value"] == pytest.approx(0.97)
    # The artist with nearly all queries is left out of a third of the draws.
    assert (figure["low"], figure["high"]) == (0, pytest.approx(1, abs=0.02))
