"""Squared distances between many embeddings, in float64 and by matrix products.

|a|^2 + |b|^2 - 2 ab cancels where a and b are long and near each other. In float64 only distances
below a ten-millionth of their lengths are lost, which float32 embeddings do not resolve either;
they become 0.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from painterjax.distributed import compilation

CENTER_SAMPLE = 1000  # Rows that the median is taken of.
SAMPLE_SIDE = 512  # The sample that places the bins has so many rows and as many columns.
# The largest number becomes 2^50 at least: squared distances fill the range of float32.
TOP_EXPONENT = 51
ROUNDING = 2.0**-46


class Centered(NamedTuple):
    """Embeddings on the device, in float64.

    Attributes:
      emb_NxD: the embeddings minus their median, in units of `unit`.
      square_N: their squared lengths.
      unit: a power of two.
    """

    emb_NxD: jax.Array
    square_N: jax.Array
    unit: float


def center(emb_NxD: np.ndarray) -> Centered:
    """Centers and scales embeddings of any magnitude; by the median, so that outliers do not count.

    The scale is a power of two and rounds nothing.
    """
    step = max(len(emb_NxD) // CENTER_SAMPLE, 1)
    center_D = np.median(emb_NxD[::step].astype(np.float64), axis=0)
    largest = max((emb_NxD.max(axis=0) - center_D).max(), (center_D - emb_NxD.min(axis=0)).max())
    unit = 2.0 ** (math.frexp(largest)[1] - TOP_EXPONENT)
    with jax.enable_x64(True):
        centered_NxD, square_N = _center(emb_NxD, center_D, unit)
    return Centered(centered_NxD, square_N, unit)


@compilation.jit
def _center(emb_NxD: jax.Array, center_D: jax.Array, unit: float) -> tuple[jax.Array, jax.Array]:
    centered_NxD = (emb_NxD.astype(jnp.float64) - center_D[None]) / unit
    return centered_NxD, jnp.square(centered_NxD).sum(axis=1)


def squares(centered: Centered, row_P: jax.Array, column_Q: jax.Array | None = None) -> jax.Array:
    """Squared distances of some rows to some, or to all, in units of unit^2: float32 P x Q.

    To be traced in float64.
    """
    column_QxD, square_Q = centered.emb_NxD, centered.square_N
    if column_Q is not None:
        column_QxD, square_Q = column_QxD[column_Q], square_Q[column_Q]
    product_PxQ = jnp.matmul(centered.emb_NxD[row_P], column_QxD.T, precision="highest")
    sum_PxQ = centered.square_N[row_P][:, None] + square_Q[None]
    square_PxQ = sum_PxQ - 2 * product_PxQ
    return jnp.where(square_PxQ > ROUNDING * sum_PxQ, square_PxQ, 0).astype(jnp.float32)


def sampled_squares(centered: Centered) -> np.ndarray:
    """Returns the squared distances above 0 of a random sample of pairs."""
    row_2xM = np.random.default_rng(0).integers(len(centered.square_N), size=(2, SAMPLE_SIDE))
    with jax.enable_x64(True):
        square_MxM = np.asarray(compilation.jit(squares)(centered, *row_2xM))
    return square_MxM[square_MxM > 0]
