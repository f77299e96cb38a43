"""Convolutions that XLA does fast on CPUs too: products of matrices, sums of shifted images."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from painterjax.model.layers import pytorch_init

MAX_IMAGES = 8  # whose gradients are computed at a time
MAX_TERMS = 24  # that one loop of the kernel's gradient adds up


class Convolution(nnx.Module):
    """A kernel of K x K x I x O, float32, and its stride; computes in `dtype`."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        *,
        stride: int = 1,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        kernel = pytorch_init(math.prod(shape[:3]))(rngs.params(), shape, jnp.float32)
        self.kernel, self.stride, self.dtype = nnx.Param(kernel), stride, dtype

    def __call__(
        self,
        x_NxHxWxI: jax.Array,
        scale_O: jax.Array | float = 1.0,
        shift_O: jax.Array | float = 0.0,
    ) -> jax.Array:
        """Convolves, scales and shifts: N x ceil(H / stride) x ceil(W / stride) x O."""
        outputs = self.kernel.shape[3:]
        scale_O, shift_O = (jnp.broadcast_to(of, outputs) for of in (scale_O, shift_O))
        kernel_KxKxIxO = self.kernel[...] * scale_O[None, None, None]
        arrays = (x_NxHxWxI, kernel_KxKxIxO, shift_O)
        return self.convolve(*(array.astype(self.dtype) for array in arrays))

    def convolve(
        self, x_NxHxWxI: jax.Array, kernel_KxKxIxO: jax.Array, shift_O: jax.Array
    ) -> jax.Array:
        """By the library, or on CPUs as a product of matrices."""
        return dense(x_NxHxWxI, kernel_KxKxIxO, shift_O, stride=self.stride)


class Pointwise(Convolution):
    """A 1 x 1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        super().__init__((1, 1, inputs, outputs), dtype=dtype, rngs=rngs)

    def convolve(
        self, x_NxHxWxI: jax.Array, kernel_KxKxIxO: jax.Array, shift_O: jax.Array
    ) -> jax.Array:
        """One product of matrices; with more axes, gradients would need transposed copies."""
        *sides, inputs = x_NxHxWxI.shape
        y_MxO = x_NxHxWxI.reshape(-1, inputs) @ kernel_KxKxIxO[0, 0] + shift_O[None]
        return y_MxO.reshape(*sides, -1)


class Depthwise(Convolution):
    """A convolution of each channel with a kernel of its own."""

    def __init__(
        self, features: int, *, kernel: int, stride: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        super().__init__((kernel, kernel, 1, features), stride=stride, dtype=dtype, rngs=rngs)

    def convolve(
        self, x_NxHxWxI: jax.Array, kernel_KxKxIxO: jax.Array, shift_O: jax.Array
    ) -> jax.Array:
        """By the library, or on CPUs as shifted sums."""
        return depthwise(x_NxHxWxI, kernel_KxKxIxO, shift_O, stride=self.stride)


def dense(
    x_NxHxWxI: jax.Array, kernel_KxKxIxO: jax.Array, shift_O: jax.Array, *, stride: int
) -> jax.Array:
    """Convolves by the library, or on CPUs as a product of matrices."""
    return _by_device(_product, x_NxHxWxI, kernel_KxKxIxO, shift_O, stride=stride)


def depthwise(
    x_NxHxWxC: jax.Array, kernel_KxKx1xC: jax.Array, shift_C: jax.Array, *, stride: int
) -> jax.Array:
    """Convolves each channel with its own kernel, by the library or on CPUs as shifted sums."""
    return _by_device(_shifted_sums, x_NxHxWxC, kernel_KxKx1xC, shift_C, stride=stride)


def _by_device(on_cpus: Callable[..., Any], *arrays: jax.Array, stride: int) -> jax.Array:
    return jax.lax.platform_dependent(
        *arrays,
        cpu=lambda *arrays: on_cpus(*arrays, stride),
        default=functools.partial(by_library, stride=stride),
    )


def by_library(
    x_NxHxWxI: jax.Array, kernel_KxKxIxO: jax.Array, shift_O: jax.Array, *, stride: int
) -> jax.Array:
    """Convolves as XLA's libraries do it."""
    y_NxHxWxO = jax.lax.conv_general_dilated(
        x_NxHxWxI,
        kernel_KxKxIxO,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x_NxHxWxI.shape[3] // kernel_KxKxIxO.shape[2],
    )
    return y_NxHxWxO + shift_O[None, None, None]


def _product(
    x_NxHxWxI: jax.Array, kernel_KxKxIxO: jax.Array, shift_O: jax.Array, stride: int
) -> jax.Array:
    """The product of what each place of the kernel sees, side by side, with the kernel."""
    kernel, sides = len(kernel_KxKxIxO), x_NxHxWxI.shape[1:3]
    padded_NxHxWxI = jnp.pad(x_NxHxWxI, [(0, 0), *_margins(sides, kernel, stride), (0, 0)])
    places = np.ndindex(kernel, kernel)
    seen = [_window(padded_NxHxWxI, place, sides, stride) for place in places]
    seen_NxHxWxP = jnp.concatenate(seen, axis=3)
    *shape, weights = seen_NxHxWxP.shape
    y_MxO = seen_NxHxWxP.reshape(-1, weights) @ kernel_KxKxIxO.reshape(weights, -1)
    return (y_MxO + shift_O[None]).reshape(*shape, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _shifted_sums(
    x_NxHxWxC: jax.Array, kernel_KxKx1xC: jax.Array, shift_C: jax.Array, stride: int
) -> jax.Array:
    """The sum over the kernel's places of the shifted image times a weight for each channel.

    XLA fuses it into one loop over the image: at 32 x 32 x 32 x 144 it takes 12 ms, the library's
    convolution 254 to 460.
    """
    return _forward(x_NxHxWxC, kernel_KxKx1xC, shift_C, stride)[0]


def _forward(
    x_NxHxWxC: jax.Array, kernel_KxKx1xC: jax.Array, shift_C: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    kernel, sides = len(kernel_KxKx1xC), x_NxHxWxC.shape[1:3]
    padded_NxHxWxC = jnp.pad(x_NxHxWxC, [(0, 0), *_margins(sides, kernel, stride), (0, 0)])
    y_NxHxWxC = shift_C[None, None, None]
    for place in np.ndindex(kernel, kernel):
        weight_C = kernel_KxKx1xC[(*place, 0)]
        y_NxHxWxC += _window(padded_NxHxWxC, place, sides, stride) * weight_C[None, None, None]
    return y_NxHxWxC, (x_NxHxWxC, padded_NxHxWxC, kernel_KxKx1xC)


def _backward(
    stride: int, saved: tuple[jax.Array, ...], dy_NxHxWxC: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of image, kernel and shift, a few images at a time.

    The loop keeps what it reads again in the cache, and XLA from computing `dy` again each time.
    """
    x_NxHxWxC, padded_NxHxWxC, kernel_KxKx1xC = saved
    count, *sides, channels = x_NxHxWxC.shape
    images = _largest_divisor(count, MAX_IMAGES)

    def part(
        sums: tuple[jax.Array, jax.Array], arrays: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        padded, dy = arrays
        dkernel = _kernel_gradient(padded, dy, len(kernel_KxKx1xC), sides, stride)
        dx = _image_gradient(dy, kernel_KxKx1xC, sides, stride)
        return (sums[0] + dkernel, sums[1] + _sum_of_pixels(dy)), dx

    sums = jnp.zeros_like(kernel_KxKx1xC), jnp.zeros(channels, dy_NxHxWxC.dtype)
    parts = [a.reshape(-1, images, *a.shape[1:]) for a in (padded_NxHxWxC, dy_NxHxWxC)]
    (dkernel, dshift), dx = jax.lax.scan(part, sums, (parts[0], parts[1]))
    return dx.reshape(x_NxHxWxC.shape), dkernel, dshift


_shifted_sums.defvjp(_forward, _backward)


def _kernel_gradient(
    padded_NxHxWxC: jax.Array, dy_NxHxWxC: jax.Array, kernel: int, sides: Sequence[int], stride: int
) -> jax.Array:
    """Sums of `dy` times what each place saw.

    The loop that multiplies adds up some rows of some images; fewer than 16 terms took twice as
    long. A product of matrices adds the rest.
    """
    count, height, _, channels = dy_NxHxWxC.shape
    rows = _largest_divisor(height, MAX_TERMS)
    images = _largest_divisor(count, MAX_TERMS // rows)
    terms = list(np.ndindex(images, rows))
    weights = []
    for place in np.ndindex(kernel, kernel):
        seen = _window(padded_NxHxWxC, place, sides, stride)
        products = (
            seen[image::images, row::rows] * dy_NxHxWxC[image::images, row::rows]
            for image, row in terms
        )
        weights.append(_sum_of_pixels(functools.reduce(jnp.add, products)))
    return jnp.stack(weights).reshape(kernel, kernel, 1, channels)


def _sum_of_pixels(x_NxHxWxC: jax.Array) -> jax.Array:
    """Sums all but channels, as a product of matrices; XLA's sum takes longer on CPUs."""
    x_MxC = x_NxHxWxC.reshape(-1, x_NxHxWxC.shape[-1])
    return jnp.ones(len(x_MxC), x_MxC.dtype) @ x_MxC


def _largest_divisor(number: int, most: int) -> int:
    return max(part for part in range(1, most + 1) if number % part == 0)


def _image_gradient(
    dy_NxHxWxC: jax.Array, kernel_KxKx1xC: jax.Array, sides: Sequence[int], stride: int
) -> jax.Array:
    """Each of the stride's phases of the image by the weights that reach it, then interleaved."""
    kernel, (count, height, width, channels) = len(kernel_KxKx1xC), dy_NxHxWxC.shape
    reach = -(-kernel // stride) - 1  # How many results before its own a pixel has a part in.
    padded_NxHxWxC = jnp.pad(dy_NxHxWxC, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    rows, columns = height + reach, width + reach
    phases = []
    for row, column in np.ndindex(stride, stride):
        phase = 0.0
        for i in range(row, kernel, stride):
            for j in range(column, kernel, stride):
                place, weight_C = (
                    (reach - i // stride, reach - j // stride),
                    kernel_KxKx1xC[i, j, 0],
                )
                seen = _window(padded_NxHxWxC, place, (rows, columns), 1)
                phase += seen * weight_C[None, None, None]
        phases.append(phase)
    whole = jnp.stack(phases).reshape(stride, stride, count, rows, columns, channels)
    whole = whole.transpose(2, 3, 0, 4, 1, 5)
    whole = whole.reshape(count, stride * rows, stride * columns, channels)
    (top, _), (left, _) = _margins(sides, kernel, stride)
    return whole[:, top : top + sides[0], left : left + sides[1]]


def _margins(sides: Sequence[int], kernel: int, stride: int) -> list[tuple[int, int]]:
    """TensorFlow's SAME padding of each side: what is left over comes after the image."""
    margins = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in sides]
    return [(margin // 2, margin - margin // 2) for margin in margins]


def _window(
    padded_NxHxWxC: jax.Array, place: tuple[int, ...], sides: Sequence[int], stride: int
) -> jax.Array:
    """The pixels that one place of the kernel sees."""
    last = [at + stride * ((side - 1) // stride) + 1 for at, side in zip(place, sides, strict=True)]
    count, _, _, channels = padded_NxHxWxC.shape
    limits = (count, *last, channels)
    return jax.lax.slice(padded_NxHxWxC, (0, *place, 0), limits, (1, stride, stride, 1))
