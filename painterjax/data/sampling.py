"""Samplers: batches of tuples as row numbers of a split, pure functions of (seed, index).

    triplets               row_Bx3: anchor, positive, negative
    pairs                  row_Bx2: two paintings by one artist or by two
    artists_by_paintings   row_PxK: P artists with K paintings each, for in-batch mining
    paintings_with_others  row_BxK: B paintings, and K - 1 others by the artist of each

Artists are drawn uniformly, however many paintings each has; then the paintings of an artist are
drawn uniformly. The last sampler draws paintings uniformly instead. Batch `index` depends on no
earlier batch, so that the position of a training in its data is one number, and a resumed training
draws the batches that it would have drawn. Small batches of triplets and pairs, whose tuples do not
depend on each other, are drawn for many steps at once.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from painterjax.common.errors import InputError
from painterjax.common.progress import counted

# That are drawn at once where a batch has fewer: one batch of 8 takes as long as 100 of them.
TUPLES_AT_ONCE = 512
KEPT_DRAWS = 16  # whose batches are asked for: threads read ahead


@dataclasses.dataclass(frozen=True, eq=False)
class ArtistRows:
    """The rows of a split by artist: artist a has the rows first_A[a] + (0 .. count_A[a] - 1)."""

    first_A: np.ndarray
    count_A: np.ndarray
    several: np.ndarray  # The artists with two or more paintings, who can give a positive.


def artist_rows(artist_N: np.ndarray) -> ArtistRows:
    """Groups the rows of a split by their artist numbers, which must ascend.

    Raises:
      InputError: there are fewer than two artists, or none with two paintings.

    >>> artist_rows(np.array([0, 0, 0, 1, 2, 2])).several
    array([0, 2])
    """
    _, first_A, count_A = np.unique(artist_N, return_index=True, return_counts=True)
    several = np.flatnonzero(count_A > 1)
    if len(count_A) < 2 or len(several) == 0:
        raise InputError(
            "tuples need two artists, one of them with two paintings; this split has"
            f" {counted(len(count_A), 'artist')}, {len(several)} of them with two or more:"
            " add paintings"
        )
    return ArtistRows(first_A, count_A, several)


def by_branch(x_BxT: Any, chunks: int = 1) -> Any:
    """Lays a batch out as the network takes it, G x M: a chunk's anchors, its positives, ...

    >>> by_branch(np.array([[1, 2, 3], [4, 5, 6]]))
    array([[1, 4, 2, 5, 3, 6]])
    >>> by_branch(np.array([[1, 2, 3], [4, 5, 6]]), chunks=2)
    array([[1, 2, 3],
           [4, 5, 6]])
    """
    x_GxBxT = x_BxT.reshape(chunks, -1, *x_BxT.shape[1:])
    return x_GxBxT.swapaxes(1, 2).reshape(chunks, -1, *x_BxT.shape[2:])


def by_tuple(x_GxMxD: Any, tuple_size: int) -> Any:
    """Undoes `by_branch` for what the network returns: G x M x D to B x T x D."""
    chunks, _, *features = x_GxMxD.shape
    x_GxTxBxD = x_GxMxD.reshape(chunks, tuple_size, -1, *features)
    return x_GxTxBxD.swapaxes(1, 2).reshape(-1, tuple_size, *features)


def triplets(artists: ArtistRows, *, batch_size: int, seed: int, index: int) -> np.ndarray:
    """Draws row_Bx3: an anchor, another painting by its artist, and one by another artist."""
    return _batch(_triplets, artists, batch_size, seed, index)


def pairs(artists: ArtistRows, *, batch_size: int, seed: int, index: int) -> np.ndarray:
    """Draws row_Bx2: an anchor, then its positive or, with probability 1/2, its negative."""
    return _batch(_pairs, artists, batch_size, seed, index)


def artists_by_paintings(
    artists: ArtistRows, *, batch_size: int, paintings: int, seed: int, index: int
) -> np.ndarray:
    """Draws row_PxK: P = batch_size different artists, and K = paintings by each.

    The K paintings are different where the artist has that many; else each is drawn as often as
    the others, give or take one. With K = 1, artists with a single painting are drawn too.

    Raises:
      InputError: the split has fewer than P such artists.
    """
    drawn = drawable(artists, paintings)
    if batch_size > len(drawn):
        has = "have two paintings" if paintings > 1 else "are in this split"
        raise InputError(f"batch_size {batch_size} artists, but only {len(drawn)} {has}: lower it")
    rng = np.random.default_rng((seed, index))
    artist_P = rng.choice(drawn, batch_size, replace=False)
    count_P = artists.count_A[artist_P]
    place_PxK = _distinct(rng, np.maximum(count_P, paintings), paintings)
    return artists.first_A[artist_P, None] + place_PxK % count_P[:, None]


def paintings_with_others(
    artists: ArtistRows, *, batch_size: int, paintings: int, seed: int, index: int
) -> np.ndarray:
    """Draws row_BxK: B = batch_size different paintings, each with K - 1 others by its artist.

    So an artist with many paintings is drawn often, and may be drawn more than once. The K
    paintings are different where the artist has that many; else each is drawn as often as the
    others, give or take one.

    Raises:
      InputError: the split has fewer than B paintings.
    """
    count = artists.count_A.sum()
    if batch_size > count:
        raise InputError(f"batch_size {batch_size} paintings, but only {count} are in this split")
    rng = np.random.default_rng((seed, index))
    row_B = rng.choice(count, batch_size, replace=False)
    artist_B = np.searchsorted(artists.first_A, row_B, side="right") - 1
    first_B, count_B = artists.first_A[artist_B], artists.count_A[artist_B]
    step_BxK = np.zeros((batch_size, paintings), int)
    others_B = np.maximum(count_B, paintings) - 1
    step_BxK[:, 1:] += 1 + _distinct(rng, others_B, paintings - 1)
    return first_B[:, None] + (row_B[:, None] - first_B[:, None] + step_BxK) % count_B[:, None]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """What draws batches of in-batch losses.

    Attributes:
      draw: draws row_BxK from artists, batch_size, paintings, seed and index.
      most: maps artists and the paintings K in a tuple to the most tuples that a batch can have.
    """

    draw: Callable[..., np.ndarray]
    most: Callable[[ArtistRows, int], int]


# What `loss.sampler` names: what there is at most once in a batch as the first of a tuple.
SAMPLERS = {
    "artists": Sampler(artists_by_paintings, lambda artists, k: len(drawable(artists, k))),
    "paintings": Sampler(paintings_with_others, lambda artists, _: int(artists.count_A.sum())),
}


def drawable(artists: ArtistRows, paintings: int) -> np.ndarray:
    """Returns the artists of whom `artists_by_paintings` draws that many paintings."""
    return artists.several if paintings > 1 else np.arange(len(artists.count_A))


def _batch(
    draw: Callable[..., np.ndarray], artists: ArtistRows, batch_size: int, seed: int, index: int
) -> np.ndarray:
    """Returns a copy of its part of what is drawn at once."""
    steps = max(1, TUPLES_AT_ONCE // batch_size)
    number, place = divmod(index, steps)
    row_MxT = _drawn(draw, artists, steps * batch_size, seed, number)
    return row_MxT[place * batch_size : (place + 1) * batch_size].copy()


@functools.lru_cache(KEPT_DRAWS)
def _drawn(
    draw: Callable[..., np.ndarray], artists: ArtistRows, count: int, seed: int, number: int
) -> np.ndarray:
    """Draws the tuples of some whole batches."""
    return draw(np.random.default_rng((seed, number)), artists, count)


def _pairs(rng: np.random.Generator, artists: ArtistRows, count: int) -> np.ndarray:
    """Draws row_Bx2."""
    anchor_B, positive_B, negative_B = _triplets(rng, artists, count).T
    different_B = rng.random(count) < 0.5
    return np.stack([anchor_B, np.where(different_B, negative_B, positive_B)], axis=1)


def _triplets(rng: np.random.Generator, artists: ArtistRows, count: int) -> np.ndarray:
    """Draws row_Bx3.

    Adding a random step from 1 to n - 1, modulo n, gives a uniform draw among the n - 1 others.
    """
    artist_B = rng.choice(artists.several, count)
    first_B, count_B = artists.first_A[artist_B], artists.count_A[artist_B]
    anchor_B = rng.integers(count_B)
    positive_B = (anchor_B + 1 + rng.integers(count_B - 1)) % count_B
    num_artists = len(artists.count_A)
    other_B = (artist_B + 1 + rng.integers(num_artists - 1, size=count)) % num_artists
    negative_B = artists.first_A[other_B] + rng.integers(artists.count_A[other_B])
    return np.stack([first_B + anchor_B, first_B + positive_B, negative_B], axis=1)


def _distinct(rng: np.random.Generator, limit_P: np.ndarray, k: int) -> np.ndarray:
    """Draws k different numbers below each limit (at least k), by Floyd's algorithm, shuffled."""
    chosen_PxK = np.full((len(limit_P), k), -1)
    for i in range(k):
        last_P = limit_P - k + i
        draw_P = rng.integers(last_P + 1)
        taken_P = (chosen_PxK == draw_P[:, None]).any(axis=1)
        chosen_PxK[:, i] = np.where(taken_P, last_P, draw_P)
    return rng.permuted(chosen_PxK, axis=1)
