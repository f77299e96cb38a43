"""Vision transformers with published weights: DINOv2, and the image towers of CLIP and SigLIP.

Dosovitskiy et al. 2021 (https://arxiv.org/abs/2010.11929); Oquab et al. 2023
(https://arxiv.org/abs/2304.07193); Radford et al. 2021 (https://arxiv.org/abs/2103.00020); Zhai et
al. 2023 (https://arxiv.org/abs/2303.15343).
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from painterjax.model.layers import call_block, linear, pytorch_init

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI: tuple[Triple, Triple] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
HALVES: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's approximation of GELU: x * sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


exact_gelu = functools.partial(jax.nn.gelu, approximate=False)
tanh_gelu = functools.partial(jax.nn.gelu, approximate=True)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the published transformers differ in.

    Attributes:
      width, depth, heads, hidden: of the blocks.
      patch: side of a patch in pixels.
      grid: side of the square of patches that the positions were learned for.
      activation: of the blocks.
      epsilon: of the LayerNorms.
      colors: mean and deviation of the pixels in [0, 1].
      class_token: whether a token for the whole image stands first.
      registers: tokens behind it that stand for nothing.
      patch_bias: whether patches have one; CLIP's have not.
      norm_first: whether a norm stands before the blocks, as in CLIP.
      layer_scale: whether what a block adds is scaled by channel, as in DINOv2.
      antialias: how positions are resized.
      attention_pool: whether a last stage pools the tokens, as SigLIP's.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    grid: int
    activation: Callable[[jax.Array], jax.Array]
    epsilon: float
    colors: tuple[Triple, Triple]
    class_token: bool = True
    registers: int = 0
    patch_bias: bool = True
    norm_first: bool = False
    layer_scale: bool = False
    antialias: bool = False
    attention_pool: bool = False

    @property
    def stages(self) -> int:
        """Behind each block, behind the last norm, and the pooled token."""
        return self.depth + 1 + self.attention_pool


class Block(nnx.Module):
    """Attention among the tokens, then two dense layers, each with a norm before and a skip."""

    query_adapter: nnx.LoRA  # Where there is one.
    value_adapter: nnx.LoRA

    def __init__(self, arch: Architecture, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        dense = functools.partial(linear, dtype=dtype, rngs=rngs)
        self.norm1, self.norm2 = (_norm(arch, dtype=dtype, rngs=rngs) for _ in range(2))
        self.query, self.key, self.value, self.out = (
            dense(arch.width, arch.width) for _ in range(4)
        )
        self.up, self.down = dense(arch.width, arch.hidden), dense(arch.hidden, arch.width)
        self.scale1, self.scale2 = (
            nnx.Param(jnp.ones(arch.width)) if arch.layer_scale else None for _ in range(2)
        )
        self.arch = arch

    def __call__(self, x_NxTxC: jax.Array) -> jax.Array:
        """Maps tokens to tokens."""
        y_NxTxC = self.norm1(x_NxTxC)
        query, key, value = (layer(y_NxTxC) for layer in (self.query, self.key, self.value))
        if hasattr(self, "query_adapter"):
            query, value = query + self.query_adapter(y_NxTxC), value + self.value_adapter(y_NxTxC)
        y_NxTxC = self.out(_attend(query, key, value, heads=self.arch.heads))
        x_NxTxC += _scaled(y_NxTxC, self.scale1)
        y_NxTxC = self.down(self.arch.activation(self.up(self.norm2(x_NxTxC))))
        return x_NxTxC + _scaled(y_NxTxC, self.scale2)


class AttentionPool(nnx.Module):
    """One learned token attends to all others, then two dense layers with a skip."""

    def __init__(self, arch: Architecture, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        dense = functools.partial(linear, dtype=dtype, rngs=rngs)
        self.probe = nnx.Param(jnp.zeros(arch.width))
        self.query_key_value = dense(arch.width, 3 * arch.width)
        self.out = dense(arch.width, arch.width)
        self.norm = _norm(arch, dtype=dtype, rngs=rngs)
        self.up, self.down = dense(arch.width, arch.hidden), dense(arch.hidden, arch.width)
        self.arch = arch

    def __call__(self, x_NxTxC: jax.Array) -> jax.Array:
        """Maps tokens to one, N x 1 x C."""
        probe_Nx1xC = jnp.broadcast_to(self.probe[None, None], (len(x_NxTxC), 1, self.arch.width))
        query, _, _ = jnp.split(self.query_key_value(probe_Nx1xC), 3, axis=2)
        _, key, value = jnp.split(self.query_key_value(x_NxTxC), 3, axis=2)
        x_Nx1xC = self.out(_attend(query, key, value, heads=self.arch.heads))
        return x_Nx1xC + self.down(self.arch.activation(self.up(self.norm(x_Nx1xC))))


class Patches(nnx.Module):
    """A convolution whose stride is its kernel's side, as one product of matrices."""

    def __init__(self, arch: Architecture, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        shape = (arch.patch, arch.patch, 3, arch.width)
        init = pytorch_init(3 * arch.patch**2)
        self.kernel = nnx.Param(init(rngs.params(), shape, jnp.float32))
        if arch.patch_bias:
            self.bias = nnx.Param(jnp.zeros(arch.width))
        self.dtype = dtype

    def __call__(self, image_NxSxSxC: jax.Array) -> jax.Array:
        """Maps N x S x S x 3 to N x S/P x S/P x width, for whole patches of P x P."""
        side, features = self.kernel.shape[0], self.kernel.shape[-1]
        count, height, width, _ = image_NxSxSxC.shape
        rows, columns = height // side, width // side
        whole = image_NxSxSxC[:, : rows * side, : columns * side].astype(self.dtype)
        pixels = whole.reshape(count, rows, side, columns, side, 3)
        seen_NxHxWxP = pixels.swapaxes(2, 3).reshape(count, rows, columns, -1)
        y_NxHxWxC = seen_NxHxWxP @ self.kernel[...].astype(self.dtype).reshape(-1, features)
        if not hasattr(self, "bias"):
            return y_NxHxWxC
        return y_NxHxWxC + self.bias[...].astype(self.dtype)[None, None, None]


class VisionTransformer(nnx.Module):
    """Patches become tokens, which blocks change.

    Args:
      arch: the architecture.
      remat: whether the gradient computes a block's activations anew; see `call_block`.
      dtype: type of the computation; parameters are float32.
    """

    def __init__(
        self, arch: Architecture, *, remat: bool, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.patches = Patches(arch, dtype=dtype, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((arch.class_token + arch.grid**2, arch.width)))
        if arch.class_token:
            self.class_token = nnx.Param(jnp.zeros(arch.width))
        if arch.registers:
            self.registers = nnx.Param(jnp.zeros((arch.registers, arch.width)))
        if arch.norm_first:
            self.norm_first = _norm(arch, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(Block(arch, dtype=dtype, rngs=rngs) for _ in range(arch.depth))
        self.norm = _norm(arch, dtype=dtype, rngs=rngs)
        if arch.attention_pool:
            self.pool = AttentionPool(arch, dtype=dtype, rngs=rngs)
        self.arch, self.dtype, self.remat = arch, dtype, remat
        self.channels = (arch.width,) * arch.stages

    def add_adapters(self, rank: int, *, rngs: nnx.Rngs) -> None:
        """Adds x A B, of this rank, to each block's query and value; B is 0 at first.

        Hu et al. 2021 (https://arxiv.org/abs/2106.09685), with alpha = rank; A is drawn as in their
        code, uniform within 1 / sqrt(width).
        """
        width = self.arch.width
        for block in self.blocks:
            block.query_adapter, block.value_adapter = (
                nnx.LoRA(
                    width, rank, width, a_initializer=pytorch_init(width), dtype=self.dtype,
                    rngs=rngs,
                )
                for _ in range(2)
            )  # fmt: skip

    def __call__(self, image_NxSxSxC: jax.Array, *, branches: int | None) -> list[jax.Array]:
        """Maps images in [-1, 1] to the tokens behind each block and, normed, the last ones.

        Where the class token and registers are, they stand before those of the patches. SigLIP's
        pooled token follows as one more stage. `branches` means nothing here.
        """
        x_NxTxC = self._tokens(image_NxSxSxC)
        if self.arch.norm_first:
            x_NxTxC = self.norm_first(x_NxTxC)
        stages = [x_NxTxC := call_block(block, x_NxTxC, remat=self.remat) for block in self.blocks]
        stages.append(self.norm(x_NxTxC))
        return [*stages, self.pool(stages[-1])] if self.arch.attention_pool else stages

    def _tokens(self, image_NxSxSxC: jax.Array) -> jax.Array:
        mean, deviation = np.array(self.arch.colors, np.float32)[:, None, None, None]
        x_NxHxWxC = self.patches(((image_NxSxSxC + 1) / 2 - mean) / deviation)
        count, height, width, channels = x_NxHxWxC.shape
        before_TxC, learned_TxC = jnp.split(self.positions[...], [int(self.arch.class_token)])
        learned = learned_TxC.reshape(self.arch.grid, self.arch.grid, channels)
        resized = resize_positions(learned, (height, width), antialias=self.arch.antialias)
        x_NxTxC = (x_NxHxWxC + resized[None].astype(x_NxHxWxC.dtype)).reshape(count, -1, channels)
        first = [self.class_token[...][None] + before_TxC] if self.arch.class_token else []
        first += [self.registers[...]] if self.arch.registers else []
        repeated = [
            jnp.broadcast_to(tokens_TxC.astype(x_NxTxC.dtype)[None], (count, *tokens_TxC.shape))
            for tokens_TxC in first
        ]
        return jnp.concatenate([*repeated, x_NxTxC], axis=1)


def _attend(
    query_NxQxC: jax.Array, key_NxTxC: jax.Array, value_NxTxC: jax.Array, *, heads: int
) -> jax.Array:
    """Attention of several heads, each with its share of the channels: N x Q x C."""
    query, key, value = (
        x.reshape(*x.shape[:2], heads, -1) for x in (query_NxQxC, key_NxTxC, value_NxTxC)
    )
    return jax.nn.dot_product_attention(query, key, value).reshape(query_NxQxC.shape)


def _scaled(y_NxTxC: jax.Array, scale_C: nnx.Param | None) -> jax.Array:
    return y_NxTxC if scale_C is None else y_NxTxC * scale_C[None, None].astype(y_NxTxC.dtype)


def resize_positions(
    position_GxGxC: jax.Array, shape: tuple[int, int], *, antialias: bool
) -> jax.Array:
    """Resizes learned positions bicubically, as torch.nn.functional.interpolate does it."""
    if position_GxGxC.shape[:2] == shape:
        return position_GxGxC
    if antialias:
        return jax.image.resize(position_GxGxC, (*shape, position_GxGxC.shape[2]), "cubic")
    rows, columns = (_bicubic(position_GxGxC.shape[0], side) for side in shape)
    return jnp.einsum("hg,gkc,wk->hwc", rows, position_GxGxC, columns, precision="highest")


def _bicubic(inputs: int, outputs: int) -> np.ndarray:
    """The weights of each input in each output: Keys' kernel with a = -0.75, edges repeated."""
    weight = np.zeros((outputs, inputs))
    for row in range(outputs):
        center = (row + 0.5) * inputs / outputs - 0.5
        for place in range(math.floor(center) - 1, math.floor(center) + 3):
            weight[row, min(max(place, 0), inputs - 1)] += _keys(abs(center - place), a=-0.75)
    return weight.astype(np.float32)


def _keys(x: float, *, a: float) -> float:
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def _norm(arch: Architecture, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    at_least_float32 = jnp.promote_types(dtype, jnp.float32)
    return nnx.LayerNorm(arch.width, epsilon=arch.epsilon, dtype=at_least_float32, rngs=rngs)
