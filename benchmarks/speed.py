"""The reference recipe's training step side by side: painterjax, PyTorch, and torch.compile.

    python -m benchmarks.speed [--image-size 256] [--batch-sizes 8] [--dtypes float32]
        [--systems eager compiled] [--json FILE]

One device, the same images, the same architecture. Each system has a process to itself, and they
take turns, so that a machine that slows down slows all of them. A turn is a step that does not
count, in which caches and memory become the system's own again, and some that do, until the device
is done. A step is: uint8 images on the device to floats, three forward calls,
triplet loss, backward, Adam; no augmentation. PyTorch runs in channels_last, with flush-denormal on
CPUs, cuDNN's autotuner, TF32 and fused Adam on GPUs, and autocast for bfloat16; torch.compile takes
the network, forward and backward. A system whose memory does not suffice says so in its row.
"""

import argparse
import dataclasses
import json
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import pytorch_reference
from configs import default
from painterjax import augment, benchmark, runfolder, wiring

Turn = Callable[[int], None]  # takes that many steps and waits for the last


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8], help="triplets")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--systems", nargs="+", default=["eager"], choices=["eager", "compiled"])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for batch_size in args.batch_sizes:
        for dtype in args.dtypes:
            row = compare(
                args.image_size, batch_size, dtype, args.systems, args.rounds, args.seconds
            )
            rows.append(row)
            print(json.dumps(row), flush=True)
            if args.json:
                result = {"environment": environment(), "rows": rows}
                args.json.write_text(json.dumps(result, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """What ran, PyTorch included."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {**runfolder.environment(), "torch": torch.__version__, "torch_device": device,
            "torch_threads": torch.get_num_threads()}  # fmt: skip


def compare(
    image_size: int, batch_size: int, dtype: str, systems: list[str], rounds: int, seconds: float
) -> dict[str, Any]:
    """Times all systems in turns: milliseconds a step, images/s, and ratios to painterjax."""
    row: dict[str, Any] = {"image_size": image_size, "batch_size": batch_size, "dtype": dtype}
    # Forked processes would share threads that exist only in their parent.
    context, workers = multiprocessing.get_context("spawn"), {}
    for name in ("painterjax", *(f"pytorch_{system}" for system in systems)):
        here, there = context.Pipe()
        arguments = there, name, image_size, batch_size, dtype, seconds
        context.Process(target=_serve, args=arguments, daemon=True).start()
        if error := here.recv():
            row[name] = {"error": error}
        else:
            workers[name] = here
    times_ms: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            worker.send("turn")
            times_ms[name].append(worker.recv())
    for name, times in times_ms.items():
        workers[name].send("end")
        p10, median, p90 = np.percentile(times, (10, 50, 90)).tolist()
        images_per_s = 3000 * batch_size / median
        row[name] = {"ms": median, "p10": p10, "p90": p90, "images_per_s": images_per_s}
        if name != "painterjax" and "painterjax" in times_ms:
            row[f"ratio_to_{name}"] = median / row["painterjax"]["ms"]
    return row


def _serve(
    pipe: Connection, name: str, image_size: int, batch_size: int, dtype: str, seconds: float
) -> None:
    """A system's process: says why it cannot run, or None; then answers each turn with its time."""
    try:
        if name == "painterjax":
            turn = painterjax_turn(image_size, batch_size, dtype)
        else:
            turn = pytorch_turn(image_size, batch_size, dtype, compiled=name.endswith("compiled"))
        steps = _steps_per_turn(turn, seconds)
    except (jax.errors.JaxRuntimeError, torch.OutOfMemoryError) as error:
        pipe.send(str(error).splitlines()[0])
        return
    pipe.send(None)
    while pipe.recv() == "turn":
        turn(1)
        pipe.send(_time_ms(turn, steps))


def painterjax_turn(image_size: int, batch_size: int, dtype: str) -> Turn:
    """The reference recipe as painterjax trains it, on random images."""
    config = default.get_config()
    config.batch_size, config.model.dtype = batch_size, dtype
    config.augmentation = dataclasses.asdict(augment.Augmentation())
    training = wiring.training(config, benchmark.random_split(image_size))
    batch, state = next(training.batches), training.state
    training.batches.close()

    def turn(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = training.run(state, batch, 1)
        jax.block_until_ready(state)

    return turn


def pytorch_turn(image_size: int, batch_size: int, dtype: str, *, compiled: bool) -> Turn:
    """The same in PyTorch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    network: Any = pytorch_reference.StyleNet(image_size=image_size)
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=device == "cuda")
    images = benchmark.random_split(image_size).image_NxSxSxC
    images = images[np.arange(3 * batch_size) % len(images)]
    image_NxCxSxS = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)

    def step() -> None:
        branches = list((image_NxCxSxS.float() / 127.5 - 1).chunk(3))
        pytorch_reference.train_step(
            network, optimizer, branches, None, margin=2.0, bfloat16=dtype == "bfloat16"
        )

    if compiled:
        network.compile()

    def turn(steps: int) -> None:
        for _ in range(steps):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    return turn


def _steps_per_turn(turn: Turn, seconds: float) -> int:
    """Warms up, and returns how many steps fill a turn."""
    turn(2)
    return max(1, round(1000 * seconds / _time_ms(turn, 3)))


def _time_ms(turn: Turn, steps: int) -> float:
    started_s = time.perf_counter()
    turn(steps)
    return 1000 * (time.perf_counter() - started_s) / steps


if __name__ == "__main__":
    main()
