"""Each convolution of the reference network by itself, in JAX and in PyTorch.

    python -m benchmarks.layers [--image-size 256] [--images 24] [--dtype float32] [--json FILE]

For every distinct layer: milliseconds of the forward pass, the input gradient and the weight
gradient, how often the layer occurs, and the ratio of PyTorch's time to JAX's.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import pytorch_reference
from benchmarks.speed import environment
from painterjax.common import huge_pages
from painterjax.distributed import compilation

REPEATS = 5
Layer = tuple[int, int, int]  # side, input channels, output channels


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    rows = []
    for layer, count in layers(args.image_size).items():
        ours, theirs = (
            time_jax(layer, args.images, args.dtype),
            time_torch(layer, args.images, args.dtype),
        )
        rows.append({"side": layer[0], "inputs": layer[1], "outputs": layer[2], "count": count})
        for part in ours:
            rows[-1][part] = {
                "jax_ms": ours[part],
                "torch_ms": theirs[part],
                "ratio": theirs[part] / ours[part],
            }
        print(json.dumps(rows[-1]), flush=True)
    if args.json:
        result = {"environment": environment(), "images": args.images, "dtype": args.dtype}
        args.json.write_text(json.dumps({**result, "layers": rows}, indent=2) + "\n")


def layers(image_size: int) -> Counter[Layer]:
    """The network's distinct layers, in order, and how often each occurs."""
    found, side, channels = Counter(), image_size, 3
    for width, depth in zip(pytorch_reference.WIDTHS, pytorch_reference.DEPTHS, strict=True):
        for _ in range(depth):
            found[side, channels, width] += 1
            channels = width
        side //= 2
    return found


def time_jax(layer: Layer, images: int, dtype: str) -> dict[str, float]:
    """Milliseconds of each part, in NHWC."""
    side, inputs, outputs = layer
    x = jnp.asarray(np.random.default_rng(0).normal(size=(images, side, side, inputs)), dtype)
    w = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, inputs, outputs)), dtype)
    y = jnp.ones((images, side, side, outputs), dtype)

    def conv(x: jax.Array, w: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)

    functions: dict[str, Callable[..., Any]] = {
        "forward": lambda x, w, y: conv(x, w),
        "input_gradient": lambda x, w, y: jax.linear_transpose(lambda x: conv(x, w), x)(y),
        "weight_gradient": lambda x, w, y: jax.linear_transpose(lambda w: conv(x, w), w)(y),
    }
    parts = {name: compilation.jit(f) for name, f in functions.items()}
    return {
        name: _time_ms(lambda part=part: jax.block_until_ready(part(x, w, y)))
        for name, part in parts.items()
    }


def time_torch(layer: Layer, images: int, dtype: str) -> dict[str, float]:
    """Milliseconds of each part, in channels_last."""
    side, inputs, outputs = layer
    device = "cuda" if torch.cuda.is_available() else "cpu"
    make: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
    last = torch.channels_last
    x = torch.randn(images, inputs, side, side, **make).contiguous(memory_format=last)
    w = torch.randn(outputs, inputs, 3, 3, **make).contiguous(memory_format=last)
    y = torch.ones(images, outputs, side, side, **make).contiguous(memory_format=last)

    def backward(mask: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(
            y, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [*mask, False]
        )

    parts: dict[str, Callable[[], Any]] = {
        "forward": lambda: torch.nn.functional.conv2d(x, w, padding=1),
        "input_gradient": lambda: backward([True, False]),
        "weight_gradient": lambda: backward([False, True]),
    }

    def waited(part: Callable[[], Any]) -> None:
        part()
        if device == "cuda":
            torch.cuda.synchronize()

    return {name: _time_ms(lambda part=part: waited(part)) for name, part in parts.items()}


def _time_ms(call: Callable[[], Any]) -> float:
    call()
    times_ms = []
    for _ in range(REPEATS):
        started_s = time.perf_counter()
        call()
        times_ms.append(1000 * (time.perf_counter() - started_s))
    return float(np.median(times_ms))


if __name__ == "__main__":
    huge_pages.start_with()
    main()
