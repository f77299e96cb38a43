"""Retrieval: are the paintings nearest to each painting by the same artist?"""

from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from painterjax.distributed import compilation
from painterjax.metrics import pairwise, tiles
from painterjax.metrics.tiles import Comparisons

RECALL_AT = (1, 5, 10)
ROW_BITS = 32  # of a key
FURTHEST = np.uint64(2**64 - 1)
SQUARES = compilation.jit(tiles.squares)


def retrieval(
    emb_NxD: np.ndarray, artist_N: np.ndarray, query_Q: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Ranks all other paintings around each one; returns the metrics of every painting.

    recall_at_k is 1 where one of the k nearest is by the same artist. With R the number of other
    paintings by the artist, r_precision is the share of the R nearest that are by the artist, and
    map_at_r = sum over ranks k <= R of precision@k * [rank k is by the artist] / R.

    Args:
      emb_NxD: embeddings, compared by Euclidean distance; equal distances rank by row.
      artist_N: the artist of each.
      query_Q: the rows around which the others are ranked; None is all.

    Returns:
      recall_at_1, recall_at_5, recall_at_10, r_precision and map_at_r, each float32 of length N;
      NaN for the only painting of an artist, and for what is no query.

    Source: Musgrave et al. 2020, A Metric Learning Reality Check, https://arxiv.org/abs/2003.08505
    """
    row_N = np.arange(len(emb_NxD))
    work = Comparisons(emb_NxD, row_N if query_Q is None else query_Q, row_N)
    ranking = Ranking(work, depths(artist_N))
    for first, second, square_MxM in work.run(SQUARES, pairwise.scale_of(emb_NxD)):
        ranking.add(first, second, np.asarray(square_MxM))
    return metrics_of(ranking, artist_N)


def nearest(
    emb_NxD: np.ndarray, depth: int, *, query_Q: np.ndarray | None = None, database: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields blocks of rows and, nearest first, the `depth` other rows around each.

    All processes call it together. Around each row of `query_Q`, or around all, all others are
    ranked; with `database`, the first `database` rows around each of the rows behind them.
    """
    row_N = np.arange(len(emb_NxD))
    query_Q = row_N[database:] if query_Q is None else query_Q
    work = Comparisons(emb_NxD, query_Q, row_N[: database or None])
    ranking = Ranking(work, np.full(len(emb_NxD), depth))
    for first, second, square_MxM in work.run(SQUARES, pairwise.scale_of(emb_NxD)):
        ranking.add(first, second, np.asarray(square_MxM))
    yield from ranking.blocks()


def depths(artist_N: np.ndarray) -> np.ndarray:
    """Returns how many of the nearest the metrics of each painting need."""
    return np.maximum(np.bincount(artist_N)[artist_N] - 1, max(RECALL_AT))


class Ranking:
    """The nearest of each query so far.

    They are kept as keys, the bits of the squared distance before those of the row: then equal
    distances rank by row, whatever came first.
    """

    def __init__(self, work: Comparisons, depth_N: np.ndarray) -> None:
        self._work, self._row_by_block = work, work.blocks(work.query_Q)
        self._others = work.blocks(work.other_P)
        self._key_by_block = [
            np.full((len(row_M), int(depth_N[row_M].max())), FURTHEST)
            for row_M in self._row_by_block
        ]

    def add(self, first: int, second: int, square_MxM: np.ndarray) -> None:
        """Takes the squared distances of a tile into account, in both directions if mutual."""
        rows, columns = self._row_by_block[first], self._others[second]
        square_MxP = square_MxM[: len(rows), : len(columns)]
        self._add(first, columns, square_MxP, is_turned=False)
        if self._work.is_mutual and first != second:
            self._add(second, rows, square_MxP, is_turned=True)

    def _add(
        self, block: int, row_P: np.ndarray, square_MxP: np.ndarray, *, is_turned: bool
    ) -> None:
        """Keeps what is nearer than the furthest so far; if turned, queries are the columns."""
        key_MxR = self._key_by_block[block]
        last_M = key_MxR.max(axis=1)
        if (last_M == FURTHEST).any():
            square_MxP = square_MxP.T if is_turned else square_MxP
            new_MxK = _keys(square_MxP, row_P[None])
        else:
            square_M = (last_M >> ROW_BITS).astype(np.uint32).view(np.float32)
            is_near_MxP = square_MxP <= (square_M[None] if is_turned else square_M[:, None])
            # Of flat arrays NumPy finds these ten times as fast.
            near = np.divmod(np.flatnonzero(is_near_MxP.ravel()), is_near_MxP.shape[1])
            near_M, near_P = near[::-1] if is_turned else near
            new_MxK = _side_by_side(near_M, _keys(square_MxP[near], row_P[near_P]), len(key_MxR))
        self._key_by_block[block] = _smallest([key_MxR, new_MxK])

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the rows of each block of queries and, nearest first, the rows around each.

        All processes call it together.
        """
        for row_M, key_MxR in zip(self._row_by_block, self._key_by_block, strict=True):
            if jax.process_count() > 1:
                with jax.enable_x64(True):
                    key_MxR = _smallest(list(multihost_utils.process_allgather(key_MxR)))
            key_MxR = np.sort(key_MxR, axis=1)
            shown = min(key_MxR.shape[1], len(self._work.other_P) - self._work.is_mutual)
            yield row_M, (key_MxR[:, :shown] & (2**ROW_BITS - 1)).astype(np.int64)


def _keys(square: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Keys that rank as squared distances do, equal ones by row."""
    bits = np.ascontiguousarray(square).view(np.uint32).astype(np.uint64)
    return bits << ROW_BITS | row.astype(np.uint64)


def _side_by_side(query_K: np.ndarray, key_K: np.ndarray, queries: int) -> np.ndarray:
    """The keys of each query in a row, filled up with FURTHEST."""
    order_K = np.argsort(query_K, kind="stable")
    count_M = np.bincount(query_K, minlength=queries)
    place_K = np.arange(len(query_K)) - np.repeat(np.cumsum(count_M) - count_M, count_M)
    key_MxK = np.full((queries, int(count_M.max(initial=0))), FURTHEST)
    key_MxK[query_K[order_K], place_K] = key_K[order_K]
    return key_MxK


def _smallest(parts: list[np.ndarray]) -> np.ndarray:
    """The smallest keys of each row, as many as the first part has."""
    depth, key_MxK = parts[0].shape[1], np.concatenate(parts, axis=1)
    if key_MxK.shape[1] > depth:
        key_MxK.partition(depth - 1, axis=1)
    return key_MxK[:, :depth].copy()


def metrics_of(ranking: Ranking, artist_N: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `retrieval` of what was ranked."""
    others_N = np.bincount(artist_N)[artist_N] - 1
    metrics: dict[str, np.ndarray] = {}
    for row_M, nearest_MxR in ranking.blocks():
        same_MxR = artist_N[nearest_MxR] == artist_N[row_M][:, None]
        for key, value_M in _metrics(same_MxR, others_N[row_M]).items():
            value_N = metrics.setdefault(key, np.full(len(artist_N), np.nan, np.float32))
            value_N[row_M] = np.where(others_N[row_M] > 0, value_M, np.nan)
    return metrics


def _metrics(same_QxR: np.ndarray, others_Q: np.ndarray) -> dict[str, np.ndarray]:
    rank_1xR = np.arange(1, same_QxR.shape[1] + 1)[None]
    counted_QxR = same_QxR & (rank_1xR <= others_Q[:, None])
    precision_QxR = np.cumsum(same_QxR, axis=1) / rank_1xR
    relevant_Q = np.maximum(others_Q, 1)
    metrics = {f"recall_at_{k}": same_QxR[:, :k].any(axis=1) for k in RECALL_AT}
    metrics["r_precision"] = counted_QxR.sum(axis=1) / relevant_Q
    metrics["map_at_r"] = (precision_QxR * counted_QxR).sum(axis=1) / relevant_Q
    return {key: np.asarray(value_Q, np.float32) for key, value_Q in metrics.items()}
