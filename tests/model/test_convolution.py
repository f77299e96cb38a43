"""Depthwise convolutions as shifted sums: against the library's, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from painterjax.model import convolution


@pytest.mark.parametrize("side", [7, 8])  # SAME pads them differently where the stride is 2.
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_shifted_sums_are_the_library_s_convolution_and_have_its_gradients(kernel, stride, side):
    rng = np.random.default_rng(0)
    height, width, channels = side, side + 3, 6
    count = 9  # The gradient takes 3 images at a time.
    out = (count, -(-height // stride), -(-width // stride), channels)
    shapes = ((count, height, width, channels), (kernel, kernel, 1, channels), (channels,), out)
    *arrays, gradient = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, gradient, *arrays):
        value, vjp = jax.vjp(functools.partial(function, stride=stride), *arrays)
        return value, *vjp(gradient)

    ours = value_and_gradients(convolution.depthwise, gradient, *arrays)
    library = value_and_gradients(convolution.by_library, gradient, *arrays)
    # The largest sums have 9 * 88 = 792 products of size 1, each right to some 792 / 2^24 = 5e-5;
    # errors of either side add up like sqrt(792).
    for mine, other in zip(ours, library, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-3)
        assert np.abs(other).mean() > 0.5


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices take the library's")
def test_a_cpu_takes_shifted_sums_and_no_convolution_of_the_library():
    arrays = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4)), jnp.ones(4)
    for function, is_library in ((convolution.depthwise, False), (convolution.by_library, True)):
        lowered = jax.jit(functools.partial(function, stride=1)).lower(*arrays)
        assert ("convolution(" in str(lowered.compile().as_text())) == is_library
