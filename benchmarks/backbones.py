"""How fast is a pretrained backbone, beside the same network in PyTorch?

    python -m benchmarks.backbones --json FILE [--backbone efficientnet_lite0]
        [--image-sizes 128 224] [--batch-size 64] [--dtype float32] [--rounds 3]

Forward, and forward with the gradient of all weights, both with BatchNorm's running statistics, as
a frozen and a fine-tuned backbone are used. The systems take turns on this machine, PyTorch in
channels_last and on a GPU also compiled; a figure is the median over turns. A ratio is PyTorch's
milliseconds divided by painterjax's: above 1 painterjax is faster.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from flax import nnx

from configs import default
from painterjax.common import huge_pages
from painterjax.distributed import compilation
from painterjax.model.backbones import BACKBONES, Package
from painterjax.model.build import build_network
from painterjax.run import folder as run_folder

TASKS = ("forward", "forward_backward")
CUDA_CALLS = 20  # in one measurement on a GPU: one call alone ends before a clock can tell
MEASURED = 3  # times in a turn, after one in which memory is taken anew after the other system
Tasks = dict[str, Callable[[], object]]


def main() -> None:
    """Runs the command line."""
    names = [name for name, row in BACKBONES.items() if isinstance(row.published, Package)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", choices=names, default=names[0])
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[128, 224])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_flush_denormal(True)  # PyTorch slows down on numbers near 0.
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # As in XLA.
    is_cuda = torch.cuda.is_available()
    result: dict[str, Any] = {
        "backbone": args.backbone,
        "batch_size": args.batch_size,
        "dtype": args.dtype,
        "torch": torch.__version__,
        "environment": run_folder.environment(),
        "sizes": {},
    }
    for size in args.image_sizes:
        shape = (args.batch_size, size, size, 3)
        image_NxSxSxC = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        systems = {
            "painterjax": painterjax_tasks(args.backbone, image_NxSxSxC, args.dtype),
            "pytorch": pytorch_tasks(args.backbone, image_NxSxSxC, args.dtype),
        }
        if is_cuda:
            systems["pytorch_compiled"] = pytorch_tasks(
                args.backbone, image_NxSxSxC, args.dtype, compiled=True
            )
        result["sizes"][str(size)] = {
            task: in_turns(
                {name: tasks[task] for name, tasks in systems.items()},
                args.rounds,
                calls=CUDA_CALLS if is_cuda else 1,
            )
            for task in TASKS
        }
        print(json.dumps({size: result["sizes"][str(size)]}), flush=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def in_turns(tasks: Tasks, rounds: int, *, calls: int) -> dict[str, float]:
    """Times tasks in turns."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            for place in range(1 + MEASURED):
                started_s = time.perf_counter()
                jax.block_until_ready([task() for _ in range(calls)])
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if place:
                    times[name].append(1000 * (time.perf_counter() - started_s) / calls)
    median = {f"{name}_ms": statistics.median(times[name]) for name in tasks}
    ratios = {"ratio": median["pytorch_ms"] / median["painterjax_ms"]}
    if "pytorch_compiled" in tasks:
        ratios["ratio_compiled"] = median["pytorch_compiled_ms"] / median["painterjax_ms"]
    return {**median, **ratios}


def painterjax_tasks(name: str, image_NxSxSxC: np.ndarray, dtype: str) -> Tasks:
    """Returns what runs each task in painterjax."""
    config = default.get_config()
    config.model.dtype = dtype
    config.model.backbone, config.model.head = name, "statistics"
    network, params, stats = build_network(config, image_size=image_NxSxSxC.shape[1])
    image = jnp.asarray(image_NxSxSxC)

    def last_stage(params: Any, stats: Any, image: jax.Array) -> jax.Array:
        return nnx.merge(network, params, stats).backbone(image, branches=None)[-1]

    def loss(params: Any, stats: Any, image: jax.Array) -> jax.Array:
        return last_stage(params, stats, image).mean()

    programs = {"forward": last_stage, "forward_backward": jax.grad(loss)}
    return {
        task: functools.partial(compilation.jit(program), params, stats, image)
        for task, program in programs.items()
    }


def pytorch_tasks(
    name: str, image_NxSxSxC: np.ndarray, dtype: str, *, compiled: bool = False
) -> Tasks:
    """Returns what runs each task in PyTorch."""
    package = BACKBONES[name].published
    assert isinstance(package, Package)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: Any = EfficientNet.from_name(name.replace("_", "-"), image_size=image_NxSxSxC.shape[1])
    network.load_state_dict(torch.load(package.path(), weights_only=True))
    network = network.eval().to(device, memory_format=torch.channels_last)
    features = torch.compile(network.extract_features) if compiled else network.extract_features
    # Strides of channels_last.
    image = torch.from_numpy(image_NxSxSxC).to(device).permute(0, 3, 1, 2)
    mixed = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    @torch.no_grad()
    def forward() -> torch.Tensor:
        with mixed:
            return features(image)

    def forward_backward() -> torch.Tensor:
        network.zero_grad()
        with mixed:
            mean = features(image).mean()
        mean.backward()
        return mean

    return {"forward": forward, "forward_backward": forward_backward}


if __name__ == "__main__":
    huge_pages.start_with()
    main()
