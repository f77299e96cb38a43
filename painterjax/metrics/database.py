"""Retrieval from a database: are the paintings of a database nearest to a query by its artist?

Queries are not in the database, as their artists are. The protocol of Somepalli et al. 2024,
Measuring Style Similarity in Diffusion Models, https://arxiv.org/abs/2404.01292, table 1.
"""

from typing import Any

import numpy as np

from painterjax.metrics import bootstrap, evaluator, retrieval

AT = (1, 10, 100)


def retrieve(
    query_QxD: np.ndarray,
    query_artist_Q: np.ndarray,
    database_NxD: np.ndarray,
    database_artist_N: np.ndarray,
) -> dict[str, np.ndarray]:
    """Ranks the database around each query; returns the metrics of every query.

    recall_at_k is 1 where one of the k nearest is by the query's artist. map_at_k is the mean of
    precision@i over the ranks i <= k that are by the artist, and 0 where none is.

    Args:
      query_QxD: embeddings, compared by Euclidean distance.
      query_artist_Q: the artist of each.
      database_NxD: likewise; equal distances rank by row.
      database_artist_N: the artist of each, by the same numbers.

    Returns:
      map_at_1, map_at_10, map_at_100, recall_at_1, recall_at_10 and recall_at_100, each float32 of
      length Q. A database of fewer than k paintings is ranked whole.
    """
    count = len(database_NxD)
    emb_MxD = np.concatenate([database_NxD, query_QxD])
    parts = [
        _metrics(database_artist_N[nearest_BxR] == query_artist_Q[row_B - count][:, None])
        for row_B, nearest_BxR in retrieval.nearest(emb_MxD, min(max(AT), count), database=count)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def evaluate(metrics: dict[str, np.ndarray], query_artist_Q: np.ndarray) -> dict[str, Any]:
    """Returns {value, low, high} of every metric: means over queries, intervals over artists."""
    draws = {"replicates": evaluator.REPLICATES, "seed": evaluator.TUPLE_SEED}
    return bootstrap.mean_intervals(metrics, query_artist_Q, **draws)


def _metrics(same_QxR: np.ndarray) -> dict[str, np.ndarray]:
    hits_QxR = np.cumsum(same_QxR, axis=1)
    precision_QxR = hits_QxR / np.arange(1, same_QxR.shape[1] + 1)[None]
    metrics = {}
    for k in AT:
        relevant_Q = np.maximum(same_QxR[:, :k].sum(axis=1), 1)
        metrics[f"map_at_{k}"] = (precision_QxR * same_QxR)[:, :k].sum(axis=1) / relevant_Q
    metrics |= {f"recall_at_{k}": same_QxR[:, :k].any(axis=1) for k in AT}
    return {key: np.asarray(value_Q, np.float32) for key, value_Q in metrics.items()}
