"""Verification: are two paintings by one artist? All pairs of a collection, by their distance.

Pairs are counted in bins of distance, those by one artist apart from those by two: memory holds the
bins, not the pairs. All metrics follow from the two histograms; pairs in one bin count as ties.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from painterjax.distributed import compilation
from painterjax.metrics import histogram, pairwise
from painterjax.metrics.histogram import BINS, COARSE_BINS

TILE = 2048  # Paintings along a side of what is compared at once, which bounds the memory.
GROUPS = 256  # The bootstrap draws more artists than these in so many groups.


@dataclasses.dataclass(frozen=True)
class Pairs:
    """How many pairs there are at each distance.

    Attributes:
      same_K, different_K: pairs by one artist and by two artists in each of K bins, int64.
      edge_E: the edges of the bins as distances, E = K + 1.
      same_NxJ, different_NxJ: each painting's pairs, in J coarse bins.
      same_GxJ, different_GxGxJ: pairs by group of artists and by two groups, in J coarse bins.
    """

    same_K: np.ndarray
    different_K: np.ndarray
    edge_E: np.ndarray
    same_NxJ: np.ndarray
    different_NxJ: np.ndarray
    same_GxJ: np.ndarray
    different_GxGxJ: np.ndarray

    def middles(self) -> np.ndarray:
        """Returns the distance in the middle of each bin."""
        return (self.edge_E[:-1] + self.edge_E[1:]) / 2


def count_pairs(emb_NxD: np.ndarray, artist_N: np.ndarray) -> Pairs:
    """Counts all N (N - 1) / 2 pairs by their Euclidean distance.

    Args:
      emb_NxD: embeddings.
      artist_N: artist numbers 0, 0, 1, ..., ascending.
    """
    groups, side = min(int(artist_N[-1]) + 1, GROUPS), min(TILE, len(artist_N))
    group_N = artist_N.astype(np.int64) * groups // (artist_N[-1] + 1)
    centered = pairwise.center(emb_NxD)
    square_P = pairwise.sampled_squares(centered)
    edge_E = histogram.edges(square_P)
    arrays = artist_N, group_N, edge_E, histogram.coarse_bins(square_P, edge_E)
    tables = _Tables(centered, *(jnp.asarray(array) for array in arrays))
    fine_2xK = np.zeros((2, BINS), np.int64)
    painting_Nx2xJ = np.zeros((len(artist_N) + side, 2, COARSE_BINS), np.int64)
    different_GxGxJ = np.zeros((groups, groups, COARSE_BINS), np.int64)
    for first, second, (fine_M, group_M, row_M, column_M) in _tiles(tables, side, groups):
        fine_2xK += _count(fine_M, fine_2xK.shape)
        different_GxGxJ += _count(group_M, different_GxGxJ.shape)
        for start, index_M in ((first, row_M), (second, column_M)):
            painting_Nx2xJ[start : start + side] += _count(index_M, (side, 2, COARSE_BINS))
    different_NxJ, same_NxJ = painting_Nx2xJ[: len(artist_N)].swapaxes(0, 1)
    starts_G = np.flatnonzero(np.diff(group_N, prepend=-1))
    return Pairs(
        same_K=fine_2xK[1],
        different_K=fine_2xK[0],
        edge_E=np.sqrt(edge_E.astype(float)) * centered.unit,
        same_NxJ=same_NxJ,
        different_NxJ=different_NxJ,
        same_GxJ=np.add.reduceat(same_NxJ, starts_G) // 2,  # Each pair is two paintings'.
        different_GxGxJ=different_GxGxJ,
    )


class _Tables(NamedTuple):
    """What counting a tile looks up."""

    centered: pairwise.Centered
    artist_N: jax.Array
    group_N: jax.Array
    edge_E: jax.Array
    coarse_K: jax.Array


def _tiles(
    tables: _Tables, side: int, groups: int
) -> Iterator[tuple[int, int, tuple[jax.Array, ...]]]:
    """Yields each tile's first row, first column and `_tile`; the device works one tile ahead."""
    starts, ahead = range(0, len(tables.artist_N), side), []
    for first, second in [(i, j) for i in starts for j in starts if i <= j]:
        with jax.enable_x64(True):
            ahead.append((first, second, _tile(tables, first, second, side=side, groups=groups)))
        if len(ahead) > 1:
            yield ahead.pop(0)
    yield from ahead


@functools.partial(compilation.jit, static_argnames=("side", "groups"))
def _tile(
    tables: _Tables, first: int, second: int, *, side: int, groups: int
) -> tuple[jax.Array, ...]:
    """Compares `side` paintings with `side` others: where each pair counts in four histograms.

    By kind of pair and bin; of pairs by two artists, by their groups and coarse bin; and by first
    and by second painting, kind of pair and coarse bin. Each pair counts in the tile that has its
    first painting in a row and its second in a column.
    """
    offset_M, count = jnp.arange(side, dtype=jnp.int32), len(tables.artist_N)
    offset_Mx1, offset_1xM = offset_M[:, None], offset_M[None]
    is_pair_MxM = (first + offset_Mx1 < second + offset_1xM) & (second + offset_1xM < count)
    row_M, column_M = (jnp.minimum(start + offset_M, count - 1) for start in (first, second))
    square_MxM = pairwise.squares(tables.centered, row_M, column_M)
    bin_MxM = histogram.bins(square_MxM, tables.edge_E)
    coarse_MxM = tables.coarse_K[bin_MxM]
    is_same_MxM = tables.artist_N[row_M][:, None] == tables.artist_N[column_M][None]
    group_MxM = groups * tables.group_N[row_M][:, None] + tables.group_N[column_M][None]
    kind_MxM, is_different_MxM = is_same_MxM.astype(jnp.int32), is_pair_MxM & ~is_same_MxM
    sides = (2 * side, COARSE_BINS)
    return (
        _flat(is_pair_MxM, kind_MxM, bin_MxM, (2, BINS)),
        _flat(is_different_MxM, group_MxM, coarse_MxM, (groups**2, COARSE_BINS)),
        _flat(is_pair_MxM, 2 * offset_Mx1 + kind_MxM, coarse_MxM, sides),
        _flat(is_pair_MxM, 2 * offset_1xM + kind_MxM, coarse_MxM, sides),
    )


def _flat(
    is_counted_MxM: jax.Array, which_MxM: jax.Array, bin_MxM: jax.Array, shape: tuple[int, int]
) -> jax.Array:
    """Indices into several histograms, flattened; behind their end where nothing counts."""
    histograms, bins = shape
    return jnp.where(is_counted_MxM, bins * which_MxM + bin_MxM, histograms * bins).ravel()


def _count(index_M: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Counts indices of a flattened array of this shape; those behind its end are left out."""
    size = math.prod(shape)
    return np.bincount(np.asarray(index_M), minlength=size + 1)[:size].reshape(shape)


def pair_roc_auc(same_K: np.ndarray, different_K: np.ndarray) -> float:
    """Chance that a pair by one artist is nearer than a pair by two, ties counting half.

    >>> pair_roc_auc(np.array([1, 1, 0]), np.array([0, 1, 1]))
    0.875
    """
    farther_K = different_K.sum() - np.cumsum(different_K) + different_K / 2
    return float(same_K @ farther_K / (float(same_K.sum()) * float(different_K.sum())))


def true_positive_rate(
    same_K: np.ndarray, different_K: np.ndarray, *, false_positive_rate: float
) -> float:
    """True-positive rate (TPR) at a false-positive rate (FPR), by linear interpolation.

    >>> true_positive_rate(np.array([6, 4]), np.array([1, 9]), false_positive_rate=0.1)
    0.6
    """
    positive_K, negative_K = _roc(same_K, different_K)
    return float(np.interp(false_positive_rate, negative_K, positive_K))


def equal_error_rate(same_K: np.ndarray, different_K: np.ndarray) -> float:
    """Equal error rate (EER): false-positive rate at the threshold where it is 1 - TPR.

    >>> equal_error_rate(np.array([8, 2]), np.array([2, 8]))
    0.2
    """
    positive_K, negative_K = _roc(same_K, different_K)
    return float(np.interp(0, positive_K + negative_K - 1, negative_K))


METRICS = {
    "pair_roc_auc": pair_roc_auc,
    "equal_error_rate": equal_error_rate,
    "tpr_at_1_percent_fpr": functools.partial(true_positive_rate, false_positive_rate=0.01),
    "tpr_at_0.1_percent_fpr": functools.partial(true_positive_rate, false_positive_rate=0.001),
}


def best_threshold(pairs: Pairs) -> float:
    """Returns the distance threshold with the highest balanced accuracy."""
    positive_E, negative_E = _roc(pairs.same_K, pairs.different_K)
    return float(pairs.edge_E[np.argmax(positive_E - negative_E)])


def at_threshold(pairs: Pairs, distance: float) -> dict[str, float]:
    """True- and false-positive rate and balanced accuracy at a distance threshold."""
    positive_E, negative_E = _roc(pairs.same_K, pairs.different_K)
    tpr, fpr = (float(np.interp(distance, pairs.edge_E, r)) for r in (positive_E, negative_E))
    return {
        "distance": distance,
        "true_positive_rate": tpr,
        "false_positive_rate": fpr,
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
    }


def _roc(same_K: np.ndarray, different_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve: true- and false-positive rate at each edge of the bins, from (0, 0)."""
    positive_K, negative_K = (
        np.concatenate([[0], np.cumsum(count_K)]) / count_K.sum()
        for count_K in (same_K, different_K)
    )
    return positive_K, negative_K
