"""Squared distances of more embeddings than a compiler treats in one piece, and what uses them."""

import jax
import numpy as np
import pytest

from painterjax.distributed import compilation
from painterjax.metrics import pairs, pairwise, retrieval, tiles
from painterjax.metrics.tiles import Comparisons

# Some of the compiler's own sums are wrong from row 16,385 or 32,769 on: see test_compilation.py.
ROWS, FEATURES, PER_ARTIST = 33_100, 64, 100


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    """Embeddings around their artists' centers, all far from the origin."""
    rng = np.random.default_rng(0)
    center_AxD = rng.normal(10, 1, (ROWS // PER_ARTIST, FEATURES))
    noise_NxD = rng.normal(size=(ROWS, FEATURES))
    return (np.repeat(center_AxD, PER_ARTIST, axis=0) + noise_NxD).astype(np.float32)


def test_distances_among_many_embeddings_are_those_of_numpy():
    emb_NxD = np.random.default_rng(0).normal(size=(40_000, 3)).astype(np.float32)
    scale, row_P = pairwise.scale_of(emb_NxD), np.array([0, 20_000, 39_999])
    with jax.enable_x64(True):
        square_PxN = compilation.jit(pairwise.squares)(scale, emb_NxD[row_P], emb_NxD)
    emb_NxD = emb_NxD.astype(np.float64) / scale.unit
    expected_PxN = np.square(emb_NxD[row_P][:, None] - emb_NxD[None]).sum(axis=2)
    # The result is rounded to float32, by at most 2^-24 of itself.
    np.testing.assert_allclose(np.asarray(square_PxN), expected_PxN, rtol=2**-23, atol=0)


@pytest.mark.parametrize("database", [0, 33_000])
def test_neighbors_among_many_are_those_of_numpy(embeddings, database):
    """A block of queries: the first rows among all others, or the last in a database."""
    emb_NxD = embeddings
    row_Q, nearest_Qx20 = next(retrieval.nearest(emb_NxD, 20, database=database))
    for query in (0, len(row_Q) // 2, len(row_Q) - 1):
        row, nearest_20 = row_Q[query], nearest_Qx20[query]
        distance_N = np.linalg.norm(emb_NxD.astype(np.float64) - emb_NxD[row], axis=1)
        others_N = np.delete(distance_N, row) if not database else distance_N[:database]
        assert len({row, *nearest_20}) == 21
        # Squares become float32: those within 2^-23 of each other may be equal, and change places.
        found_20, expected_20 = distance_N[nearest_20], np.sort(others_N)[:20]
        np.testing.assert_allclose(found_20, expected_20, rtol=2**-23, atol=0)


def test_pairs_among_many_are_those_of_numpy(embeddings, monkeypatch):
    """Of all 153 tiles those of the last rows with the first ones and with themselves."""
    emb_NxD = embeddings
    artist_N, last = np.arange(ROWS) // PER_ARTIST, ROWS // tiles.TILE
    counted_tiles = [(0, last), (last, last)]
    monkeypatch.setattr(Comparisons, "tiles", counted_tiles)
    counted = pairs.count_pairs(emb_NxD, artist_N)
    row_P, column_P = np.concatenate(
        [_pairs_of_tile(*(tiles.TILE * block for block in tile)) for tile in counted_tiles], axis=1
    )
    is_same_P = artist_N[row_P] == artist_N[column_P]
    distance_P = np.concatenate([
        np.linalg.norm(emb_NxD[rows].astype(np.float64) - emb_NxD[columns], axis=1)
        for rows, columns in zip(*(np.array_split(x, 50) for x in (row_P, column_P)), strict=True)
    ])  # fmt: skip
    for count_K, is_P in ((counted.same_K, is_same_P), (counted.different_K, ~is_same_P)):
        assert is_P.sum() > 10_000
        # A bin spans 2^-12 of a distance at most, and its middle is within half of that.
        found_P = np.repeat(counted.middles(), count_K)
        np.testing.assert_allclose(found_P, np.sort(distance_P[is_P]), rtol=2**-12, atol=0)
    row_N = np.bincount(np.concatenate([row_P, column_P]), minlength=ROWS)
    counted_NxJ = counted.same_QxJ + counted.different_QxJ
    np.testing.assert_array_equal(counted_NxJ.sum(axis=1), row_N)


def _pairs_of_tile(first: int, second: int) -> np.ndarray:
    """The two rows of each pair of a tile, 2 x P."""
    row_2xM = first + np.arange(tiles.TILE), np.arange(second, min(second + tiles.TILE, ROWS))
    row_2xP = np.stack([x.ravel() for x in np.meshgrid(*row_2xM)])
    return row_2xP[:, row_2xP[0] < row_2xP[1]]
