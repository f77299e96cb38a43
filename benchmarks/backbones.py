"""How fast is a pretrained backbone, beside the same network in PyTorch?

    python -m benchmarks.backbones --json FILE [--backbone efficientnet_lite0]
        [--image-sizes 128 224] [--batch-size 64] [--rounds 3]

Forward, and forward with the gradient of all weights, both with BatchNorm's running statistics, as
a frozen and a fine-tuned backbone are used. The two take turns on this machine, PyTorch in
channels_last; a figure is the median over rounds. A ratio is PyTorch's milliseconds divided by
painterjax's: above 1 painterjax is faster.
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
from painterjax.distributed import compilation
from painterjax.model.backbones import BACKBONES, Package
from painterjax.model.build import build_network
from painterjax.run import folder as run_folder

TASKS = ("forward", "forward_backward")


def main() -> None:
    """Runs the command line."""
    names = [name for name, row in BACKBONES.items() if isinstance(row.published, Package)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", choices=names, default=names[0])
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[128, 224])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_flush_denormal(True)  # PyTorch slows down on numbers near 0.
    result: dict[str, Any] = {
        "backbone": args.backbone,
        "batch_size": args.batch_size,
        "torch": torch.__version__,
        "environment": run_folder.environment(),
        "sizes": {},
    }
    for size in args.image_sizes:
        shape = (args.batch_size, size, size, 3)
        image_NxSxSxC = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        systems = {
            "painterjax": painterjax_tasks(args.backbone, image_NxSxSxC),
            "pytorch": pytorch_tasks(args.backbone, image_NxSxSxC),
        }
        result["sizes"][str(size)] = {
            task: in_turns({name: tasks[task] for name, tasks in systems.items()}, args.rounds)
            for task in TASKS
        }
        print(json.dumps({size: result["sizes"][str(size)]}), flush=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def in_turns(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Times tasks one after the other, after a first time that does not count."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for place in range(rounds + 1):
        for name, task in tasks.items():
            started_s = time.perf_counter()
            task()
            if place:
                times[name].append(1000 * (time.perf_counter() - started_s))
    median = {f"{name}_ms": statistics.median(times[name]) for name in tasks}
    return {**median, "ratio": median["pytorch_ms"] / median["painterjax_ms"]}


def painterjax_tasks(name: str, image_NxSxSxC: np.ndarray) -> dict[str, Callable[[], object]]:
    """Returns what runs each task in painterjax."""
    config = default.get_config()
    config.model.backbone, config.model.head = name, "statistics"
    network, params, stats = build_network(config, image_size=image_NxSxSxC.shape[1])
    image = jnp.asarray(image_NxSxSxC)

    def last_stage(params: Any, stats: Any, image: jax.Array) -> jax.Array:
        return nnx.merge(network, params, stats).backbone(image, branches=None)[-1]

    def loss(params: Any, stats: Any, image: jax.Array) -> jax.Array:
        return last_stage(params, stats, image).mean()

    programs = {"forward": last_stage, "forward_backward": jax.grad(loss)}
    return {
        task: functools.partial(_run, compilation.jit(program), params, stats, image)
        for task, program in programs.items()
    }


def _run(program: Any, *arguments: Any) -> object:
    return jax.block_until_ready(program(*arguments))


def pytorch_tasks(name: str, image_NxSxSxC: np.ndarray) -> dict[str, Callable[[], object]]:
    """Returns what runs each task in PyTorch."""
    package = BACKBONES[name].published
    assert isinstance(package, Package)
    size = image_NxSxSxC.shape[1]
    network: Any = EfficientNet.from_name(name.replace("_", "-"), image_size=size)
    network.load_state_dict(torch.load(package.path(), weights_only=True))
    network = network.eval().to(memory_format=torch.channels_last)
    image = torch.from_numpy(image_NxSxSxC).permute(0, 3, 1, 2)  # Strides of channels_last.

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return network.extract_features(image)

    def forward_backward() -> None:
        network.zero_grad()
        network.extract_features(image).mean().backward()

    return {"forward": forward, "forward_backward": forward_backward}


if __name__ == "__main__":
    main()
