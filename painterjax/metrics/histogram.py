"""Bins of squared distance: narrow where many pairs are, and nowhere wide beside the distance."""

import jax
import jax.numpy as jnp
import numpy as np

BINS = 2**20
COARSE_BINS = 128  # of the bootstrap and of single paintings
# A cell holds the floats that share sign, exponent and nine bits of the fraction, so that it spans
# 1/512 of a squared distance. It has 2^2 bins or more, which leaves half of all bins to the sample.
CELL_BITS = 14  # of a float, that differ within a cell
LEAST_BITS = 2
CELLS = int(np.float32(np.inf).view(np.int32)) >> CELL_BITS
SHIFT_BITS = 5  # of a cell's entry, in which its shift is


def cells(square_P: np.ndarray) -> np.ndarray:
    """Divides the cells into bins: where many of the sampled squares are into the most.

    Returns:
      cell_C: int32, of each cell the number of its first bin, and behind SHIFT_BITS how many bits
      of a float its bins do not tell.
    """
    sampled_C = np.bincount(square_P.view(np.int32) >> CELL_BITS, minlength=CELLS)
    wanted_C = np.maximum(sampled_C / max(len(square_P), 1) * (BINS // 2), 2**LEAST_BITS)
    bits_C = np.minimum(np.log2(wanted_C).astype(int), CELL_BITS)
    first_C = np.cumsum(2**bits_C) - 2**bits_C
    return (first_C << SHIFT_BITS | CELL_BITS - bits_C).astype(np.int32)


def edges(cell_C: np.ndarray) -> np.ndarray:
    """Returns the BINS + 1 edges of the bins: float32, from 0; those behind the last are equal.

    No bin is wider than 1 / 2,048 of the squares in it.
    """
    first_C, shift_C = cell_C >> SHIFT_BITS, cell_C & (2**SHIFT_BITS - 1)
    count_C = 2 ** (CELL_BITS - shift_C)
    place_K = np.arange(count_C.sum()) - np.repeat(first_C, count_C)
    start_C = np.arange(CELLS) << CELL_BITS
    edge_K = np.repeat(start_C, count_C) + (place_K << np.repeat(shift_C, count_C))
    edge_E = np.full(BINS + 1, np.finfo(np.float32).max)
    edge_E[: len(edge_K)] = edge_K.astype(np.int32).view(np.float32)
    return edge_E.astype(np.float32)


def coarse_bins(square_P: np.ndarray, edge_E: np.ndarray) -> np.ndarray:
    """Maps each bin to one of COARSE_BINS, narrow where the nearest pairs are: int8 K."""
    share_J = np.linspace(0, 1, COARSE_BINS + 1)[1:-1] ** 3
    coarse_edge_J = np.quantile(square_P, share_J) if len(square_P) else share_J
    return np.searchsorted(coarse_edge_J, edge_E[:-1]).astype(np.int8)


def bins(square_PxQ: jax.Array, cell_C: jax.Array) -> jax.Array:
    """Returns the bin of each squared distance, float32, in 1 nanosecond of a CPU core."""
    bits_PxQ = jax.lax.bitcast_convert_type(square_PxQ, jnp.int32)
    entry_PxQ = cell_C[bits_PxQ >> CELL_BITS]
    within_PxQ = bits_PxQ & (2**CELL_BITS - 1)
    return (entry_PxQ >> SHIFT_BITS) + (within_PxQ >> (entry_PxQ & (2**SHIFT_BITS - 1)))
