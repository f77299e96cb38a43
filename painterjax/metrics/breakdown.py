"""Metrics by artist, style and century."""

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from painterjax.data import catalog
from painterjax.data.catalog import Painting
from painterjax.data.store import Split
from painterjax.metrics.evaluator import Comparison
from painterjax.metrics.pairs import pair_roc_auc

KINDS: dict[str, Callable[[Painting], str]] = {
    "artist": lambda painting: painting.artist,
    "style": lambda painting: painting.style,
    "century": lambda painting: catalog.century(painting.date),
}


def by_group(comparison: Comparison, split: Split) -> dict[str, list[dict[str, Any]]]:
    """Returns the metrics of each artist, and of each style and century where known.

    An artist's only painting is left out.
    """
    counted = np.flatnonzero(~np.isnan(comparison.retrieval["map_at_r"])).tolist()
    groups = {}
    for kind, name_of in KINDS.items():
        rows_by_name = collections.defaultdict(list)
        for row in counted:
            rows_by_name[name_of(split.paintings[row])].append(row)
        groups[kind] = [
            {
                "name": name,
                "paintings": len(rows),
                "artists": len(np.unique(comparison.artist_N[rows])),
                **_metrics(comparison, rows),
            }
            for name, rows in sorted(rows_by_name.items())
            if name
        ]
    return groups


def _metrics(comparison: Comparison, rows: list[int]) -> dict[str, float]:
    """Means over some paintings, and the ROC AUC of all pairs that have one of them.

    The AUC is by coarse bins and right to two digits.
    """
    metrics = {
        key: float(comparison.retrieval[key][rows].mean(dtype=float))
        for key in ("recall_at_1", "map_at_r")
    }
    pairs, queries = comparison.pairs, np.searchsorted(comparison.query_Q, rows)
    of_rows = (
        counts_QxJ[queries].sum(axis=0) for counts_QxJ in (pairs.same_QxJ, pairs.different_QxJ)
    )
    return {**metrics, "pair_roc_auc": pair_roc_auc(*of_rows)}
