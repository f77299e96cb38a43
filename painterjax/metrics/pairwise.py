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


class Scale(NamedTuple):
    """What embeddings are compared in: minus `center_D`, in units of `unit`, a power of two."""

    center_D: np.ndarray
    unit: float


def scale_of(emb_NxD: np.ndarray) -> Scale:
    """Centers and scales embeddings of any magnitude; by the median, so that outliers do not count.

    The scale is a power of two and rounds nothing.
    """
    step = max(len(emb_NxD) // CENTER_SAMPLE, 1)
    center_D = np.median(emb_NxD[::step].astype(np.float64), axis=0)
    largest = max((emb_NxD.max(axis=0) - center_D).max(), (center_D - emb_NxD.min(axis=0)).max())
    return Scale(center_D, 2.0 ** (math.frexp(largest)[1] - TOP_EXPONENT))


def squares(scale: Scale, emb_PxD: jax.Array, other_QxD: jax.Array) -> jax.Array:
    """Squared distances of some embeddings to others, in units of unit^2: float32 P x Q.

    To be traced in float64.
    """
    emb_PxD, other_QxD = (
        (x.astype(jnp.float64) - scale.center_D[None]) / scale.unit for x in (emb_PxD, other_QxD)
    )
    square_P, square_Q = (jnp.square(x).sum(axis=1) for x in (emb_PxD, other_QxD))
    product_PxQ = jnp.matmul(emb_PxD, other_QxD.T, precision="highest")
    sum_PxQ = square_P[:, None] + square_Q[None]
    square_PxQ = sum_PxQ - 2 * product_PxQ
    return jnp.where(square_PxQ > ROUNDING * sum_PxQ, square_PxQ, 0).astype(jnp.float32)


def sampled_squares(scale: Scale, emb_NxD: np.ndarray) -> np.ndarray:
    """Returns the squared distances above 0 of a random sample of pairs."""
    row_2xM = np.random.default_rng(0).integers(len(emb_NxD), size=(2, SAMPLE_SIDE))
    with jax.enable_x64(True):
        square_MxM = np.asarray(compilation.jit(squares)(scale, *emb_NxD[row_2xM]))
    return square_MxM[square_MxM > 0]
