"""A recipe's training step side by side: painterjax, PyTorch, and torch.compile.

    python -m benchmarks.speed [--recipe reference] [--image-size 256] [--batch-sizes 8]
        [--dtypes float32] [--systems painterjax pytorch_eager pytorch_compiled] [--alone]
        [--steps-per-dispatch 1] [--json FILE]

One device, the same batch of images, the same architecture. Each system has a process to itself;
they compile together and then take turns, so that a machine that slows down slows all of them. All
of them hold their memory at once; where a device is too small for that, --alone gives it to one
after the other, each for all its turns. A turn is a step that does not count, in which caches and
memory become the system's own again, and some that do, until the device is done. A step is: uint8
images on the device to floats, forward, loss, backward, Adam; no augmentation. The reference has
three forward calls and the triplet loss, configs/finetuned.py one call and the classifier. PyTorch
runs in channels_last, with flush-denormal on CPUs, cuDNN's autotuner, TF32 and fused Adam on GPUs,
and autocast for bfloat16; torch.compile takes the network, forward and backward. A system that
fails says so in its row.
"""

import argparse
import contextlib
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

from benchmarks import pytorch_finetuning, pytorch_reference
from configs import default, finetuned
from painterjax.common import huge_pages
from painterjax.common.config import Config
from painterjax.data import sampling
from painterjax.model import augment
from painterjax.run import folder as run_folder
from painterjax.run import speed
from painterjax.training import trainer

Turn = Callable[[int], None]  # takes that many steps and waits for the last
RECIPES = {"reference": default.get_config, "finetuned": finetuned.get_config}


@dataclasses.dataclass(frozen=True)
class Task:
    """What all systems are timed at; `batch_size` is of tuples."""

    recipe: str
    image_size: int
    batch_size: int
    dtype: str
    steps_per_dispatch: int = 1

    def config(self) -> Config:
        """Returns the recipe without augmentation."""
        config = RECIPES[self.recipe]()
        config.batch_size, config.model.dtype = self.batch_size, self.dtype
        config.augmentation = dataclasses.asdict(augment.Augmentation())
        config.head.fit, config.steps_per_dispatch = "gradient", self.steps_per_dispatch
        return config

    @property
    def images(self) -> int:
        """The number of images in a step."""
        config = self.config()
        return self.batch_size * trainer.objective(config, config.loss.name).tuple_size


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="reference")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8], help="triplets")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--steps-per-dispatch", type=int, help="of painterjax, if not the recipe's")
    parser.add_argument("--systems", nargs="+", default=list(TURNS)[:2], choices=TURNS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a turn")
    parser.add_argument("--alone", action="store_true", help="one system after the other")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for batch_size in args.batch_sizes:
        for dtype in args.dtypes:
            together = args.steps_per_dispatch or RECIPES[args.recipe]().steps_per_dispatch
            task = Task(args.recipe, args.image_size, batch_size, dtype, together)
            row = compare(task, args.systems, args.rounds, args.seconds, alone=args.alone)
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
    task: Task, systems: list[str], rounds: int, seconds: float, *, alone: bool = False
) -> dict[str, Any]:
    """Times all systems: milliseconds a step, images/s, and ratios to painterjax."""
    row = dataclasses.asdict(task)
    for names in [[name] for name in systems] if alone else [systems]:
        running = {name: System(name, task, seconds) for name in names}
        for name, answer in take_turns(running, rounds).items():
            row[name] = _figures(answer, task.images)
    ours = row.get("painterjax", {}).get("ms")
    for name in systems:
        if name != "painterjax" and ours and "ms" in row[name]:
            row[f"ratio_to_{name}"] = row[name]["ms"] / ours
    return row


def take_turns(running: dict[str, "System"], rounds: int) -> dict[str, list[float] | str]:
    """Times systems in turns and ends them; returns the times of each, or why there are none."""
    answers: dict[str, list[float] | str] = {name: [] for name in running}
    for turn in range(1 + rounds):
        for name, times_ms in answers.items():
            if isinstance(times_ms, str):
                continue
            answer = running[name].take_turn() if turn else running[name].answer()
            if isinstance(answer, str):
                answers[name] = answer
            elif turn:
                times_ms.append(answer)
    for system in running.values():
        system.end()
    return answers


def _figures(answer: list[float] | str, images: int) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"error": answer}
    p10, median, p90 = np.percentile(answer, (10, 50, 90)).tolist()
    return {"ms": median, "p10": p10, "p90": p90, "images_per_s": 1000 * images / median}


class System:
    """A system in a process of its own."""

    def __init__(self, name: str, task: Task, seconds: float) -> None:
        # A forked process would share threads that exist only in its parent.
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        arguments = there, name, task, seconds
        self._process: BaseProcess = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        there.close()  # So that the end of the process is the end of the pipe.

    def take_turn(self) -> float | str:
        """Returns the milliseconds of a step, or why there are none."""
        with contextlib.suppress(BrokenPipeError):  # The answer says that it ended.
            self._pipe.send("turn")
        return self.answer()

    def answer(self) -> float | str:
        """Waits; returns the milliseconds, 0 once the system is ready, or why there are none."""
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return f"its process ended with exit code {self._process.exitcode}"

    def end(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection, name: str, task: Task, seconds: float) -> None:
    """A system's process: answers when ready, and each turn with its time, or why it cannot."""
    try:
        take = TURNS[name](task)
        take(2)
        pipe.send(0.0)
        steps, together = 0, task.steps_per_dispatch
        while pipe.recv():
            take(1)
            if not steps:
                dispatch_ms = together * _time_ms(take, 3 * together)
                steps = together * max(1, round(1000 * seconds / dispatch_ms))
            pipe.send(_time_ms(take, steps))
    except EOFError:
        pass  # The other end is closed when all is measured.
    except Exception as error:  # Whatever a system raises is its row, and nobody else's.
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])


def painterjax_turn(task: Task) -> Turn:
    """The recipe as painterjax trains it, on random images."""
    training = trainer.build(task.config(), speed.random_split(task.image_size))
    batch, state = next(training.batches), training.state
    training.batches.close()
    together = training.plan.steps_per_dispatch

    def turn(steps: int) -> None:
        nonlocal state
        for taken in range(0, steps, together):
            state, _ = training.run(state, batch, min(together, steps - taken))
        jax.block_until_ready(state)

    return turn


def pytorch_turn(task: Task, *, compiled: bool = False) -> Turn:
    """The same in PyTorch, on the images that painterjax draws."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    config, split = task.config(), speed.random_split(task.image_size)
    goal, artists = (
        trainer.objective(config, config.loss.name),
        sampling.artist_rows(split.artist_N),
    )
    row_BxT = goal.sample(artists, batch_size=task.batch_size, seed=0, index=0)
    row_N = row_BxT.T.reshape(-1)
    image_NxCxSxS = torch.from_numpy(split.image_NxSxSxC[row_N]).to(device).permute(0, 3, 1, 2)
    artist_N = torch.from_numpy(split.artist_N[row_N].astype(np.int64)).to(device)
    step = PYTORCH_STEPS[task.recipe](task, device, compiled, num_artists=len(split.artists))

    def turn(steps: int) -> None:
        for _ in range(steps):
            step(image_NxCxSxS.float() / 127.5 - 1, artist_N)
        if device == "cuda":
            torch.cuda.synchronize()

    return turn


PytorchStep = Callable[[torch.Tensor, torch.Tensor], None]  # takes images and artists


def reference_step(task: Task, device: str, compiled: bool, *, num_artists: int) -> PytorchStep:
    """The reference's step in PyTorch; it needs no artists."""
    del num_artists
    network: Any = pytorch_reference.StyleNet(image_size=task.image_size)
    network.to(device, memory_format=torch.channels_last)
    rate = task.config().optimizer.learning_rate
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, fused=device == "cuda")
    bfloat16 = task.dtype == "bfloat16"
    if compiled:
        network.compile()

    def step(image_NxCxSxS: torch.Tensor, _: torch.Tensor) -> None:
        branches = list(image_NxCxSxS.chunk(3))
        pytorch_reference.train_step(
            network, optimizer, branches, None, margin=2.0, bfloat16=bfloat16
        )

    return step


def finetuned_step(task: Task, device: str, compiled: bool, *, num_artists: int) -> PytorchStep:
    """The step of configs/finetuned.py in PyTorch."""
    config = task.config()
    network: Any = pytorch_finetuning.Network(
        config, image_size=task.image_size, num_artists=num_artists
    )
    network.to(device, memory_format=torch.channels_last)
    optimizer = pytorch_finetuning.Optimizer(network, config.optimizer, num_steps=1_000_000)
    if compiled:
        network.compile()

    def step(image_NxCxSxS: torch.Tensor, artist_N: torch.Tensor) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=task.dtype == "bfloat16"):
            loss = network.loss(image_NxCxSxS, artist_N)
        optimizer.step(loss)

    return step


PYTORCH_STEPS = {"reference": reference_step, "finetuned": finetuned_step}
TURNS: dict[str, Callable[[Task], Turn]] = {
    "painterjax": painterjax_turn,
    "pytorch_eager": pytorch_turn,
    "pytorch_compiled": functools.partial(pytorch_turn, compiled=True),
}


def _time_ms(turn: Turn, steps: int) -> float:
    started_s = time.perf_counter()
    turn(steps)
    return 1000 * (time.perf_counter() - started_s) / steps


if __name__ == "__main__":
    huge_pages.start_with()
    main()
