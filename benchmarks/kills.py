"""Kills trainings and prepares at random moments and compares what they end with, bit for bit.

    python -m benchmarks.kills --output DIR --json docs/results/kills.jsonl [--kills 100] [--seed 0]

A training is killed, started again and killed again until it ends: by SIGKILL at random moments, in
the middle of a checkpoint's save, between its last rename and its checksums, and while it starts;
and by SIGTERM. After every kill the newest checkpoint is compared with what an undisturbed training
had at that step: SHA-256 of every array, the records up to there, the next batch. At the end all of
these, and the evaluation, are compared with those of the undisturbed run. Images on the device and
on the host and one step or five in a dispatch take turns; each kill is a line of JSON. A fifth as
many kills hit prepare, whose files are compared at its end.
"""

import argparse
import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from painterjax import prepare
from painterjax.common import checksums, cli
from painterjax.common.config import Config
from painterjax.data.store import open_store
from painterjax.distributed import compilation
from painterjax.run import folder as run_folder
from painterjax.run import metrics_log
from painterjax.run.checkpoint import Checkpoints
from painterjax.training import trainer
from painterjax.training.step import TrainState

STORE = [
    "synthetic", "--artists", "8", "--paintings", "8", "--image-size", "32",
    "--val-fraction", "0.25", "--workers", "1",
]  # fmt: skip
RECIPE = [
    "--config=configs/quickstart.py", "--config.loss.name=triplet", "--config.batch_size=1",
    "--config.log_every_steps=10", "--config.checkpoint_every_steps=10",
    "--config.model.widths=(8, 16)", "--config.model.depths=(1, 1)",
    "--config.model.embedding_dim=16", "--config.eval.triplets=200",
]  # fmt: skip
CASES = [("device", 1), ("host", 5), ("device", 5), ("host", 1)]
TIMES = ("steps", "steps", "save", "seal", "start-up", "terminate")
PREPARED = ["synthetic", "--artists", "40", "--paintings", "20", "--image-size", "64"]
STOP_S = 10.0  # within which a SIGTERM must have ended a training
Line = dict[str, Any]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for stores and runs")
    parser.add_argument("--json", type=Path, required=True, help="file to append to")
    parser.add_argument("--kills", type=int, default=100, help="of trainings")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    compilation.keep_on_disk()
    commit = run_folder.environment()["commit"]
    lines = (
        {**line, "commit": commit}
        for kills in (
            kill_trainings(args.output, kills=args.kills, epochs=args.epochs, seed=args.seed),
            kill_prepares(args.output, kills=args.kills // 5, seed=args.seed),
        )
        for line in kills
    )
    for line in lines:
        print(json.dumps(line), flush=True)
        with args.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def kill_trainings(output: Path, *, kills: int, epochs: int, seed: int) -> Iterator[Line]:
    """Yields a line for each kill, and one for the end of each training that had been killed."""
    rng = np.random.default_rng(seed)
    if not (output / "store").exists():
        prepare.main([*STORE, "--output", str(output / "store")])
    for case, share in zip(CASES, np.array_split(np.arange(kills), len(CASES)), strict=True):
        if len(share):
            yield from Case(output, output / "store", case, epochs).killed(len(share), rng, seed)


class Case:
    """One recipe: what an undisturbed training of it has at every step."""

    def __init__(self, output: Path, store: Path, case: tuple[str, int], epochs: int) -> None:
        residency, steps_per_dispatch = case
        self.about = {"residency": residency, "steps_per_dispatch": steps_per_dispatch}
        self.output = output / f"{residency}-{steps_per_dispatch}"
        self.flags = [
            *RECIPE, f"--config.data.store={store}", f"--config.num_epochs={epochs}",
            f"--config.data.residency={residency}",
            f"--config.steps_per_dispatch={steps_per_dispatch}",
        ]  # fmt: skip
        undisturbed = self.output / "undisturbed"
        self.start(undisturbed).communicate()
        self.evaluation = (undisturbed / "evaluation.json").read_bytes()
        self.records = records(undisturbed)
        with self._training() as training:
            self.like, self.plan = training.state, training.plan
            self.state_by_step = {}
            start = jax.tree.map(lambda array: array.copy(), training.state)
            for steps, state, _, _ in training.drive(start):
                self.state_by_step[steps[-1]] = digests(state)
        with self._training() as training:
            self.batch_by_dispatch = {
                dispatch: digests(next(training.batches)) for dispatch in self.plan.dispatches
            }
        assert self.checkpoint(undisturbed) == (self.plan.num_steps, [])

    def start(self, run: Path) -> subprocess.Popen:
        """Starts, or goes on with, a training."""
        run.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "painterjax.train", *self.flags, "--workdir", str(run)]
        with open(run.with_suffix(".log"), "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def killed(self, kills: int, rng: np.random.Generator, seed: int) -> Iterator[Line]:
        """Kills trainings until `kills` is reached; the last is then left to end."""
        done = 0
        for number in range(kills):  # Trainings: each is killed once at least.
            run = self.output / f"killed-{number}"
            process = self.start(run)
            while done < kills and (hit := strike(process, run, rng)):
                done += 1
                step, differences = self.checkpoint(run)
                where = {"last_record": max((r["step"] for r in records(run)), default=0)}
                where |= {"step_at_restart": step, "of_epoch": step % self.plan.steps_per_epoch}
                yield {"command": "train", "seed": seed, "kill": done, **self.about, **hit,
                       **where, "differences": differences}  # fmt: skip
                process = self.start(run)
            status = process.wait()
            yield {"command": "train", "seed": seed, "ended": run.name, **self.about,
                   "status": status, "steps": self.plan.num_steps,
                   "differences": self.end(run)}  # fmt: skip
            if done >= kills:
                return

    def checkpoint(self, run: Path) -> tuple[int, list[str]]:
        """Returns the step of a run's newest checkpoint, and what of it differs."""
        if not (run / "checkpoints").exists():
            return 0, []
        with contextlib.closing(Checkpoints(run)) as checkpoints:
            step = checkpoints.latest_step or 0
            if not step:
                return 0, []
            state, _ = checkpoints.restore(self.like)
            differences = differing(digests(state), self.state_by_step[step])
        with self._training(start=step) as training:
            for dispatch in training.plan.dispatches[:1]:
                batch = digests(next(training.batches))
                differences += differing(batch, self.batch_by_dispatch[dispatch])
        known = [record for record in records(run) if record["step"] <= step]
        if known != self.records[: len(known)]:
            differences.append("metrics.jsonl")
        return step, differences

    def end(self, run: Path) -> list[str]:
        """Returns what of an ended run differs from the undisturbed one."""
        step, differences = self.checkpoint(run)
        if step != self.plan.num_steps or records(run) != self.records:
            differences.append("metrics.jsonl")
        if (run / "evaluation.json").read_bytes() != self.evaluation:
            differences.append("evaluation.json")
        return differences

    @contextlib.contextmanager
    def _training(self, start: int = 0) -> Iterator[trainer.Training]:
        config: Config = cli.config_and_options(self.flags, doc="", required={})[0]
        train_split = open_store(config.data.store).splits["train"]
        training = trainer.build(config, train_split, start=start)
        with contextlib.closing(training.batches):
            yield training


def records(run: Path) -> list[dict[str, Any]]:
    """Returns the records of a run without what a clock measured."""
    return [
        {key: value for key, value in record.items() if not key.endswith(metrics_log.WALL_CLOCK)}
        for record in metrics_log.read_records(run)
    ]


def digests(tree: TrainState | dict[str, jax.Array]) -> dict[str, str]:
    """Returns the SHA-256 of every array by its name."""
    return {
        jax.tree_util.keystr(path): hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Returns the names of what two dicts do not have in common."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def strike(process: subprocess.Popen, run: Path, rng: np.random.Generator) -> Line:
    """Ends a training at a random moment; returns which it was, or nothing where it had ended."""
    time_of = str(rng.choice(TIMES))
    saves, log = run / "checkpoints", run / "metrics.jsonl"
    size = log.stat().st_size if log.exists() else 0

    def reached() -> bool:
        if time_of == "save":
            return any(saves.glob("*.orbax-checkpoint-tmp"))
        if time_of == "seal":
            finished = [path for path in saves.glob("*") if path.name.isdecimal()]
            return not all(checksums.is_sealed(path) for path in finished)
        return time_of == "start-up" or (log.exists() and log.stat().st_size > size)

    while not reached() and process.poll() is None:
        time.sleep(0.002)
    longest_s = {"steps": 1.5, "terminate": 1.5, "save": 0.1, "start-up": 6.0, "seal": 0.0}
    time.sleep(rng.uniform(0, longest_s[time_of]))
    by = signal.SIGTERM if time_of == "terminate" else signal.SIGKILL
    if process.poll() is not None:
        return {}
    process.send_signal(by)
    began_s = time.monotonic()
    status = process.wait()
    hit = {"time": time_of, "by": by.name, "saving": any(saves.glob("*.orbax-checkpoint-tmp"))}
    if by == signal.SIGTERM:
        passed_s = time.monotonic() - began_s
        assert status in (0, 128 + signal.SIGTERM) and passed_s < STOP_S, (status, passed_s)
        hit["stop_s"] = round(passed_s, 2)
    return hit if status else {}


def kill_prepares(output: Path, *, kills: int, seed: int) -> Iterator[Line]:
    """Kills prepare again and again; yields a line for each kill and one for each end."""
    rng, done = np.random.default_rng(seed), 0
    undisturbed = output / "prepare" / "undisturbed"
    _start_prepare(undisturbed).wait()
    expected = {path.name: checksums.sha256(path) for path in undisturbed.iterdir()}
    for number in range(kills):
        store = output / "prepare" / f"killed-{number}"
        partial = store.with_name(store.name + ".partial")
        process = _start_prepare(store)
        while done < kills:
            _strike_prepare(process, partial, rng)
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            done += 1
            journal = partial / "decoded.jsonl"
            decoded = journal.read_bytes().count(b"\n") if journal.exists() else 0
            sorting = (partial / "store").exists()
            yield {"command": "prepare", "seed": seed, "kill": done, "decoded": decoded,
                   "sorting": sorting}  # fmt: skip
            process = _start_prepare(store)
        status = process.wait()
        found = {path.name: checksums.sha256(path) for path in store.iterdir()}
        yield {"command": "prepare", "seed": seed, "ended": store.name, "status": status,
               "differences": differing(found, expected)}  # fmt: skip
        if done >= kills:
            return


def _strike_prepare(process: subprocess.Popen, partial: Path, rng: np.random.Generator) -> None:
    """Waits for a random moment: soon, or, for every second, while it sorts."""
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0.3, 4.0))
        return
    while not (partial / "store").exists() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.1))


def _start_prepare(store: Path) -> subprocess.Popen:
    store.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "painterjax.prepare", *PREPARED, "--output", str(store)]
    with open(store.with_suffix(".log"), "ab") as log:
        return subprocess.Popen([*command, "--workers", "2"], stdout=log, stderr=log)


if __name__ == "__main__":
    main()
