"""What of a training on a GPU is the same bit for bit, with which flags of XLA, at what cost.

    python -m benchmarks.determinism --output DIR --json FILE [--settings SETTING ...]
        [--image-size 256] [--config=configs/NAME.py] [--config.key=value ...]

For each setting of XLA_FLAGS four trainings of one recipe on synthetic painters: one; one `again`,
by the compiled step that the first left on disk; one `compiled_anew`, with kernels chosen anew; and
one `killed` by SIGKILL behind its first checkpoint and continued. Compared are the SHA-256 of every
array of their last states. The milliseconds of a step are those of painterjax.benchmark. A setting
that cannot be trained says why, and the others go on.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import kills
from painterjax import prepare
from painterjax.data.store import open_store
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import Checkpoints
from painterjax.training import trainer

SETTINGS = {
    "default": "",
    # Deterministic kernels, of which the fastest is still chosen by trying.
    "exclude_nondeterministic_ops": "--xla_gpu_exclude_nondeterministic_ops=true",
    # The same, and no trying: the first kernel that fits.
    "deterministic_ops": "--xla_gpu_deterministic_ops=true",
}
RECIPE = ["--config=configs/quickstart.py", "--config.checkpoint_every_steps=20"]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for store and runs")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--image-size", type=int, default=256)
    args, overrides = parser.parse_known_args()
    store = args.output / "store"
    if not store.exists():
        prepare.main(["synthetic", "--output", str(store), "--image-size", str(args.image_size)])
    recipe = [*RECIPE, f"--config.data.store={store}", *overrides]
    figures: dict[str, Any] = {"settings": {}, "recipe": recipe}
    for name in args.settings:
        try:
            setting = Setting(args.output / name, SETTINGS[name], recipe).measured()
        except subprocess.CalledProcessError as error:
            log = args.output / name / "log"
            setting = {"error": f"{error.cmd[2]} ended with {error.returncode}, see {log}"}
        figures["settings"][name] = {"flags": SETTINGS[name], **setting}
        figures["environment"] = run_folder.environment()
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
        print(json.dumps({name: setting}), flush=True)


class Setting:
    """Trainings of a recipe under one setting, which keep what they compile to themselves."""

    def __init__(self, folder: Path, flags: str, recipe: list[str]) -> None:
        self.folder, self.flags, self.recipe = folder, flags, recipe

    def measured(self) -> dict[str, Any]:
        """Returns what differs between trainings, and the milliseconds of a step."""
        shutil.rmtree(self.folder, ignore_errors=True)
        first = self.trained("first", cache="cache")
        others = {
            "again": self.trained("again", cache="cache"),
            "compiled_anew": self.trained("compiled_anew", cache="cache_anew"),
        }
        killed_at = self.kill("killed", cache="cache")
        others["killed"] = self.trained("killed", cache="cache")
        return {
            "arrays": len(first),
            "differing": {name: kills.differing(first, other) for name, other in others.items()},
            "killed_behind_step": killed_at,
            "step_ms": self.step_ms(),
        }

    def trained(self, name: str, *, cache: str) -> dict[str, str]:
        """Trains, or goes on, to the end; returns the SHA-256 of every array of the last state."""
        process = self._start("painterjax.train", ["--workdir", str(self.folder / name)], cache)
        if status := process.wait():
            raise subprocess.CalledProcessError(status, process.args)
        return last_state(self.folder / name)

    def kill(self, name: str, *, cache: str) -> int | None:
        """Starts a training and kills it behind a checkpoint; None where it ended before."""
        run = self.folder / name
        process = self._start("painterjax.train", ["--workdir", str(run)], cache)
        while process.poll() is None:
            saved = [int(p.name) for p in run.glob("checkpoints/*") if p.name.isdecimal()]
            if saved:
                process.send_signal(signal.SIGKILL)
                return max(saved) if process.wait() else None
            time.sleep(0.002)
        return None

    def step_ms(self) -> dict[str, float]:
        """Returns the milliseconds of a step, by itself."""
        path = self.folder / "benchmark.json"
        process = self._start("painterjax.benchmark", ["--json", str(path)], "cache")
        if status := process.wait():
            raise subprocess.CalledProcessError(status, process.args)
        return json.loads(path.read_text())["step"]["ms"]

    def _start(self, module: str, options: list[str], cache: str) -> subprocess.Popen:
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {self.flags}".strip(),
            "JAX_COMPILATION_CACHE_DIR": str(self.folder.resolve() / cache),
        }
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *self.recipe, *options],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip


def last_state(run: Path) -> dict[str, str]:
    """Returns the SHA-256 of every array of a run's newest checkpoint."""
    config = run_folder.read_config(run)
    training = trainer.build(config, open_store(config.data.store).splits["train"])
    with (
        contextlib.closing(training.batches),
        contextlib.closing(Checkpoints(run)) as checkpoints,
    ):
        state, _ = checkpoints.restore(training.state)
    return kills.digests(state)


if __name__ == "__main__":
    main()
