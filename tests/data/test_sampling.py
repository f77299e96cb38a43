"""Sampling: what every batch holds, over many random splits."""

import time

import numpy as np
import pytest

from painterjax.common.errors import InputError
from painterjax.data import sampling

SEEDS = range(20)


def _random_split(seed: int) -> tuple[np.ndarray, sampling.ArtistRows]:
    """A split of 2 to 30 artists with 1 to 12 paintings, the first with at least two."""
    rng = np.random.default_rng(seed)
    count_A = rng.integers(1, 13, rng.integers(2, 31))
    count_A[0] += 1
    artist_N = np.repeat(np.arange(len(count_A)), count_A)
    return artist_N, sampling.artist_rows(artist_N)


@pytest.mark.parametrize("seed", SEEDS)
def test_triplets_hold_two_paintings_by_one_artist_and_one_by_another(seed):
    artist_N, artists = _random_split(seed)
    row_Bx3 = sampling.triplets(artists, batch_size=500, seed=seed, index=3)
    anchor_B, positive_B, negative_B = artist_N[row_Bx3].T
    assert row_Bx3.shape == (500, 3)
    assert (anchor_B == positive_B).all()
    assert (row_Bx3[:, 0] != row_Bx3[:, 1]).all()
    assert (anchor_B != negative_B).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_pairs_are_by_one_artist_or_by_two(seed):
    artist_N, artists = _random_split(seed)
    row_Bx2 = sampling.pairs(artists, batch_size=2000, seed=seed, index=3)
    different_B = artist_N[row_Bx2[:, 0]] != artist_N[row_Bx2[:, 1]]
    assert (row_Bx2[:, 0] != row_Bx2[:, 1]).all()
    assert 0.45 < different_B.mean() < 0.55  # 4.5 standard deviations


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_hold_different_artists_and_as_many_different_paintings_as_there_are(seed):
    artist_N, artists = _random_split(seed)
    batch_size = len(artists.several)
    row_PxK = sampling.artists_by_paintings(
        artists, batch_size=batch_size, paintings=4, seed=seed, index=3
    )
    artist_PxK = artist_N[row_PxK]
    assert (artist_PxK == artist_PxK[:, :1]).all()
    assert len(set(artist_PxK[:, 0])) == batch_size
    for row_K, artist in zip(row_PxK, artist_PxK[:, 0], strict=True):
        assert len(set(row_K)) == min(4, artists.count_A[artist])


def test_artists_and_their_paintings_are_drawn_uniformly():
    """Chi-squared of 3 degrees of freedom, and of 9: beyond 25 and 40 once in 50,000 times."""
    artist_N = np.repeat(np.arange(4), (2, 3, 5, 90))
    artists = sampling.artist_rows(artist_N)
    row_Bx3 = sampling.triplets(artists, batch_size=40_000, seed=0, index=0)
    for column_B in row_Bx3.T:
        artist_A = np.bincount(artist_N[column_B], minlength=4)
        assert ((artist_A - 10_000) ** 2 / 10_000).sum() < 25
        work_M = np.bincount(column_B, minlength=100)[:10]
        expected_M = 10_000 / np.repeat((2, 3, 5), (2, 3, 5))
        assert ((work_M - expected_M) ** 2 / expected_M).sum() < 40


@pytest.mark.parametrize("sample", [sampling.triplets, sampling.pairs])
def test_a_batch_depends_on_seed_and_index_alone(sample):
    _, artists = _random_split(0)
    batches = [
        sample(artists, batch_size=16, seed=seed, index=index).tolist()
        for seed, index in [(0, 0), (0, 1), (1, 0), (0, 0)]
    ]
    assert batches[0] == batches[3]
    assert batches[0] != batches[1] != batches[2] != batches[0]


def test_an_artist_with_one_painting_is_a_negative_only():
    artists = sampling.artist_rows(np.array([0, 0, 0, 1]))
    row_Bx3 = sampling.triplets(artists, batch_size=100, seed=0, index=0)
    assert (row_Bx3[:, 2] == 3).all()
    assert row_Bx3[:, :2].max() == 2


@pytest.mark.parametrize("artist_N", [[], [0, 0, 0], [0, 1, 2]])
def test_nothing_to_compare_is_refused(artist_N):
    with pytest.raises(InputError, match="tuples need two artists"):
        sampling.artist_rows(np.array(artist_N, np.int32))


def test_more_artists_than_there_are_is_refused():
    artists = sampling.artist_rows(np.array([0, 0, 1, 1, 2]))
    with pytest.raises(InputError, match="batch_size 3 artists, but only 2 have two paintings"):
        sampling.artists_by_paintings(artists, batch_size=3, paintings=2, seed=0, index=0)
    with pytest.raises(InputError, match="batch_size 4 artists, but only 3 are in this split"):
        sampling.artists_by_paintings(artists, batch_size=4, paintings=1, seed=0, index=0)


def test_one_painting_by_each_is_drawn_from_all_artists():
    artists = sampling.artist_rows(np.array([0, 0, 1, 1, 2]))
    row_Px1 = sampling.artists_by_paintings(artists, batch_size=3, paintings=1, seed=0, index=0)
    assert sorted(np.array([0, 0, 1, 1, 2])[row_Px1[:, 0]]) == [0, 1, 2]


def test_a_batch_costs_little():
    """Measured: 28 million triplets/s of a thread's own time, which other programs take none of."""
    artists = sampling.artist_rows(np.repeat(np.arange(1352), 54))
    start = time.thread_time()
    for index in range(20):
        sampling.triplets(artists, batch_size=10_000, seed=0, index=index)
    assert 200_000 / (time.thread_time() - start) > 5_000_000
