"""The network: blocks of 3 x 3 convolutions with BatchNorm, and a head that makes embeddings."""

import dataclasses
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
    are at least float32, whatever the input's type.
    """

    def __init__(self, features: int) -> None:
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
            mean_RxC = _mean(_at_least_float32(x_NxMxC), branches)
            var_RxC = _mean(jnp.square(x_NxMxC - _spread(mean_RxC, count)), branches)
            self._update(mean_RxC, var_RxC, count=count // branches * height * width)
        scale_RxC = self.scale[...][None] * jax.lax.rsqrt(var_RxC + EPSILON)
        shift_RxC = self.bias[...][None] - mean_RxC * scale_RxC
        y_NxMxC = x_NxMxC * _spread(scale_RxC, count) + _spread(shift_RxC, count)
        return y_NxMxC.astype(x_NxHxWxC.dtype).reshape(x_NxHxWxC.shape)

    def _update(self, mean_RxC: jax.Array, var_RxC: jax.Array, *, count: int) -> None:
        unbiased_RxC = var_RxC * (count / max(count - 1, 1))
        for mean_C, var_C in zip(mean_RxC, unbiased_RxC, strict=True):
            self.mean[...] = MOMENTUM * self.mean[...] + (1 - MOMENTUM) * mean_C
            self.var[...] = MOMENTUM * self.var[...] + (1 - MOMENTUM) * var_C


class ConvBlock(nnx.Module):
    """`depth` times convolution, BatchNorm and ReLU."""

    def __init__(
        self, in_features: int, features: int, *, depth: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        inputs = (in_features, *[features] * (depth - 1))
        # No bias: the BatchNorm that follows would subtract it.
        self.convs = nnx.List(
            nnx.Conv(
                width, features, (3, 3), use_bias=False, kernel_init=_pytorch_init(9 * width),
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


class DenseHead(nnx.Module):
    """The reference's head: the last block's pooled pixels through Linear, LayerNorm and ReLU."""

    def __init__(
        self, features: int, embedding_dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.linear = _linear(features, embedding_dim, dtype=dtype, rngs=rngs)
        self.norm = _layer_norm(embedding_dim, dtype=dtype, rngs=rngs)

    def __call__(self, blocks: list[jax.Array]) -> jax.Array:
        """Maps the blocks' activations to embeddings, N x D."""
        x_NxF = _max_pool(blocks[-1]).reshape(blocks[-1].shape[0], -1)
        return jax.nn.relu(self.norm(self.linear(x_NxF)))


class StatisticsHead(nnx.Module):
    """Mean and deviation of every block's channels over the image, through LayerNorm and Linear.

    Such statistics describe the style of an image and not its layout (Huang and Belongie 2017,
    https://arxiv.org/abs/1703.06868). Embeddings have length 1.
    """

    def __init__(
        self, features: int, embedding_dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.norm = _layer_norm(features, dtype=dtype, rngs=rngs)
        self.linear = _linear(features, embedding_dim, dtype=dtype, rngs=rngs)

    def __call__(self, blocks: list[jax.Array]) -> jax.Array:
        """Maps the blocks' activations to embeddings, N x D."""
        x_NxF = jnp.concatenate([_mean_and_deviation(block) for block in blocks], axis=1)
        emb_NxD = self.linear(self.norm(x_NxF))
        emb_NxD = _at_least_float32(emb_NxD)
        return emb_NxD * jax.lax.rsqrt(jnp.square(emb_NxD).sum(axis=1, keepdims=True) + EPSILON)


@dataclasses.dataclass(frozen=True)
class Head:
    """A row of HEADS.

    Attributes:
      module: maps the blocks' activations to embeddings.
      features: the number F of features per image, from image_size and widths.
      pools: the number of 2 x 2 pools in the head.
      any_size: whether it takes images of other sizes than it was built for.
      unit_length: whether embeddings have length 1, so that no distance is above 2.
    """

    module: Callable[..., Any]
    features: Callable[[int, Sequence[int]], int]
    pools: int
    any_size: bool
    unit_length: bool


# What `model.head` names.
HEADS = {
    "dense": Head(
        DenseHead,
        lambda side, widths: (side // 2 ** len(widths)) ** 2 * widths[-1],
        pools=1,
        any_size=False,
        unit_length=False,
    ),
    "statistics": Head(
        StatisticsHead,
        lambda _, widths: 2 * sum(widths),
        pools=0,
        any_size=True,
        unit_length=True,
    ),
}


class StyleNet(nnx.Module):
    """Embeds images: blocks of convolutions with 2 x 2 max pools between them, then a head.

    Args:
      image_size: side S of the images, divisible by 2 for each pool.
      widths, depths: channels and convolutions of each block.
      head: a key of HEADS.
      embedding_dim: length D of the feature vector.
      dtype: type of the computation; parameters and statistics are float32.
    """

    def __init__(
        self,
        *,
        image_size: int,
        widths: Sequence[int],
        depths: Sequence[int],
        head: str,
        embedding_dim: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        inputs = (3, *widths[:-1])
        self.blocks = nnx.List(
            ConvBlock(width, features, depth=depth, dtype=dtype, rngs=rngs)
            for width, features, depth in zip(inputs, widths, depths, strict=True)
        )
        features = HEADS[head].features(image_size, widths)
        self.head = HEADS[head].module(features, embedding_dim, dtype=dtype, rngs=rngs)

    def __call__(self, image_NxSxSxC: jax.Array, *, branches: int | None = None) -> jax.Array:
        """Maps images in [-1, 1] to float32 embeddings: N x S x S x 3 to N x D.

        Args:
          image_NxSxSxC: images; in training the branches one after the other.
          branches: in training the number of BatchNorm's branches; None in evaluation.
        """
        activations = [self.blocks[0](image_NxSxSxC, branches=branches)]
        for block in self.blocks[1:]:
            activations.append(block(_max_pool(activations[-1]), branches=branches))
        return self.head(activations)


def _pytorch_init(inputs: int) -> Callable[..., jax.Array]:
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


def _linear(inputs: int, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    init = _pytorch_init(inputs)
    return nnx.Linear(inputs, outputs, kernel_init=init, bias_init=init, dtype=dtype, rngs=rngs)


def _layer_norm(features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    at_least_float32 = jnp.promote_types(dtype, jnp.float32)
    return nnx.LayerNorm(features, epsilon=EPSILON, dtype=at_least_float32, rngs=rngs)


def _mean_and_deviation(x_NxHxWxC: jax.Array) -> jax.Array:
    """Mean and standard deviation over each image's pixels, N x 2C, in at least float32."""
    x_NxHxWxC = _at_least_float32(x_NxHxWxC)
    deviation_NxC = jnp.sqrt(x_NxHxWxC.var(axis=(1, 2)) + EPSILON)
    return jnp.concatenate([x_NxHxWxC.mean(axis=(1, 2)), deviation_NxC], axis=1)


def _at_least_float32(x: jax.Array) -> jax.Array:
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


def _max_pool(x_NxHxWxC: jax.Array) -> jax.Array:
    """2 x 2 max pool; forward and backward it takes half the time of nnx.max_pool on a CPU."""
    n, h, w, c = x_NxHxWxC.shape
    return x_NxHxWxC.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
