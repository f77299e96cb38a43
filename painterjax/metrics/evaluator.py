"""All metrics of embeddings, with their confidence intervals."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from painterjax.common.errors import InputError
from painterjax.data import sampling
from painterjax.data.store import Split
from painterjax.distributed import processes
from painterjax.metrics import bootstrap, retrieval, tiles, triplets
from painterjax.metrics.pairs import PairCounts, Pairs, count_tile
from painterjax.metrics.tiles import Comparisons

# The same tuples for every run on a store, whatever its own seed.
TUPLE_SEED = 0
REPLICATES = 1000  # of the bootstrap

TRIPLET_METRICS = {
    "triplet_accuracy": triplets.triplet_accuracy,
    "roc_auc": triplets.roc_auc,
    "mean_of_two_accuracy": triplets.mean_of_two_accuracy,
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Embeddings of a split, all or a sample of them compared with all.

    Attributes:
      emb_NxD: the embeddings.
      artist_N: the artist of each.
      query_Q: the rows that were compared with all.
      retrieval: the metrics of metrics.retrieval, of each painting; NaN outside the sample.
      pairs: the counts of all pairs by distance, or of those that have one of the sample.
    """

    emb_NxD: np.ndarray
    artist_N: np.ndarray
    query_Q: np.ndarray
    retrieval: dict[str, np.ndarray]
    pairs: Pairs


def fixed_tuples(split: Split, sample: Callable[..., np.ndarray], *, count: int) -> np.ndarray:
    """Returns row_BxT: the same `count` tuples of a split on every call."""
    artists = sampling.artist_rows(split.artist_N)
    return sample(artists, batch_size=count, seed=TUPLE_SEED, index=0)


def fixed_triplets(split: Split, *, count: int) -> np.ndarray:
    """Returns row_Tx3: the same `count` triplets of a split on every call."""
    return fixed_tuples(split, sampling.triplets, count=count)


def compare(emb_NxD: np.ndarray, artist_N: np.ndarray, *, most: int | None = None) -> Comparison:
    """Ranks the paintings around each one and counts all pairs, by all processes together.

    Args:
      emb_NxD: embeddings.
      artist_N: the artist of each, ascending.
      most: paintings that are compared with all; of more, a sample of as many. None is all.

    Raises:
      InputError: a number is not finite.
    """
    check_finite(emb_NxD)
    query_Q = tiles.sampled_rows(len(emb_NxD), most or len(emb_NxD))
    work = Comparisons(emb_NxD, query_Q, np.arange(len(emb_NxD)))
    ranking, counts = (
        retrieval.Ranking(work, retrieval.depths(artist_N)),
        PairCounts(work, artist_N),
    )
    for first, second, tile in work.run(count_tile, *counts.tables):
        ranking.add(first, second, np.asarray(tile.square_MxM))
        counts.add(first, second, tile)
    ranked = retrieval.metrics_of(ranking, artist_N)
    return Comparison(emb_NxD, artist_N, query_Q, ranked, counts.pairs())


def check_finite(emb_NxD: np.ndarray) -> None:
    """Raises InputError where a number is not finite."""
    bad_M = np.flatnonzero(~np.isfinite(emb_NxD).all(axis=1))
    if len(bad_M):
        raise InputError(
            f"{len(bad_M)} of {len(emb_NxD)} vectors, the first that of painting {bad_M[0]}, hold"
            " NaN or infinity: leave them out, or embed them anew"
        )


def evaluate(comparison: Comparison, row_Tx3: np.ndarray) -> dict[str, dict[str, Any]]:
    """Returns {value, low, high} of every metric: of triplets, of retrieval and of pairs."""
    emb_NxD, artist_N = comparison.emb_NxD, comparison.artist_N
    draws = {"replicates": REPLICATES, "seed": TUPLE_SEED}
    of_triplets = bootstrap.intervals(
        TRIPLET_METRICS, artist_N[row_Tx3[:, [0, 2]]], *_distances(emb_NxD, row_Tx3), **draws
    )
    counted_N, ranked = _counted(comparison.retrieval)
    of_retrieval = bootstrap.mean_intervals(ranked, artist_N[counted_N], **draws)
    return {**of_triplets, **of_retrieval, **bootstrap.pair_intervals(comparison.pairs, **draws)}


def evaluate_quickly(
    emb_NxD: np.ndarray, artist_N: np.ndarray, row_Tx3: np.ndarray, *, most: int | None = None
) -> dict[str, float]:
    """Returns the value of every metric of triplets and of retrieval, without intervals.

    All processes call it together; `most` is that of `compare`.
    """
    query_Q = tiles.sampled_rows(len(emb_NxD), most or len(emb_NxD))
    _, ranked = _counted(retrieval.retrieval(emb_NxD, artist_N, query_Q))
    distances = _distances(emb_NxD, row_Tx3)
    return {
        **{name: metric(*distances) for name, metric in TRIPLET_METRICS.items()},
        **{name: float(value_M.mean(dtype=np.float64)) for name, value_M in ranked.items()},
    }


def color_histograms(image_NxSxSxC: np.ndarray) -> np.ndarray:
    """Returns the square root of each image's 8 x 8 x 8 color histogram: float32 N x 512.

    Euclidean distance between these is sqrt(2) times Hellinger distance between the histograms.
    All processes of a training call it together, and each reads its share of the images.
    """
    (place, processes_count), count = processes.share(), len(image_NxSxSxC)
    size = -(-count // processes_count)
    histogram_Mx512 = np.zeros((size, 512), np.float32)
    for histogram_512, row in zip(histogram_Mx512, range(place * size, count), strict=False):
        red_M, green_M, blue_M = (image_NxSxSxC[row].reshape(-1, 3) >> 5).T.astype(np.int64)
        bin_M = red_M << 6 | green_M << 3 | blue_M
        histogram_512[:] = np.sqrt(np.bincount(bin_M, minlength=512) / len(bin_M))
    return multihost_utils.process_allgather(histogram_Mx512, tiled=True)[:count]


def _counted(ranked: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which paintings retrieval has metrics of, and their metrics."""
    counted_N = ~np.isnan(ranked["recall_at_1"])
    return counted_N, {key: value_N[counted_N] for key, value_N in ranked.items()}


def _distances(emb_NxD: np.ndarray, row_Tx3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each anchor to its positive and to its negative.

    In float64, in which the squares of very large and very small numbers are finite.
    """
    anchor_TxD, *others = (emb_NxD[row_T].astype(float) for row_T in row_Tx3.T)
    positive_T, negative_T = (
        np.linalg.norm(anchor_TxD - other_TxD, axis=1) for other_TxD in others
    )
    return positive_T, negative_T
