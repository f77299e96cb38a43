"""The network: blocks of 3 x 3 convolutions with BatchNorm, and a dense head."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

# PyTorch's default for convolutions and dense layers: uniform within 1 / sqrt(fan_in).
pytorch_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# PyTorch's default for LayerNorm and BatchNorm.
EPSILON = 1e-5
MOMENTUM = 0.9


class BatchNorm(nnx.Module):
    """Batch normalization with statistics per branch: y = (x - mean) / sqrt(var + eps) * g + b.

    A batch holds R branches (the anchors, the positives, ...) one after the other. Each is
    normalized by its own mean and biased variance, and they enter the running statistics one after
    the other, the variance unbiased: the same as R calls of torch.nn.BatchNorm2d, in one call.
    Statistics are at least float32, whatever the input's type.
    """

    def __init__(self, features: int) -> None:
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))

    def __call__(self, x_NxHxWxC: jax.Array, *, branches: int | None) -> jax.Array:
        """Normalizes by the batch's `branches`, or by the running statistics where it is None."""
        _, height, width, channels = x_NxHxWxC.shape
        x_RxBxMxC = x_NxHxWxC.reshape(branches or 1, -1, height * width, channels)
        if branches is None:
            mean_RxC, var_RxC = self.mean[...][None], self.var[...][None]
        else:
            mean_RxC = _mean(x_RxBxMxC.astype(jnp.promote_types(x_RxBxMxC.dtype, jnp.float32)))
            var_RxC = _mean(jnp.square(x_RxBxMxC - mean_RxC[:, None, None]))
            self._update(mean_RxC, var_RxC, count=x_RxBxMxC.shape[1] * x_RxBxMxC.shape[2])
        scale_RxC = self.scale[...][None] * jax.lax.rsqrt(var_RxC + EPSILON)
        shift_RxC = self.bias[...][None] - mean_RxC * scale_RxC
        y_RxBxMxC = x_RxBxMxC * scale_RxC[:, None, None] + shift_RxC[:, None, None]
        return y_RxBxMxC.astype(x_NxHxWxC.dtype).reshape(x_NxHxWxC.shape)

    def _update(self, mean_RxC: jax.Array, var_RxC: jax.Array, *, count: int) -> None:
        unbiased_RxC = var_RxC * (count / max(count - 1, 1))
        for mean_C, var_C in zip(mean_RxC, unbiased_RxC, strict=True):
            self.mean[...] = MOMENTUM * self.mean[...] + (1 - MOMENTUM) * mean_C
            self.var[...] = MOMENTUM * self.var[...] + (1 - MOMENTUM) * var_C


class ConvBlock(nnx.Module):
    """`depth` times convolution, BatchNorm and ReLU, then a 2 x 2 max pool."""

    def __init__(
        self, in_features: int, features: int, *, depth: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        inputs = (in_features, *[features] * (depth - 1))
        # No bias: the BatchNorm that follows takes it out again.
        self.convs = nnx.List(
            nnx.Conv(
                width, features, (3, 3), use_bias=False, kernel_init=pytorch_init,
                dtype=dtype, rngs=rngs,
            )
            for width in inputs
        )  # fmt: skip
        self.norms = nnx.List(BatchNorm(features) for _ in inputs)

    def __call__(self, x_NxHxWxC: jax.Array, *, branches: int | None) -> jax.Array:
        """Maps N x H x W x C to N x H/2 x W/2 x features."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_NxHxWxC = jax.nn.relu(norm(conv(x_NxHxWxC), branches=branches))
        return _max_pool(x_NxHxWxC)


class StyleNet(nnx.Module):
    """Embeds images: blocks of convolutions, then Linear, LayerNorm and ReLU.

    Args:
      image_size: side S of the images, divisible by 2 to the number of blocks.
      widths, depths: channels and convolutions of each block.
      embedding_dim: length D of the feature vector.
      dtype: type of the computation; parameters and statistics are float32.
    """

    def __init__(
        self,
        *,
        image_size: int,
        widths: Sequence[int],
        depths: Sequence[int],
        embedding_dim: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        inputs = (3, *widths[:-1])
        self.blocks = nnx.List(
            ConvBlock(width, features, depth=depth, dtype=dtype, rngs=rngs)
            for width, features, depth in zip(inputs, widths, depths, strict=True)
        )
        side = image_size // 2 ** len(widths)
        self.linear = nnx.Linear(
            side * side * widths[-1], embedding_dim, kernel_init=pytorch_init,
            dtype=dtype, rngs=rngs,
        )  # fmt: skip
        self.norm = nnx.LayerNorm(
            embedding_dim, epsilon=EPSILON, dtype=jnp.promote_types(dtype, jnp.float32), rngs=rngs
        )

    def __call__(self, image_NxSxSxC: jax.Array, *, branches: int | None = None) -> jax.Array:
        """Maps images in [-1, 1] to float32 embeddings: N x S x S x 3 to N x D.

        Args:
          image_NxSxSxC: images; in training the branches one after the other.
          branches: in training the number of BatchNorm's branches; None in evaluation.
        """
        x_NxHxWxC = image_NxSxSxC
        for block in self.blocks:
            x_NxHxWxC = block(x_NxHxWxC, branches=branches)
        x_NxF = x_NxHxWxC.reshape(len(x_NxHxWxC), -1)
        return jax.nn.relu(self.norm(self.linear(x_NxF)))


def _mean(x_RxBxMxC: jax.Array) -> jax.Array:
    """Mean over each branch's images and pixels, R x C.

    Each image by itself first: XLA spreads only the outer axes over a CPU's cores. At 24 images of
    64 pixels that took the whole training step from 231 to 190 ms on two cores.
    """
    return x_RxBxMxC.mean(axis=2).mean(axis=1)


def _max_pool(x_NxHxWxC: jax.Array) -> jax.Array:
    """2 x 2 max pool; half the time of nnx.max_pool's forward and backward pass on a CPU."""
    n, h, w, c = x_NxHxWxC.shape
    return x_NxHxWxC.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
