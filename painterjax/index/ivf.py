"""How FAISS's index grows: exact at first, then an inverted file (IVF) with a measured nprobe.

The coarse quantizer, k-means with nlist centroids, puts every vector into the inverted list of its
nearest centroid. A query is compared with the vectors of the nprobe lists nearest to it. nprobe is
the smallest power of two whose recall@10, measured against exact search, reaches RECALL: both for
any vectors of the index and for those that the quantizer was not trained on, which are harder to
find, as are pictures that are not in the index at all. The index stores vectors in half precision,
and so does the exact search of the measurement. 8 bits per number would halve the memory, but lose
2 % of the neighbors, and clip vectors outside the range of those trained on.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from faiss.contrib.evaluation import knn_intersection_measure
from faiss.contrib.exhaustive_search import knn_ground_truth

EXACT = 1_000_000  # vectors up to which the search is exact
RECALL = 0.96  # recall@10: 0.95 and the sampling error of QUERIES
NEIGHBORS = 10
QUERIES = 128  # of either kind
TRAINING_PER_LIST = 64  # vectors to train each centroid with
RETRAIN_GROWTH = 4  # The quantizer is trained anew when the index has grown by this factor.
BLOCK_BYTES = 2**26  # of vectors decoded at once, which bounds the memory


def extend(old: Any, emb_NxD: np.ndarray, facts: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """Returns FAISS's index of the vectors of `old` and more, and the facts measured of it.

    Args:
      old: the index so far in memory, which may be changed; None if there is none.
      emb_NxD: the vectors to add.
      facts: those of `old`.

    Returns:
      The index, exact for up to EXACT vectors; for more, IVF with these facts as text: `trained`,
      the number of vectors in the index when the quantizer was trained; `probes`, which is nprobe;
      `recall`, the recall@10 of vectors that the quantizer was not trained on; and
      `recall_of_any`, that of any vectors.
    """
    if old is None:
        old = faiss.IndexFlatL2(emb_NxD.shape[1])
    count, trained = old.ntotal + len(emb_NxD), int(facts.get("trained", 0))
    is_exact = count <= EXACT and not isinstance(old, faiss.IndexIVF)
    if is_exact or count < RETRAIN_GROWTH * trained:
        old.add(emb_NxD)
        extended = old
    else:
        extended, trained = _train(old, emb_NxD), count
    if is_exact:
        return extended, {}
    return extended, {"trained": str(trained), **_tune_nprobe(extended, trained)}


def _train(old: Any, emb_NxD: np.ndarray) -> Any:
    """Returns a new IVF index, with nlist = 2 sqrt(N), of the vectors of `old` and emb_NxD."""
    count = old.ntotal + len(emb_NxD)
    ivf: Any = faiss.index_factory(old.d, f"IVF{int(2 * math.sqrt(count))},SQfp16")
    row_M = _training_rows(count, ivf.nlist)
    is_old_M = row_M < old.ntotal
    old_MxD = reconstruct(old, row_M[is_old_M])
    ivf.train(np.concatenate([old_MxD, emb_NxD[row_M[~is_old_M] - old.ntotal]]))
    for block_NxD in itertools.chain(blocks(old), [emb_NxD]):
        ivf.add(block_NxD)
    return ivf


def _training_rows(count: int, nlist: int) -> np.ndarray:
    """The rows that the quantizer is trained on; at least half are left to measure recall with."""
    sample = min(count // 2, TRAINING_PER_LIST * nlist)
    return np.sort(np.random.default_rng(0).choice(count, sample, replace=False))


def _tune_nprobe(ivf: Any, trained: int) -> dict[str, str]:
    """Sets nprobe; returns it and the two recalls."""
    rng = np.random.default_rng(1)
    is_unseen_N = np.ones(ivf.ntotal, bool)
    is_unseen_N[_training_rows(trained, ivf.nlist)] = False
    unseen_Q = rng.choice(np.flatnonzero(is_unseen_N), QUERIES)
    number_Q = np.concatenate([unseen_Q, rng.choice(ivf.ntotal, QUERIES)])
    query_QxD = reconstruct(ivf, number_Q)
    _, exact_QxR = knn_ground_truth(query_QxD, blocks(ivf), NEIGHBORS + 1)
    exact_QxR = _without_query(exact_QxR, number_Q)
    ivf.nprobe = 1
    while True:
        _, found_QxR = ivf.search(query_QxD, NEIGHBORS + 1)
        found_QxR = _without_query(found_QxR, number_Q)
        recall, recall_of_any = (
            knn_intersection_measure(found_QxR[part], exact_QxR[part])
            for part in (slice(QUERIES), slice(QUERIES, None))
        )
        if min(recall, recall_of_any) >= RECALL or ivf.nprobe >= ivf.nlist:
            recalls = {"recall": f"{recall:.4f}", "recall_of_any": f"{recall_of_any:.4f}"}
            return {"probes": str(ivf.nprobe), **recalls}
        ivf.nprobe = min(ivf.nlist, 2 * ivf.nprobe)


def _without_query(found_QxR: np.ndarray, number_Q: np.ndarray) -> np.ndarray:
    """Drops the query from its own neighbors, or the farthest if the query is not among them."""
    is_query_QxR = found_QxR == number_Q[:, None]
    is_query_QxR[:, -1] |= ~is_query_QxR.any(axis=1)
    return found_QxR[~is_query_QxR].reshape(len(number_Q), -1)


def reconstruct(vectors: Any, number_M: np.ndarray) -> np.ndarray:
    """Returns vectors as FAISS's index stores them."""
    if not isinstance(vectors, faiss.IndexIVF):
        return vectors.reconstruct_batch(number_M)
    vectors.make_direct_map()
    emb_MxD = vectors.reconstruct_batch(number_M)
    vectors.make_direct_map(False)  # It would be written to disk: eight bytes per vector.
    return emb_MxD


def block_rows(dim: int) -> int:
    """Returns how many vectors are decoded at once."""
    return max(1, BLOCK_BYTES // (4 * dim))


def blocks(vectors: Any) -> Iterator[np.ndarray]:
    """Yields all vectors in order, as FAISS's index stores them."""
    rows = block_rows(vectors.d)
    for start in range(0, vectors.ntotal, rows):
        yield vectors.reconstruct_n(start, min(rows, vectors.ntotal - start))
