"""The flat map, also of embeddings that have nothing to map."""

import numpy as np
import pytest

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
