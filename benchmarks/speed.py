"""The reference recipe's training step side by side: painterjax, PyTorch, and torch.compile.

    python -m benchmarks.speed [--image-size 256] [--batch-sizes 8] [--dtypes float32]
        [--systems painterjax pytorch_eager pytorch_compiled] [--alone] [--json FILE]

One device, the same batch of images, the same architecture. Each system has a process to itself,
and they take turns, so that a machine that slows down slows all of them. All of them hold their
memory at once; where a device is too small for that, --alone gives it to one after the other, each
for all its turns. A turn is a step that does not count, in which caches and memory become the
system's own again, and some that do, until the device is done. A step is: uint8 images on the
device to floats, three forward calls, triplet loss, backward, Adam; no augmentation. PyTorch runs
in channels_last, with flush-denormal on CPUs, cuDNN's autotuner, TF32 and fused Adam on GPUs, and
autocast for bfloat16; torch.compile takes the network, forward and backward. A system that fails
says so in its row.
"""

import argparse
import dataclasses
import functools
import json
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import pytorch_reference
from configs import default
from painterjax.data import sampling
from painterjax.model import augment
from painterjax.run import folder as run_folder
from painterjax.run import speed
from painterjax.training import trainer

Turn = Callable[[int], None]  # takes that many steps and waits for the last


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8], help="triplets")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--systems", nargs="+", default=list(TURNS)[:2], choices=TURNS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn")
    parser.add_argument("--alone", action="store_true", help="one system after the other")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for batch_size in args.batch_sizes:
        for dtype in args.dtypes:
            row = compare(
                args.image_size, batch_size, dtype, args.systems, args.rounds, args.seconds,
                alone=args.alone,
            )  # fmt: skip
            rows.append(row)
            print(json.dumps(row), flush=True)
            if args.json:
                result = {"environment": environment(), "alone": args.alone, "rows": rows}
                args.json.write_text(json.dumps(result, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """What ran, PyTorch included."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {**run_folder.environment(), "torch": torch.__version__, "torch_device": device,
            "torch_threads": torch.get_num_threads()}  # fmt: skip


def compare(
    image_size: int,
    batch_size: int,
    dtype: str,
    systems: list[str],
    rounds: int,
    seconds: float,
    *,
    alone: bool = False,
) -> dict[str, Any]:
    """Times all systems: milliseconds a step, images/s, and ratios to painterjax."""
    row: dict[str, Any] = {"image_size": image_size, "batch_size": batch_size, "dtype": dtype}
    for names in [[name] for name in systems] if alone else [systems]:
        running = {name: System(name, image_size, batch_size, dtype, seconds) for name in names}
        for name, answer in take_turns(running, rounds).items():
            row[name] = _figures(answer, batch_size)
    ours = row.get("painterjax", {}).get("ms")
    for name in systems:
        if name != "painterjax" and ours and "ms" in row[name]:
            row[f"ratio_to_{name}"] = row[name]["ms"] / ours
    return row


def take_turns(running: dict[str, "System"], rounds: int) -> dict[str, list[float] | str]:
    """Times systems in turns and ends them; returns the times of each, or why there are none."""
    answers: dict[str, list[float] | str] = {name: [] for name in running}
    for turn in range(1 + rounds):  # The first one warms up.
        for name, times_ms in answers.items():
            if isinstance(times_ms, str):
                continue
            answer = running[name].take_turn()
            if isinstance(answer, str):
                answers[name] = answer
            elif turn:
                times_ms.append(answer)
    for system in running.values():
        system.end()
    return answers


def _figures(answer: list[float] | str, batch_size: int) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"error": answer}
    p10, median, p90 = np.percentile(answer, (10, 50, 90)).tolist()
    return {"ms": median, "p10": p10, "p90": p90, "images_per_s": 3000 * batch_size / median}


class System:
    """A system in a process of its own."""

    def __init__(
        self, name: str, image_size: int, batch_size: int, dtype: str, seconds: float
    ) -> None:
        # A forked process would share threads that exist only in its parent.
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        arguments = there, name, image_size, batch_size, dtype, seconds
        self._process: BaseProcess = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        there.close()  # So that the end of the process is the end of the pipe.

    def take_turn(self) -> float | str:
        """Returns the milliseconds of a step, or why there are none."""
        try:
            self._pipe.send("turn")
            return self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            return f"its process ended with exit code {self._process.exitcode}"

    def end(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()


def _serve(
    pipe: Connection, name: str, image_size: int, batch_size: int, dtype: str, seconds: float
) -> None:
    """A system's process: answers each turn with its time, or once with why it cannot."""
    try:
        pipe.recv()
        take = TURNS[name](image_size, batch_size, dtype)
        steps = _steps_per_turn(take, seconds)
        while True:
            take(1)
            pipe.send(_time_ms(take, steps))
            pipe.recv()
    except EOFError:
        pass  # The other end is closed when all is measured.
    except Exception as error:  # Whatever a system raises is its row, and nobody else's.
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])


def painterjax_turn(image_size: int, batch_size: int, dtype: str) -> Turn:
    """The reference recipe as painterjax trains it, on random images."""
    config = default.get_config()
    config.batch_size, config.model.dtype = batch_size, dtype
    config.augmentation = dataclasses.asdict(augment.Augmentation())
    training = trainer.build(config, speed.random_split(image_size))
    batch, state = next(training.batches), training.state
    training.batches.close()

    def turn(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = training.run(state, batch, 1)
        jax.block_until_ready(state)

    return turn


def pytorch_turn(image_size: int, batch_size: int, dtype: str, *, compiled: bool = False) -> Turn:
    """The same in PyTorch, on the images that painterjax draws."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    network: Any = pytorch_reference.StyleNet(image_size=image_size)
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=device == "cuda")
    split = speed.random_split(image_size)
    artists = sampling.artist_rows(split.artist_N)
    row_BxT = sampling.triplets(artists, batch_size=batch_size, seed=0, index=0)
    images = torch.from_numpy(split.image_NxSxSxC[row_BxT.T.reshape(-1)])
    image_NxCxSxS = images.to(device).permute(0, 3, 1, 2)

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


TURNS: dict[str, Callable[[int, int, str], Turn]] = {
    "painterjax": painterjax_turn,
    "pytorch_eager": pytorch_turn,
    "pytorch_compiled": functools.partial(pytorch_turn, compiled=True),
}


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
