"""The backbone of the reference and of training from scratch: blocks of 3 x 3 convolutions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from painterjax.model.layers import BatchNorm, call_block, max_pool, pytorch_init


class ConvBlock(nnx.Module):
    """`depth` times convolution, BatchNorm and ReLU."""

    def __init__(
        self, in_features: int, features: int, *, depth: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        inputs = (in_features, *[features] * (depth - 1))
        # No bias: the BatchNorm that follows would subtract it.
        self.convs = nnx.List(
            nnx.Conv(
                width, features, (3, 3), use_bias=False, kernel_init=pytorch_init(9 * width),
                dtype=dtype, rngs=rngs,
            )
            for width in inputs
        )  # fmt: skip
        self.norms = nnx.List(BatchNorm(features) for _ in inputs)

    def __call__(self, x_NxHxWxC: jax.Array, *, branches: int | None) -> jax.Array:
        """Maps N x H x W x C to N x H x W x features."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_NxHxWxC = jax.nn.relu(norm(conv(x_NxHxWxC), branches=branches))
        return x_NxHxWxC


class ConvBlocks(nnx.Module):
    """Blocks with 2 x 2 max pools between them.

    Args:
      widths: channels of each block.
      depths: convolutions of each block.
      remat: whether the gradient computes a block's activations anew; see `call_block`.
      dtype: type of the computation; parameters and statistics are float32.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        depths: Sequence[int],
        remat: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        inputs = (3, *widths[:-1])
        self.blocks = nnx.List(
            ConvBlock(width, features, depth=depth, dtype=dtype, rngs=rngs)
            for width, features, depth in zip(inputs, widths, depths, strict=True)
        )
        self.channels, self.remat = tuple(widths), remat

    def __call__(self, image_NxSxSxC: jax.Array, *, branches: int | None) -> list[jax.Array]:
        """Maps images in [-1, 1] to the activations of each block."""
        stages = []
        for block in self.blocks:
            x_NxHxWxC = max_pool(stages[-1]) if stages else image_NxSxSxC
            stages.append(call_block(block, x_NxHxWxC, remat=self.remat, branches=branches))
        return stages
