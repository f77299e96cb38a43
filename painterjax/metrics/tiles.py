"""Queries compared with paintings, tile by tile, on all devices of all processes."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from painterjax.metrics import pairwise
from painterjax.metrics.pairwise import Scale

TILE = 2048  # Paintings along a side of what is compared at once, which bounds the memory.


class RowBlock(NamedTuple):
    """Paintings along a side of a tile; the last block is filled up.

    Attributes:
      emb_MxD: their embeddings.
      row_M: the row of each, int32; -1 where filled up.
    """

    emb_MxD: Any
    row_M: Any


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """Which embeddings are compared with which.

    Attributes:
      emb_NxD: all embeddings.
      query_Q, other_P: rows of the queries and of what each is compared with, ascending.
    """

    emb_NxD: np.ndarray
    query_Q: np.ndarray
    other_P: np.ndarray

    @functools.cached_property
    def is_mutual(self) -> bool:
        """Whether all are compared with all, so that half of the tiles suffices."""
        return np.array_equal(self.query_Q, self.other_P)

    @property
    def side(self) -> int:
        """How many paintings are along each side of a tile."""
        return min(TILE, max(len(self.query_Q), len(self.other_P)))

    def blocks(self, row_P: np.ndarray) -> list[np.ndarray]:
        """Returns the rows of each block of queries, or of others."""
        return np.split(row_P, range(self.side, len(row_P), self.side))

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """The numbers of both blocks of each tile."""
        counts = (-(-len(row_P) // self.side) for row_P in (self.query_Q, self.other_P))
        rows, columns = map(range, counts)
        return [(i, j) for i in rows for j in columns if i <= j or not self.is_mutual]

    def _block(self, row_M: np.ndarray) -> RowBlock:
        filled_M = np.resize(row_M, self.side)
        is_row_M = np.arange(self.side) < len(row_M)
        return RowBlock(self.emb_NxD[filled_M], np.where(is_row_M, filled_M, -1).astype(np.int32))

    def run(self, program: Callable[..., Any], *tables: Any) -> Iterator[tuple[int, int, Any]]:
        """Yields the numbers of both blocks of each tile that is this process's share.

        With them comes what `program` returns of the two blocks and the `tables`. Tiles take turns
        on this process's devices, which work ahead by one tile each.
        """
        queries, others = self.blocks(self.query_Q), self.blocks(self.other_P)
        own = self.tiles[jax.process_index() :: jax.process_count()]
        devices, ahead = jax.local_devices(), collections.deque()
        with jax.enable_x64(True):
            tables_by_device = [jax.device_put(tables, device) for device in devices]
        for turn, (i, j) in enumerate(own):
            place = turn % len(devices)
            with jax.enable_x64(True):
                blocks = [self._block(queries[i]), self._block(others[j])]
                on_device = jax.device_put(blocks, devices[place])
                ahead.append((i, j, program(*on_device, *tables_by_device[place])))
            if len(ahead) > len(devices):
                yield ahead.popleft()
        yield from ahead


def squares(rows: RowBlock, columns: RowBlock, scale: Scale) -> jax.Array:
    """Squared distances of two blocks; infinite from a painting to itself, and where filled up.

    To be traced in float64.
    """
    square_MxM = pairwise.squares(scale, rows.emb_MxD, columns.emb_MxD)
    row_Mx1, row_1xM = rows.row_M[:, None], columns.row_M[None]
    return jnp.where((row_Mx1 != row_1xM) & (row_Mx1 >= 0) & (row_1xM >= 0), square_MxM, jnp.inf)


def sampled_rows(count: int, most: int) -> np.ndarray:
    """Returns all of `count` rows, or a systematic sample of `most`, the same on every call.

    Each row is drawn with the same chance. Where rows are sorted by artist, each artist has its
    share, rounded up or down. Source: Cochran 1977, Sampling Techniques, chapter 8.
    """
    if count <= most:
        return np.arange(count)
    start = np.random.default_rng(0).random()
    return ((np.arange(most) + start) * (count / most)).astype(np.int64)
