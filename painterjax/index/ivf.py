"""Vectors in cells around centers: trained, grown, and probed as much as their recall asks for.

A query is compared with the vectors of the cells nearest to it, `nprobe` of them. How many that
takes is measured, against exact search, on paintings that no center was trained on: they are found
less easily than those that were, as are pictures that are new to the index. Both searches know the
vectors as the index keeps them, in half precision. A byte for each number would take half as much,
but loses 2 % of the neighbors, and clips vectors unlike those that cells were trained on.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from faiss.contrib.exhaustive_search import knn_ground_truth

RECALL = 0.96  # of the NEIGHBORS nearest: 0.95 and the error of MEASURED_QUERIES
NEIGHBORS = 10
MEASURED_QUERIES = 128  # of either kind
TRAINED_PER_CELL = 64  # vectors that a cell's center is the mean of
OUTGROWN = 4  # times the vectors that there were when cells were trained
BLOCK_BYTES = 2**26  # of vectors that are compared at once; what bounds the memory


def grown(vectors: Any, emb_NxD: np.ndarray, facts: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """Returns an index in cells of what `vectors` holds and more, and what was measured of it.

    Args:
      vectors: FAISS's index so far, in cells or not; it stays as it is.
      emb_NxD: what is added to it.
      facts: what was measured of `vectors`; nothing where it has no cells.

    Returns:
      The index, in new cells where it has outgrown the old ones; and as text `trained`, how many
      vectors there were when its cells were trained; `probes`; `recall`, of paintings that no
      cell was trained on; and `recall_of_any`, of any.
    """
    count = vectors.ntotal + len(emb_NxD)
    trained = int(facts.get("trained", 0))
    if count < OUTGROWN * trained:
        cells = faiss.clone_index(vectors)
        cells.add(emb_NxD)
    else:
        cells, trained = _trained(vectors, emb_NxD), count
    return cells, {"trained": str(trained), **_measured(cells, trained)}


def _trained(vectors: Any, emb_NxD: np.ndarray) -> Any:
    """Returns an index in 2 sqrt(N) new cells of what `vectors` holds and emb_NxD."""
    count = vectors.ntotal + len(emb_NxD)
    cells: Any = faiss.index_factory(vectors.d, f"IVF{int(2 * math.sqrt(count))},SQfp16")
    row_M = _trained_rows(count, cells.nlist)
    before_M = row_M < vectors.ntotal
    old_MxD = reconstruct(vectors, row_M[before_M])
    cells.train(np.concatenate([old_MxD, emb_NxD[row_M[~before_M] - vectors.ntotal]]))
    for block_NxD in itertools.chain(_blocks(vectors), [emb_NxD]):
        cells.add(block_NxD)
    return cells


def _trained_rows(count: int, cells: int) -> np.ndarray:
    """The rows that cells are trained on; at least half of all are left to measure with."""
    sample = min(count // 2, TRAINED_PER_CELL * cells)
    return np.sort(np.random.default_rng(0).choice(count, sample, replace=False))


def _measured(cells: Any, trained: int) -> dict[str, str]:
    """Sets `nprobe` to what RECALL takes; returns it and the recalls."""
    rng = np.random.default_rng(1)
    strange_N = np.ones(cells.ntotal, bool)
    strange_N[_trained_rows(trained, cells.nlist)] = False
    stranger_Q = rng.choice(np.flatnonzero(strange_N), MEASURED_QUERIES)
    number_Q = np.concatenate([stranger_Q, rng.choice(cells.ntotal, MEASURED_QUERIES)])
    query_QxD = reconstruct(cells, number_Q)
    _, exact_QxR = knn_ground_truth(query_QxD, _blocks(cells), NEIGHBORS + 1)
    exact_QxR = _without_itself(exact_QxR, number_Q)
    cells.nprobe = 1
    while True:
        found_QxR = cells.search(query_QxD, NEIGHBORS + 1)[1]
        found_QxR = _without_itself(found_QxR, number_Q)
        recall, recall_of_any = (
            recall_of(found_QxR[part], exact_QxR[part])
            for part in (slice(MEASURED_QUERIES), slice(MEASURED_QUERIES, None))
        )
        if min(recall, recall_of_any) >= RECALL or cells.nprobe >= cells.nlist:
            figures = {"recall": f"{recall:.4f}", "recall_of_any": f"{recall_of_any:.4f}"}
            return {"probes": str(cells.nprobe), **figures}
        cells.nprobe = min(cells.nlist, 2 * cells.nprobe)


def _without_itself(found_QxR: np.ndarray, number_Q: np.ndarray) -> np.ndarray:
    """Leaves the query out of what was found for it, or the farthest where it is not there."""
    itself_QxR = found_QxR == number_Q[:, None]
    itself_QxR[:, -1] |= ~itself_QxR.any(axis=1)
    return found_QxR[~itself_QxR].reshape(len(number_Q), -1)


def recall_of(found_QxR: np.ndarray, exact_QxR: np.ndarray) -> float:
    """Share of the exact neighbors that were found.

    >>> recall_of(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 5]]))
    0.75
    """
    both = (found_QxR[:, :, None] == exact_QxR[:, None]).any(axis=2)
    return float(both.mean())


def reconstruct(vectors: Any, number_M: np.ndarray) -> np.ndarray:
    """Returns vectors as the index keeps them."""
    if not isinstance(vectors, faiss.IndexIVF):
        return vectors.reconstruct_batch(number_M)
    vectors.make_direct_map()
    emb_MxD = vectors.reconstruct_batch(number_M)
    vectors.make_direct_map(False)  # It would go to disk, eight bytes a vector.
    return emb_MxD


def _blocks(vectors: Any) -> Iterator[np.ndarray]:
    """Yields all vectors in order, as the index keeps them."""
    rows = max(1, BLOCK_BYTES // (4 * vectors.d))
    for start in range(0, vectors.ntotal, rows):
        yield vectors.reconstruct_n(start, min(rows, vectors.ntotal - start))
