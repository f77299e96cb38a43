"""Steps of squared distance: narrow where many pairs are, and narrow beside the distance anywhere.

The bits of a float32 from 0 on are ordered as it is: the upper ones are its cell, the lower ones
tell the step in the cell. Every finite cell has some steps; the rest goes to where pairs are.
"""

import jax
import jax.numpy as jnp
import numpy as np

STEPS = 2**20
LOWER_BITS = 15
CELLS, STEPS_OF_ANY_CELL, STEPS_BY_SAMPLE = 0x7F800000 >> LOWER_BITS, 8, 2**19
MERGED_STEPS = 128  # of the bootstrap


def first_steps(square_P: np.ndarray) -> np.ndarray:
    """Returns the first step of each cell, and behind the last one STEPS."""
    sampled_C = np.bincount(square_P.view(np.int32) >> LOWER_BITS, minlength=CELLS)
    steps_C = STEPS_OF_ANY_CELL + STEPS_BY_SAMPLE * sampled_C // max(len(square_P), 1)
    steps_C[np.argmax(steps_C)] += STEPS - steps_C.sum()
    return np.concatenate([[0], np.cumsum(steps_C)])


def ends(first_C: np.ndarray) -> np.ndarray:
    """Returns the squared distances at which steps begin and end, STEPS + 1."""
    begin_C = (np.arange(CELLS, dtype=np.int32) << LOWER_BITS).view(np.float32).astype(float)
    end_C = np.append(begin_C[1:], np.finfo(np.float32).max)
    steps_C = np.diff(first_C)
    place_K = np.arange(STEPS) - np.repeat(first_C[:-1], steps_C)
    width_K = np.repeat((end_C - begin_C) / steps_C, steps_C)
    return np.append(np.repeat(begin_C, steps_C) + place_K * width_K, end_C[-1])


def merged_steps(square_P: np.ndarray, end_E: np.ndarray) -> np.ndarray:
    """Maps each step to one of MERGED_STEPS, narrow where the nearest pairs are: int64 K."""
    share_J = np.linspace(0, 1, MERGED_STEPS + 1)[1:-1] ** 3
    merged_end_J = np.quantile(square_P, share_J) if len(square_P) else share_J
    return np.searchsorted(merged_end_J, end_E[:-1])


def steps(square_MxM: jax.Array, first_C: jax.Array) -> jax.Array:
    """Returns the step of each squared distance."""
    bits_MxM = jax.lax.bitcast_convert_type(square_MxM, jnp.int32)
    cell_MxM, lower_MxM = bits_MxM >> LOWER_BITS, bits_MxM & (2**LOWER_BITS - 1)
    first_MxM = first_C[cell_MxM]
    # Less than one in float32 as well, as the last of 2^15 places is.
    share_MxM = lower_MxM.astype(jnp.float32) / 2**LOWER_BITS
    return first_MxM + ((first_C[cell_MxM + 1] - first_MxM) * share_MxM).astype(jnp.int32)
