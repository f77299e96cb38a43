"""The compiler's options give right results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from painterjax.distributed import compilation


@pytest.mark.parametrize(("dtype", "rows"), [("float32", 32_769), ("float64", 16_385)])
def test_sums_of_squares_behind_a_product_are_right(dtype, rows):
    """YNNPACK's are those of other rows: https://github.com/jax-ml/jax/issues/39103."""
    with jax.enable_x64(True):
        row_N = jnp.arange(rows, dtype=dtype)
        row_Nx3 = jnp.stack([row_N, jnp.zeros_like(row_N), jnp.zeros_like(row_N)], axis=1)
        matrix_3x3 = jnp.eye(3, dtype=dtype)
        sums = compilation.jit(jax.vmap(lambda row_3: jnp.sum((matrix_3x3 @ row_3) ** 2)))
        np.testing.assert_array_equal(sums(row_Nx3), np.square(np.arange(rows, dtype=dtype)))
