"""Batches of tuples as row numbers of a split: pure functions of (seed, index).

Every sampler returns `row_BxT`: B tuples of T paintings each. Artists are drawn uniformly, however
many paintings each has. Element `index` depends on (seed, index) alone, so that the position in an
endless stream of batches is one number.
"""

import dataclasses

import numpy as np

from painterjax.common.errors import InputError


@dataclasses.dataclass(frozen=True)
class ArtistRows:
    """The rows of a split by artist: artist a has rows first_A[a] to first_A[a] + count_A[a] - 1.

    Attributes:
      first_A: int64, each artist's first row.
      count_A: int64, each artist's number of paintings.
      several: the numbers of artists with two or more paintings, who can give a positive.
    """

    first_A: np.ndarray
    count_A: np.ndarray
    several: np.ndarray


def artist_rows(artist_N: np.ndarray) -> ArtistRows:
    """Groups ascending artist numbers 0, 0, 1, ... into ranges of rows.

    Raises:
      InputError: there are fewer than two artists, or none with two paintings: nothing to compare.
    """
    _, first_A, count_A = np.unique(artist_N, return_index=True, return_counts=True)
    several = np.flatnonzero(count_A > 1)
    if len(count_A) < 2 or len(several) == 0:
        raise InputError(
            f"tuples need two artists, one of them with two paintings; this split has"
            f" {len(count_A)} artists, {len(several)} of them with two or more: add paintings"
        )
    return ArtistRows(first_A, count_A, several)


def triplets(artists: ArtistRows, *, batch_size: int, seed: int, index: int) -> np.ndarray:
    """Draws anchor, positive and negative: row_Bx3.

    Anchor and positive are different paintings by one artist, the negative is by another.
    """
    rng = np.random.default_rng((seed, index))
    artist_B = rng.choice(artists.several, batch_size)
    anchor_B, positive_B = _two_paintings(rng, artists, artist_B)
    negative_B = _one_painting(rng, artists, _other_artist(rng, artists, artist_B))
    return np.stack([anchor_B, positive_B, negative_B], axis=1)


def pairs(artists: ArtistRows, *, batch_size: int, seed: int, index: int) -> np.ndarray:
    """Draws pairs: row_Bx2, two paintings by one artist or, as often, by two artists."""
    rng = np.random.default_rng((seed, index))
    artist_B = rng.choice(artists.several, batch_size)
    first_B, second_B = _two_paintings(rng, artists, artist_B)
    another_B = _one_painting(rng, artists, _other_artist(rng, artists, artist_B))
    different_B = rng.random(batch_size) < 0.5
    return np.stack([first_B, np.where(different_B, another_B, second_B)], axis=1)


def artists_by_paintings(
    artists: ArtistRows, *, batch_size: int, paintings: int, seed: int, index: int
) -> np.ndarray:
    """Draws P = batch_size different artists and K paintings by each: row_PxK, for in-batch mining.

    The K paintings differ where the artist has that many; else each comes as often as the others,
    give or take one. With K = 1 artists of a single painting are drawn as well.
    """
    drawn = artists.several if paintings > 1 else np.arange(len(artists.count_A))
    if batch_size > len(drawn):
        has = "have two paintings" if paintings > 1 else "are in this split"
        raise InputError(f"batch_size {batch_size} artists, but only {len(drawn)} {has}: lower it")
    rng = np.random.default_rng((seed, index))
    artist_P = rng.choice(drawn, batch_size, replace=False)
    count_P = artists.count_A[artist_P]
    place_PxK = _distinct(rng, np.maximum(count_P, paintings), paintings)
    return artists.first_A[artist_P, None] + place_PxK % count_P[:, None]


def _one_painting(rng: np.random.Generator, artists: ArtistRows, artist_B: np.ndarray):
    return artists.first_A[artist_B] + rng.integers(artists.count_A[artist_B])


def _two_paintings(rng: np.random.Generator, artists: ArtistRows, artist_B: np.ndarray):
    count_B = artists.count_A[artist_B]
    first_B = rng.integers(count_B)
    second_B = (first_B + 1 + rng.integers(count_B - 1)) % count_B
    return artists.first_A[artist_B] + first_B, artists.first_A[artist_B] + second_B


def _other_artist(rng: np.random.Generator, artists: ArtistRows, artist_B: np.ndarray):
    num_artists = len(artists.count_A)
    return (artist_B + 1 + rng.integers(num_artists - 1, size=len(artist_B))) % num_artists


def _distinct(rng: np.random.Generator, limit_P: np.ndarray, k: int) -> np.ndarray:
    """Draws k different numbers below each limit (at least k), by Floyd's algorithm, shuffled."""
    chosen_PxK = np.full((len(limit_P), k), -1)
    for i in range(k):
        last_P = limit_P - k + i
        draw_P = rng.integers(last_P + 1)
        taken_P = (chosen_PxK == draw_P[:, None]).any(axis=1)
        chosen_PxK[:, i] = np.where(taken_P, last_P, draw_P)
    return rng.permuted(chosen_PxK, axis=1)
