"""EfficientNet-Lite: inverted residuals around depthwise convolutions, pretrained on ImageNet.

Tan and Le 2019 (https://arxiv.org/abs/1905.11946). The Lite variants have ReLU6, no
squeeze-and-excitation, and a stem and a head that do not widen
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from painterjax.model.convolution import Convolution, Depthwise, Pointwise
from painterjax.model.layers import BatchNorm, call_block
from painterjax.model.weights import Renaming

EPSILON, MOMENTUM = 1e-3, 0.99  # of BatchNorm
STEM, HEAD = 32, 1280  # channels
WIDTH_UNIT = 8  # Channels are multiples of it.


@dataclasses.dataclass(frozen=True)
class Stage:
    """Blocks of Lite0 with the same channels; the first one has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


# From the names of EfficientNet-PyTorch, in which the published weights are.
_CONV = (2, 3, 1, 0)
_NORMS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_BLOCK = r"_blocks\.(\d+)\."
RENAMINGS = (
    Renaming(r"_conv_stem\.weight", "stem.kernel", _CONV),
    Renaming(r"_conv_head\.weight", "head.kernel", _CONV),
    *(
        Renaming(rf"{_BLOCK}_{name}_conv\.weight", rf"blocks.\1.{name}.kernel", _CONV)
        for name in ("expand", "depthwise", "project")
    ),
    *(
        Renaming(rf"{theirs}\.{array}", f"{ours}.{own}")
        for theirs, ours in (
            ("_bn0", "stem_norm"),
            ("_bn1", "head_norm"),
            (rf"{_BLOCK}_bn0", r"blocks.\1.expand_norm"),
            (rf"{_BLOCK}_bn1", r"blocks.\1.depthwise_norm"),
            (rf"{_BLOCK}_bn2", r"blocks.\1.project_norm"),
        )
        for array, own in _NORMS.items()
    ),
)
UNUSED = r"_fc\..*|.*\.num_batches_tracked"  # The classifier of ImageNet, and counters.


class InvertedResidual(nnx.Module):
    """Pointwise to more channels, depthwise, pointwise to fewer; plus the input where it fits."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stage: Stage,
        stride: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        middle = inputs * stage.expansion
        self.has_skip = stride == 1 and inputs == outputs
        if stage.expansion > 1:
            self.expand = Pointwise(inputs, middle, dtype=dtype, rngs=rngs)
            self.expand_norm = _norm(middle)
        self.depthwise = Depthwise(
            middle, kernel=stage.kernel, stride=stride, dtype=dtype, rngs=rngs
        )
        self.depthwise_norm = _norm(middle)
        self.project = Pointwise(middle, outputs, dtype=dtype, rngs=rngs)
        self.project_norm = _norm(outputs)

    def __call__(self, x_NxHxWxC: jax.Array, *, branches: int | None) -> jax.Array:
        """Maps N x H x W x inputs to N x H/stride x W/stride x outputs."""
        y_NxHxWxC = x_NxHxWxC
        if hasattr(self, "expand"):
            y_NxHxWxC = _normed(self.expand, self.expand_norm, y_NxHxWxC, branches=branches)
            y_NxHxWxC = jax.nn.relu6(y_NxHxWxC)
        y_NxHxWxC = _normed(self.depthwise, self.depthwise_norm, y_NxHxWxC, branches=branches)
        y_NxHxWxC = jax.nn.relu6(y_NxHxWxC)
        y_NxHxWxC = _normed(self.project, self.project_norm, y_NxHxWxC, branches=branches)
        return x_NxHxWxC + y_NxHxWxC if self.has_skip else y_NxHxWxC


class EfficientNetLite(nnx.Module):
    """The stem, seven stages of inverted residuals, and the head.

    Args:
      width: what the channels of Lite0 are multiplied by.
      depth: what its blocks are multiplied by.
      remat: whether the gradient computes a block's activations anew; see `call_block`.
      dtype: type of the computation; parameters and statistics are float32.
    """

    def __init__(
        self, *, width: float, depth: float, remat: bool, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        widths = [_channels(stage.channels * width) for stage in STAGES]
        self.stem = Convolution((3, 3, 3, STEM), stride=2, dtype=dtype, rngs=rngs)
        self.stem_norm = _norm(STEM)
        self.blocks = nnx.List()
        inputs, ends = STEM, []
        for stage, count, outputs in zip(STAGES, _counts(depth), widths, strict=True):
            for stride in (stage.stride, *[1] * (count - 1)):
                self.blocks.append(
                    InvertedResidual(
                        inputs, outputs, stage=stage, stride=stride, dtype=dtype, rngs=rngs
                    )
                )
                inputs = outputs
            ends.append(len(self.blocks))
        self.head = Pointwise(widths[-1], HEAD, dtype=dtype, rngs=rngs)
        self.head_norm = _norm(HEAD)
        self.ends, self.channels, self.remat = tuple(ends), (STEM, *widths, HEAD), remat

    def __call__(self, image_NxSxSxC: jax.Array, *, branches: int | None) -> list[jax.Array]:
        """Maps images in [-1, 1] to the activations of the stem, of each stage and of the head."""
        # The published weights expect (pixel - 127) / 128.
        x_NxHxWxC = (image_NxSxSxC * 127.5 + 0.5) / 128
        x_NxHxWxC = _normed(self.stem, self.stem_norm, x_NxHxWxC, branches=branches)
        x_NxHxWxC = jax.nn.relu6(x_NxHxWxC)
        stages = [x_NxHxWxC]
        for number, block in enumerate(self.blocks, start=1):
            x_NxHxWxC = call_block(block, x_NxHxWxC, remat=self.remat, branches=branches)
            if number in self.ends:
                stages.append(x_NxHxWxC)
        x_NxHxWxC = _normed(self.head, self.head_norm, x_NxHxWxC, branches=branches)
        return [*stages, jax.nn.relu6(x_NxHxWxC)]


def _normed(
    convolution: Convolution, norm: BatchNorm, x_NxHxWxC: jax.Array, *, branches: int | None
) -> jax.Array:
    """A convolution and its norm; running statistics go into the kernel, which saves two passes."""
    if branches is None:
        return convolution(x_NxHxWxC, *norm.running())
    return norm(convolution(x_NxHxWxC), branches=branches)


def _counts(depth: float) -> list[int]:
    """The blocks of each stage; the first and the last stage keep theirs."""
    inner = [math.ceil(depth * stage.blocks) for stage in STAGES[1:-1]]
    return [STAGES[0].blocks, *inner, STAGES[-1].blocks]


def _channels(wanted: float) -> int:
    """The nearest multiple of WIDTH_UNIT that is not below nine tenths of what is wanted."""
    nearest = max(WIDTH_UNIT, int(wanted + WIDTH_UNIT / 2) // WIDTH_UNIT * WIDTH_UNIT)
    return nearest + WIDTH_UNIT * (nearest < 0.9 * wanted)


def _norm(features: int) -> BatchNorm:
    return BatchNorm(features, epsilon=EPSILON, momentum=MOMENTUM)
