"""Samplers: draws are uniform, and what cannot be drawn is refused; see also test_properties.py."""

import time

import numpy as np
import pytest

from painterjax.common.errors import InputError
from painterjax.data import sampling

# Artist 2 can only be a negative.
FEW = sampling.artist_rows(np.array([0, 0, 0, 1, 1, 2]))


@pytest.mark.parametrize("batch_size", [8, 40_000])
def test_artists_and_their_paintings_are_drawn_uniformly(batch_size):
    """Chi-squared of 3 degrees of freedom, and of 9: beyond 25 and 40 once in 50,000 times."""
    artist_N = np.repeat(np.arange(4), (2, 3, 5, 90))
    artists = sampling.artist_rows(artist_N)
    batches = [
        sampling.triplets(artists, batch_size=batch_size, seed=0, index=index)
        for index in range(40_000 // batch_size)
    ]
    row_Bx3 = np.concatenate(batches)
    for column_B in row_Bx3.T:
        artist_A = np.bincount(artist_N[column_B], minlength=4)
        assert ((artist_A - 10_000) ** 2 / 10_000).sum() < 25
        work_M = np.bincount(column_B, minlength=100)[:10]
        expected_M = 10_000 / np.repeat((2, 3, 5), (2, 3, 5))
        assert ((work_M - expected_M) ** 2 / expected_M).sum() < 40


def test_half_of_the_pairs_are_by_two_artists():
    artist_N = np.repeat(np.arange(4), (2, 3, 5, 90))
    artists = sampling.artist_rows(artist_N)
    row_Bx2 = sampling.pairs(artists, batch_size=40_000, seed=0, index=0)
    different_B = artist_N[row_Bx2[:, 0]] != artist_N[row_Bx2[:, 1]]
    assert abs(different_B.mean() - 0.5) < 5 * 0.0025  # Standard deviations.


def _paintings(artists: sampling.ArtistRows, **batch: int) -> np.ndarray:
    return sampling.paintings_with_others(artists, **(batch | {"batch_size": 6}), paintings=2)


@pytest.mark.parametrize("sample", [sampling.triplets, sampling.pairs, _paintings])
def test_other_seeds_and_indices_give_other_batches(sample):
    batches = [
        sample(FEW, batch_size=64, seed=seed, index=index).tolist()
        for seed, index in [(0, 0), (0, 1), (1, 0)]
    ]
    assert batches[0] != batches[1] != batches[2] != batches[0]


@pytest.mark.parametrize("sample", [sampling.triplets, sampling.pairs])
@pytest.mark.parametrize("batch_size", [1, 8, 200, 600])
def test_a_batch_depends_on_no_other_that_was_drawn(sample, batch_size):
    def draw(index: int) -> list[list[int]]:
        fresh = sampling.artist_rows(np.repeat(np.arange(9), 7))  # Of which nothing is kept.
        return sample(fresh, batch_size=batch_size, seed=3, index=index).tolist()

    artists = sampling.artist_rows(np.repeat(np.arange(9), 7))
    order = [700, *range(70), 513, 0]
    batches = {
        index: sample(artists, batch_size=batch_size, seed=3, index=index).tolist()
        for index in order
    }
    assert all(draw(index) == batch for index, batch in batches.items())
    assert batch_size == 1 or len({str(batch) for batch in batches.values()}) == len(batches)


def test_an_artist_with_one_painting_is_a_negative_only():
    row_Bx3 = sampling.triplets(FEW, batch_size=100, seed=0, index=0)
    assert row_Bx3[:, 2].max() == 5
    assert row_Bx3[:, :2].max() == 4


def test_with_one_painting_by_each_all_artists_are_drawn():
    row_Px1 = sampling.artists_by_paintings(FEW, batch_size=3, paintings=1, seed=0, index=0)
    assert sorted(np.array([0, 0, 0, 1, 1, 2])[row_Px1[:, 0]]) == [0, 1, 2]


def test_paintings_are_drawn_uniformly_with_others_by_their_artists():
    """Chi-squared of 99 degrees of freedom: beyond 160 once in 10,000 times."""
    artist_N = np.repeat(np.arange(5), (1, 2, 3, 5, 89))
    artists = sampling.artist_rows(artist_N)
    batches = [
        sampling.paintings_with_others(artists, batch_size=50, paintings=3, seed=0, index=index)
        for index in range(400)
    ]
    assert all(len(set(row_BxK[:, 0])) == 50 for row_BxK in batches)
    row_MxK = np.concatenate(batches)
    for column_M in row_MxK.T:
        count_N = np.bincount(column_M, minlength=100)
        assert ((count_N - 200) ** 2 / 200).sum() < 160
    assert (artist_N[row_MxK] == artist_N[row_MxK[:, :1]]).all()
    different_M = np.array([len(set(row_K)) for row_K in row_MxK])
    assert (different_M == np.minimum(np.bincount(artist_N)[artist_N[row_MxK[:, 0]]], 3)).all()


def test_paintings_are_repeated_evenly_where_the_artist_has_no_others():
    for index in range(20):
        size = {"batch_size": 6, "paintings": 5}
        row_BxK = sampling.paintings_with_others(FEW, **size, seed=0, index=index)
        for row_K in row_BxK:
            counts = np.bincount(row_K)[np.unique(row_K)]
            assert counts.max() - counts.min() <= 1
            assert len(counts) == np.array([3, 3, 3, 2, 2, 1])[row_K[0]]


def test_more_paintings_than_the_split_has_are_refused():
    with pytest.raises(InputError, match="batch_size 7 paintings, but only 6 are in this split"):
        sampling.paintings_with_others(FEW, batch_size=7, paintings=1, seed=0, index=0)


@pytest.mark.parametrize("artist_N", [[], [0, 0, 0], [0, 1, 2]])
def test_a_split_with_nothing_to_compare_is_refused(artist_N):
    artists = len(set(artist_N))
    with pytest.raises(InputError, match=rf"two artists.* {artists} artists?, "):
        sampling.artist_rows(np.array(artist_N, np.int32))


@pytest.mark.parametrize(("batch_size", "paintings", "there"), [(3, 2, 2), (4, 1, 3)])
def test_more_artists_than_the_split_has_are_refused(batch_size, paintings, there):
    size = {"batch_size": batch_size, "paintings": paintings}
    with pytest.raises(InputError, match=f"batch_size {batch_size} artists, but only {there} "):
        sampling.artists_by_paintings(FEW, **size, seed=0, index=0)


@pytest.mark.parametrize("batch_size", [8, 10_000])
def test_a_batch_costs_a_hundredth_of_a_core(batch_size):
    """An accelerator that trains on 30,000 images/s takes 10,000 triplets/s.

    Measured: 15 to 28 million/s in large batches, and 4 to 5 in those of 8, in the thread's own
    time, which other programs take none of.
    """
    artists = sampling.artist_rows(np.repeat(np.arange(1352), 54))
    start = time.thread_time()
    for index in range(200_000 // batch_size):
        sampling.triplets(artists, batch_size=batch_size, seed=0, index=index)
    assert 200_000 / (time.thread_time() - start) > 100 * 10_000
