"""Retrieval: what hangs nearest to each painting of a collection, and is it by the same artist?"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from painterjax.metrics import pairwise

QUERY_BLOCK = 256  # Queries ranked at once; what bounds the memory.
RECALL_AT = (1, 5, 10)


def retrieval(emb_NxD: np.ndarray, artist_N: np.ndarray) -> dict[str, np.ndarray]:
    """Ranks all other paintings around each one; returns the figures of every painting.

    recall_at_k is 1 where one of the k nearest is by the same artist. With R the number of other
    paintings by the artist, r_precision is the share of the R nearest that are by the artist, and
    map_at_r = sum over ranks k <= R of precision@k * [rank k is by the artist] / R.

    Args:
      emb_NxD: embeddings, compared by Euclidean distance; equal distances rank by row.
      artist_N: the artist of each.

    Returns:
      recall_at_1, recall_at_5, recall_at_10, r_precision and map_at_r, each float32 of length N;
      NaN for the only painting of an artist.

    Source: Musgrave et al. 2020, A Metric Learning Reality Check, https://arxiv.org/abs/2003.08505
    """
    others_N = np.bincount(artist_N)[artist_N] - 1
    depth = min(max(int(others_N.max(initial=0)), max(RECALL_AT)), max(len(emb_NxD) - 1, 1))
    parts = [
        _figures(artist_N[nearest_QxR] == artist_N[row_Q][:, None], others_N[row_Q])
        for row_Q, nearest_QxR in nearest(emb_NxD, depth)
    ]
    figures = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    for value_N in figures.values():
        value_N[others_N == 0] = np.nan
    return figures


def nearest(emb_NxD: np.ndarray, depth: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields blocks of rows and, nearest first, the `depth` other rows around each."""
    count = len(emb_NxD)
    placed = pairwise.place(emb_NxD)
    column_N = np.arange(count, dtype=np.uint64)
    for start in range(0, count, QUERY_BLOCK):
        # A block beyond the end would change shape and compile again.
        row_Q = np.minimum(np.arange(start, start + QUERY_BLOCK), count - 1)
        size = min(QUERY_BLOCK, count - start)
        with jax.enable_x64(True):
            square_QxN = np.asarray(_squares_to_others(placed, row_Q))[:size]
        # The bits of floats from 0 on are ordered as they are; below them, the row breaks ties.
        key_QxN = square_QxN.view(np.uint32).astype(np.uint64) << np.uint64(32) | column_N
        if depth < count:
            key_QxN = np.partition(key_QxN, depth - 1, axis=1)[:, :depth]
        yield row_Q[:size], (np.sort(key_QxN, axis=1) & np.uint64(2**32 - 1)).astype(np.int64)


def _figures(same_QxR: np.ndarray, others_Q: np.ndarray) -> dict[str, np.ndarray]:
    rank_1xR = np.arange(1, same_QxR.shape[1] + 1)[None]
    counted_QxR = same_QxR & (rank_1xR <= others_Q[:, None])
    precision_QxR = np.cumsum(same_QxR, axis=1) / rank_1xR
    relevant_Q = np.maximum(others_Q, 1)
    figures = {f"recall_at_{k}": same_QxR[:, :k].any(axis=1) for k in RECALL_AT}
    figures["r_precision"] = counted_QxR.sum(axis=1) / relevant_Q
    figures["map_at_r"] = (precision_QxR * counted_QxR).sum(axis=1) / relevant_Q
    return {key: np.asarray(value_Q, np.float32) for key, value_Q in figures.items()}


@jax.jit
def _squares_to_others(placed: pairwise.Placed, row_Q: jax.Array) -> jax.Array:
    """Squared distances of some rows to all, Q x N; of a row to itself infinite."""
    square_QxN = pairwise.squares(placed, row_Q)
    return square_QxN.at[jnp.arange(len(row_Q)), row_Q].set(jnp.inf)
