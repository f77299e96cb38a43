"""Verification: are two paintings by one artist? All pairs of a collection, by their distance.

Pairs are counted in bins of distance, those by one artist apart from those by two: memory holds the
bins, not the pairs. All metrics follow from the two histograms; pairs in one bin count as ties.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from painterjax.distributed import compilation, sharding
from painterjax.metrics import histogram, pairwise, tiles
from painterjax.metrics.histogram import BINS, COARSE_BINS
from painterjax.metrics.pairwise import Scale
from painterjax.metrics.tiles import Comparisons, RowBlock

GROUPS = 256  # The bootstrap draws more artists than these in so many groups.


@dataclasses.dataclass(frozen=True)
class Pairs:
    """How many pairs there are at each distance.

    Attributes:
      same_K, different_K: pairs by one artist and by two artists in each of K bins, int64.
      edge_E: the edges of the bins as distances, E = K + 1.
      same_QxJ, different_QxJ: the pairs of each painting that was compared with all, in J coarse
        bins, int32.
      same_GxJ, different_GxGxJ: pairs by group of artists and by two groups, in J coarse bins.
    """

    same_K: np.ndarray
    different_K: np.ndarray
    edge_E: np.ndarray
    same_QxJ: np.ndarray
    different_QxJ: np.ndarray
    same_GxJ: np.ndarray
    different_GxGxJ: np.ndarray

    def middles(self) -> np.ndarray:
        """Returns the distance in the middle of each bin."""
        return (self.edge_E[:-1] + self.edge_E[1:]) / 2


def count_pairs(
    emb_NxD: np.ndarray, artist_N: np.ndarray, query_Q: np.ndarray | None = None
) -> Pairs:
    """Counts all N (N - 1) / 2 pairs by their Euclidean distance.

    Args:
      emb_NxD: embeddings.
      artist_N: artist numbers 0, 0, 1, ..., ascending.
      query_Q: rows; each is paired with all others, and two of these rows twice. None is all rows,
        each two of which are paired once.
    """
    row_N = np.arange(len(emb_NxD))
    work = Comparisons(emb_NxD, row_N if query_Q is None else query_Q, row_N)
    counts = PairCounts(work, artist_N)
    for first, second, tile in work.run(count_tile, *counts.tables):
        counts.add(first, second, tile)
    return counts.pairs()


class Tables(NamedTuple):
    """What counting a tile looks up."""

    scale: Scale
    artist_N: Any
    group_N: Any
    cell_C: Any
    coarse_K: Any
    is_mutual: Any


class CountedTile(NamedTuple):
    """The squared distances of a tile, and where each pair counts in four histograms.

    By kind of pair and bin; of pairs by two artists, by their groups and coarse bin; and by first
    and by second painting, kind of pair and coarse bin. These are indices of flat arrays; behind
    an array's end nothing counts.
    """

    square_MxM: Any
    fine_M: Any
    group_M: Any
    first_M: Any
    second_M: Any


@compilation.jit
def count_tile(rows: RowBlock, columns: RowBlock, tables: Tables) -> CountedTile:
    """Compares two blocks; of paintings that are all compared with all, each two are one pair."""
    square_MxM = tiles.squares(rows, columns, tables.scale)
    is_later_MxM = rows.row_M[:, None] < columns.row_M[None]
    is_pair_MxM = jnp.isfinite(square_MxM) & (is_later_MxM | ~jnp.asarray(tables.is_mutual))
    bin_MxM = histogram.bins(square_MxM, tables.cell_C)
    coarse_MxM = tables.coarse_K[bin_MxM].astype(jnp.int32)
    artist_Mx1, artist_1xM = tables.artist_N[rows.row_M][:, None], tables.artist_N[columns.row_M]
    is_same_MxM = artist_Mx1 == artist_1xM[None]
    kind_MxM, side = is_same_MxM.astype(jnp.int32), len(rows.row_M)
    group_Mx1, groups = _groups_of(rows, tables.group_N)
    other_Mx1, others = _groups_of(columns, tables.group_N)
    which_MxM = others * group_Mx1 + other_Mx1.T
    offset_Mx1 = jnp.arange(side, dtype=jnp.int32)[:, None]
    return CountedTile(
        square_MxM,
        _flat(is_pair_MxM, kind_MxM, bin_MxM, (2, BINS)),
        _flat(is_pair_MxM & ~is_same_MxM, which_MxM, coarse_MxM, (groups * others, COARSE_BINS)),
        _flat(is_pair_MxM, 2 * offset_Mx1 + kind_MxM, coarse_MxM, (2 * side, COARSE_BINS)),
        _flat(is_pair_MxM, 2 * offset_Mx1.T + kind_MxM, coarse_MxM, (2 * side, COARSE_BINS)),
    )


def _groups_of(block: RowBlock, group_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each painting's group, counted from the block's first, M x 1, and how many there are."""
    group_M = group_N[block.row_M] - group_N[block.row_M[0]]
    return group_M[:, None], jnp.where(block.row_M >= 0, group_M, 0).max() + 1


def _flat(
    is_counted_MxM: jax.Array,
    which_MxM: jax.Array,
    bin_MxM: jax.Array,
    shape: tuple[int | jax.Array, int],
) -> jax.Array:
    """Indices into several histograms, flattened; behind their end where nothing counts."""
    histograms, bins = shape
    return jnp.where(is_counted_MxM, bins * which_MxM + bin_MxM, histograms * bins).ravel()


class PairCounts:
    """The pairs of this process's tiles."""

    def __init__(self, work: Comparisons, artist_N: np.ndarray) -> None:
        self._work, scale = work, pairwise.scale_of(work.emb_NxD)
        self._rows, self._columns = work.blocks(work.query_Q), work.blocks(work.other_P)
        groups = min(int(artist_N[-1]) + 1, GROUPS)
        group_N = artist_N.astype(np.int64) * groups // (int(artist_N[-1]) + 1)
        square_P = pairwise.sampled_squares(scale, work.emb_NxD)
        cell_C = histogram.cells(square_P)
        edge_E = histogram.edges(cell_C)
        coarse_K = histogram.coarse_bins(square_P, edge_E)
        self.tables = (Tables(scale, artist_N, group_N, cell_C, coarse_K, work.is_mutual),)
        self._group_N, self._edge_E = group_N, np.sqrt(edge_E.astype(float)) * scale.unit
        self._fine_2xK = np.zeros((2, BINS), np.int64)
        self._painting_Qx2xJ = np.zeros((len(work.query_Q), 2, COARSE_BINS), np.int32)
        self._different_GxGxJ = np.zeros((groups, groups, COARSE_BINS), np.int64)

    def add(self, first: int, second: int, tile: CountedTile) -> None:
        """Counts the pairs of a tile."""
        row_M, column_M, side = self._rows[first], self._columns[second], self._work.side
        self._fine_2xK += _count(tile.fine_M, self._fine_2xK.shape)
        groups, others = (
            slice(int(self._group_N[row[0]]), int(self._group_N[row[-1]]) + 1)
            for row in (row_M, column_M)
        )
        different_GxHxJ = self._different_GxGxJ[groups, others]
        different_GxHxJ += _count(tile.group_M, different_GxHxJ.shape)
        both = [(first, tile.first_M), (second, tile.second_M)]
        for block, index in both[: 1 + self._work.is_mutual]:
            painting_Mx2xJ = self._painting_Qx2xJ[side * block : side * (block + 1)]
            count_Mx2xJ = _count(index, (side, 2, COARSE_BINS))
            painting_Mx2xJ += count_Mx2xJ[: len(painting_Mx2xJ)].astype(np.int32)

    def pairs(self) -> Pairs:
        """Returns the pairs of all processes, which call it together."""
        fine_2xK, painting_Qx2xJ, different_GxGxJ = (
            sharding.sum_of_processes(array)
            for array in (self._fine_2xK, self._painting_Qx2xJ, self._different_GxGxJ)
        )
        different_QxJ, same_QxJ = painting_Qx2xJ.swapaxes(0, 1)
        # Of some groups there may be no query.
        groups, starts = np.unique(self._group_N[self._work.query_Q], return_index=True)
        same_GxJ = np.zeros_like(different_GxGxJ[0])
        same_GxJ[groups] = np.add.reduceat(same_QxJ, starts, dtype=np.int64)
        return Pairs(
            same_K=fine_2xK[1],
            different_K=fine_2xK[0],
            edge_E=self._edge_E,
            same_QxJ=same_QxJ,
            different_QxJ=different_QxJ,
            # Of paintings that are all compared with all, each pair is two paintings'.
            same_GxJ=same_GxJ // 2 if self._work.is_mutual else same_GxJ,
            different_GxGxJ=different_GxGxJ,
        )


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
