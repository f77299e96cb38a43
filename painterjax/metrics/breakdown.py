"""Figures of artists, styles and centuries."""

import collections
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from painterjax.data import catalog
from painterjax.data.store import Split
from painterjax.metrics import evaluator, histogram, pairwise
from painterjax.metrics.pairs import pair_roc_auc

ROWS_AT_ONCE = 256  # What bounds the memory.
METRICS = ("recall_at_1", "map_at_r")


def by_group(compared: evaluator.Compared, split: Split) -> dict[str, list[dict[str, Any]]]:
    """Returns the figures of each artist, and each style and century where known.

    Means over its paintings, and the ROC AUC of all pairs that have one of them, to three digits.
    """
    kinds: dict[str, Callable[[Any], str]] = {
        "artist": lambda painting: painting.artist,
        "style": lambda painting: painting.style,
        "century": lambda painting: catalog.century(painting.date),
    }
    same_NxJ, different_NxJ = pairs_of_paintings(compared.emb_NxD, compared.artist_N)
    groups = {}
    for kind, name_of in kinds.items():
        rows_by_name = collections.defaultdict(list)
        for row, painting in enumerate(split.paintings):
            if name_of(painting) and not np.isnan(compared.ranked["map_at_r"][row]):
                rows_by_name[name_of(painting)].append(row)
        groups[kind] = [
            {
                "name": name,
                "paintings": len(rows),
                **{key: float(compared.ranked[key][rows].mean(dtype=float)) for key in METRICS},
                "pair_roc_auc": pair_roc_auc(
                    same_NxJ[rows].sum(axis=0), different_NxJ[rows].sum(axis=0)
                ),
            }
            for name, rows in sorted(rows_by_name.items())
        ]
    return groups


def pairs_of_paintings(emb_NxD: np.ndarray, artist_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many others lie around each painting, in each of J steps of their distance.

    Those by its artist and those by other artists, each int64 N x J.
    """
    placed = pairwise.place(emb_NxD)
    square_P = pairwise.sampled_squares(placed)
    first_C = histogram.first_steps(square_P)
    merged_K = histogram.merged_steps(square_P, histogram.ends(first_C))
    table = (jnp.asarray(first_C, jnp.int32), jnp.asarray(merged_K, jnp.int32))
    count, device_artist_N, parts = len(emb_NxD), jnp.asarray(artist_N, jnp.int32), []
    for start in range(0, count, ROWS_AT_ONCE):
        # A block beyond the end would change shape and compile again.
        row_Q = np.minimum(np.arange(start, start + ROWS_AT_ONCE), count - 1)
        with jax.enable_x64(True):
            place_M = np.asarray(_places(placed, device_artist_N, row_Q, table))
        end = 2 * ROWS_AT_ONCE * histogram.MERGED_STEPS
        count_K = np.bincount(place_M, minlength=end + 1)[:end]
        parts.append(count_K.reshape(ROWS_AT_ONCE, 2, -1)[: count - start])
    different_NxJ, same_NxJ = np.moveaxis(np.concatenate(parts), 1, 0)
    return same_NxJ, different_NxJ


@jax.jit
def _places(placed: pairwise.Placed, artist_N: jax.Array, row_Q: jax.Array, table) -> jax.Array:
    """Where each pair of some rows and all counts: by row, by artist, by step; itself behind."""
    first_C, merged_K = table
    step_QxN = merged_K[histogram.steps(pairwise.squares(placed, row_Q), first_C)]
    is_same_QxN = artist_N[row_Q][:, None] == artist_N[None]
    kind_QxN = 2 * jnp.arange(len(row_Q), dtype=jnp.int32)[:, None] + is_same_QxN
    place_QxN = kind_QxN * histogram.MERGED_STEPS + step_QxN
    is_itself_QxN = row_Q[:, None] == jnp.arange(len(artist_N))[None]
    return jnp.where(is_itself_QxN, 2 * len(row_Q) * histogram.MERGED_STEPS, place_QxN).ravel()
