"""Convolutions as products and as shifted sums: against the library's, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from painterjax.model import convolution


@pytest.mark.parametrize("side", [7, 8])  # SAME pads them differently where the stride is 2.
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("convolve", [convolution.dense, convolution.depthwise])
def test_a_cpu_s_convolution_is_the_library_s_and_has_its_gradients(convolve, kernel, stride, side):
    rng = np.random.default_rng(0)
    height, width, channels = side, side + 3, 6
    inputs = channels if convolve is convolution.dense else 1
    count = 9  # The gradient takes 3 images at a time.
    out = (count, -(-height // stride), -(-width // stride), channels)
    shapes = (
        (count, height, width, channels),
        (kernel, kernel, inputs, channels),
        (channels,),
        out,
    )
    *arrays, gradient = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, gradient, *arrays):
        value, vjp = jax.vjp(functools.partial(function, stride=stride), *arrays)
        return value, *vjp(gradient)

    ours = value_and_gradients(convolve, gradient, *arrays)
    library = value_and_gradients(convolution.by_library, gradient, *arrays)
    # The largest sums have 9 * 88 = 792 products of size 1, each right to some 792 / 2^24 = 5e-5;
    # errors of either side add up like sqrt(792).
    for mine, other in zip(ours, library, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-3)
        assert np.abs(other).mean() > 0.5


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices take the library's")
@pytest.mark.parametrize("inputs", [1, 4])
def test_a_cpu_takes_no_convolution_of_the_library(inputs):
    arrays = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, inputs, 4)), jnp.ones(4)
    ours = convolution.depthwise if inputs == 1 else convolution.dense
    for function, is_library in ((ours, False), (convolution.by_library, True)):
        lowered = jax.jit(functools.partial(function, stride=1)).lower(*arrays)
        assert ("convolution(" in str(lowered.compile().as_text())) == is_library
