"""Squared distances between many embeddings, exact up to rounding wherever these lie.

By |a|^2 + |b|^2 - 2 ab, which loses small distances between long vectors: in float64 it loses what
is below a ten-millionth of their lengths, where float32's own digits end, and calls it 0.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CENTER_SAMPLE = 1000
SAMPLED_SIDE = 512  # The distances between so many and as many tell where pairs are.
# The largest number becomes 2^50 at least: squared distances fill the range of float32.
TOP_EXPONENT = 51
ROUNDING = 2.0**-46


class Placed(NamedTuple):
    """Embeddings on the device, in float64.

    Attributes:
      emb_NxD: the embeddings around their median, in units of `unit`.
      square_N: their squared lengths.
      unit: a power of two.
    """

    emb_NxD: jax.Array
    square_N: jax.Array
    unit: float


def place(emb_NxD: np.ndarray) -> Placed:
    """Centers and scales embeddings of any magnitude; one that lies far out moves no other."""
    step = max(len(emb_NxD) // CENTER_SAMPLE, 1)
    center_D = np.median(emb_NxD[::step].astype(np.float64), axis=0)
    largest = max((emb_NxD.max(axis=0) - center_D).max(), (center_D - emb_NxD.min(axis=0)).max())
    unit = 2.0 ** (math.frexp(largest)[1] - TOP_EXPONENT)
    with jax.enable_x64(True):
        placed_NxD, square_N = _placed(emb_NxD, center_D, unit)
    return Placed(placed_NxD, square_N, unit)


@jax.jit
def _placed(emb_NxD: jax.Array, center_D: jax.Array, unit: float) -> tuple[jax.Array, jax.Array]:
    placed_NxD = (emb_NxD.astype(jnp.float64) - center_D[None]) / unit
    return placed_NxD, jnp.square(placed_NxD).sum(axis=1)


def squares(placed: Placed, row_P: jax.Array, column_Q: jax.Array | None = None) -> jax.Array:
    """Squared distances of some rows to some, or to all, in units of unit^2: float32 P x Q.

    To be traced in float64.
    """
    column_QxD, square_Q = placed.emb_NxD, placed.square_N
    if column_Q is not None:
        column_QxD, square_Q = column_QxD[column_Q], square_Q[column_Q]
    product_PxQ = jnp.matmul(placed.emb_NxD[row_P], column_QxD.T, precision="highest")
    sum_PxQ = placed.square_N[row_P][:, None] + square_Q[None]
    square_PxQ = sum_PxQ - 2 * product_PxQ
    return jnp.where(square_PxQ > ROUNDING * sum_PxQ, square_PxQ, 0).astype(jnp.float32)


def sampled_squares(placed: Placed) -> np.ndarray:
    """Returns the squared distances of some pairs, without those of 0."""
    row_2xM = np.random.default_rng(0).integers(len(placed.square_N), size=(2, SAMPLED_SIDE))
    with jax.enable_x64(True):
        square_MxM = np.asarray(jax.jit(squares)(placed, *row_2xM))
    return square_MxM[square_MxM > 0]
