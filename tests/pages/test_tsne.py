"""The flat map, also of embeddings that have nothing to map."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from painterjax.pages import tsne


def test_equal_embeddings_and_a_single_one_are_at_one_place():
    for emb_NxD in (np.ones((20, 4), np.float32), np.ones((1, 4), np.float32)):
        row_M, place_Mx2 = tsne.places(emb_NxD)
        assert row_M.tolist() == list(range(len(emb_NxD)))
        assert not np.ptp(place_Mx2, axis=0).any()


@pytest.mark.parametrize(("count", "dim", "scale"), [(2, 4, 1), (3, 4, 1e-25), (20, 1, 1e25)])
def test_few_numbers_and_any_scale_are_mapped(count, dim, scale):
    emb_NxD = (scale * np.random.default_rng(0).normal(size=(count, dim))).astype(np.float32)
    _, place_Mx2 = tsne.places(emb_NxD)
    assert np.isfinite(place_Mx2).all()
    assert len(np.unique(place_Mx2, axis=0)) == count


def test_two_clusters_are_apart():
    emb_NxD = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    emb_NxD[20:] += 20
    _, place_Mx2 = tsne.places(emb_NxD)
    near, far = (np.linalg.norm(place_Mx2[1:20] - place_Mx2[i], axis=1) for i in (0, 30))
    assert near.max() < far.min()


def test_all_of_a_large_collection_are_placed_beside_their_like(monkeypatch):
    monkeypatch.setattr(tsne, "PLACED", 60)
    monkeypatch.setattr(tsne, "PAINTINGS", 40)  # The others take the Barnes-Hut method.
    group_N = np.arange(200) % 2
    emb_NxD = np.random.default_rng(0).normal(size=(200, 4)) + 20.0 * group_N[:, None]
    place_Nx2 = tsne.places_of_all(emb_NxD.astype(np.float32))
    np.testing.assert_array_equal(place_Nx2, tsne.places_of_all(emb_NxD.astype(np.float32)))
    assert (place_Nx2.min(), place_Nx2.max()) == (0, 1)
    nearest = NearestNeighbors(n_neighbors=2).fit(place_Nx2).kneighbors(place_Nx2)[1][:, 1]
    assert (group_N[nearest] == group_N).mean() > 0.95
    same = tsne.places_of_all(np.ones((5, 3), np.float32))
    np.testing.assert_array_equal(same, np.full((5, 2), 0.5))
