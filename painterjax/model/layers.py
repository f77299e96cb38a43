"""What networks are made of: BatchNorm with branches, and layers that start as PyTorch's."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

# PyTorch's defaults for LayerNorm and BatchNorm.
EPSILON = 1e-5
MOMENTUM = 0.9


class BatchNorm(nnx.Module):
    """Batch normalization with statistics per branch: y = (x - mean) / sqrt(var + eps) * g + b.

    A batch holds R branches (the anchors, the positives, ...) one after the other. Each branch is
    normalized by its own mean and biased variance, and then updates the running mean and, with the
    unbiased variance, the running variance. R calls of torch.nn.BatchNorm2d do the same. Statistics
    are at least float32, whatever the input's type. The defaults are PyTorch's.
    """

    def __init__(
        self, features: int, *, epsilon: float = EPSILON, momentum: float = MOMENTUM
    ) -> None:
        self.epsilon, self.momentum = epsilon, momentum
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))

    def __call__(self, x_NxHxWxC: jax.Array, *, branches: int | None) -> jax.Array:
        """Normalizes by the batch's `branches`, or by the running statistics where it is None."""
        count, height, width, channels = x_NxHxWxC.shape
        x_NxMxC = x_NxHxWxC.reshape(count, height * width, channels)
        if branches is None:
            mean_RxC, var_RxC = self.mean[...][None], self.var[...][None]
        else:
            mean_RxC = _mean(at_least_float32(x_NxMxC), branches)
            var_RxC = _mean(jnp.square(x_NxMxC - _spread(mean_RxC, count)), branches)
            self._update(mean_RxC, var_RxC, count=count // branches * height * width)
        scale_RxC = self.scale[...][None] * jax.lax.rsqrt(var_RxC + self.epsilon)
        shift_RxC = self.bias[...][None] - mean_RxC * scale_RxC
        y_NxMxC = x_NxMxC * _spread(scale_RxC, count) + _spread(shift_RxC, count)
        return y_NxMxC.astype(x_NxHxWxC.dtype).reshape(x_NxHxWxC.shape)

    def running(self) -> tuple[jax.Array, jax.Array]:
        """Returns what the running statistics multiply each channel with, and what they add."""
        scale_C = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
        return scale_C, self.bias[...] - self.mean[...] * scale_C

    def _update(self, mean_RxC: jax.Array, var_RxC: jax.Array, *, count: int) -> None:
        unbiased_RxC = var_RxC * (count / max(count - 1, 1))
        for mean_C, var_C in zip(mean_RxC, unbiased_RxC, strict=True):
            self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean_C
            self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * var_C


def call_block(block: nnx.Module, x: jax.Array, *, remat: bool, **settings: Any) -> jax.Array:
    """Calls a block; with `remat` its gradient computes anew what lies between input and output.

    Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost,
    https://arxiv.org/abs/1604.06174
    """

    def call(block: Any, x: jax.Array) -> jax.Array:
        return block(x, **settings)

    return (nnx.remat(call) if remat else call)(block, x)


def pytorch_init(inputs: int) -> Callable[..., jax.Array]:
    """PyTorch's default for convolutions and dense layers: uniform within 1 / sqrt(inputs).

    NumPy draws the numbers: XLA took 5 seconds to compile the reference's 14 layers of them.
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Any, **_: Any) -> jax.Array:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
        number = rng.random(shape, np.float32)
        number *= 2 * inputs**-0.5
        number -= inputs**-0.5
        return jnp.asarray(number, dtype)

    return init


def linear(inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    init = pytorch_init(inputs)
    return nnx.Linear(inputs, outputs, kernel_init=init, bias_init=init, dtype=dtype, rngs=rngs)


def layer_norm(features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    at_least_float32 = jnp.promote_types(dtype, jnp.float32)
    return nnx.LayerNorm(features, epsilon=EPSILON, dtype=at_least_float32, rngs=rngs)


def max_pool(x_NxHxWxC: jax.Array) -> jax.Array:
    """2 x 2 max pool; forward and backward it takes half the time of nnx.max_pool on a CPU."""
    n, h, w, c = x_NxHxWxC.shape
    return x_NxHxWxC.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def unit_length(emb_NxD: jax.Array) -> jax.Array:
    """Scales embeddings to length 1, in at least float32."""
    emb_NxD = at_least_float32(emb_NxD)
    return emb_NxD * jax.lax.rsqrt(jnp.square(emb_NxD).sum(axis=1, keepdims=True) + EPSILON)


def at_least_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _mean(x_NxMxC: jax.Array, branches: int) -> jax.Array:
    """Mean over each branch's images and pixels, R x C.

    The mean of each image first, as XLA splits only the outer axes over a CPU's cores: with 24
    images of 64 pixels a training step took 190 instead of 231 ms on two cores. And devices that
    share a batch exchange only these means.
    """
    mean_NxC = x_NxMxC.mean(axis=1)
    return mean_NxC.reshape(branches, -1, mean_NxC.shape[1]).mean(axis=1)


def _spread(value_RxC: jax.Array, count: int) -> jax.Array:
    """Repeats each branch's value for its images, N x 1 x C."""
    branches, channels = value_RxC.shape
    value_RxBxC = jnp.broadcast_to(value_RxC[:, None], (branches, count // branches, channels))
    return value_RxBxC.reshape(count, 1, channels)
