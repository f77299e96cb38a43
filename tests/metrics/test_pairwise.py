"""Squared distances of more embeddings than a compiler treats in one piece."""

import jax
import numpy as np

from painterjax.distributed import compilation
from painterjax.metrics import pairwise


def test_distances_among_many_embeddings_are_those_of_numpy():
    emb_NxD = np.random.default_rng(0).normal(size=(40_000, 3)).astype(np.float32)
    centered, row_P = pairwise.center(emb_NxD), np.array([0, 20_000, 39_999])
    with jax.enable_x64(True):
        square_PxN = np.asarray(compilation.jit(pairwise.squares)(centered, row_P))
    emb_NxD = emb_NxD.astype(np.float64) / centered.unit
    expected_PxN = np.square(emb_NxD[row_P][:, None] - emb_NxD[None]).sum(axis=2)
    # The result is rounded to float32, by at most 2^-24 of itself.
    np.testing.assert_allclose(square_PxN, expected_PxN, rtol=2**-23, atol=0)
    length_N = np.square(emb_NxD - np.median(emb_NxD[::40], axis=0)[None]).sum(axis=1)
    np.testing.assert_allclose(np.asarray(centered.square_N), length_N, rtol=1e-12)
