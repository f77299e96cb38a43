"""Whether a long training keeps its memory: resident bytes by step.

    python -m benchmarks.memory --output DIR [--steps 5000] [--json docs/results/memory.json]

A tiny training with a record every ten steps, and a validation and a checkpoint every few hundred,
runs as a command. Its growth is that of the median of the resident memory from the first to the
last tenth of the steps behind the warm-up, two fifths of all: until then each new thread that
saves, and each validation, takes memory that the next ones use again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kills import RECIPE
from painterjax import prepare
from painterjax.data.store import open_store
from painterjax.run import folder as run_folder
from painterjax.run import metrics_log

STORE = [
    "synthetic", "--artists", "32", "--paintings", "20", "--image-size", "32", "--workers", "1",
]  # fmt: skip
WARM_UP = 0.4


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for a store and a run")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = {**measure(args.output, steps=args.steps), "environment": run_folder.environment()}
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def measure(output: Path, *, steps: int) -> dict[str, Any]:
    """Trains for at least `steps` steps; returns the resident memory and its growth."""
    store, run = output / "store", output / "memory"
    if not store.exists():
        prepare.main([*STORE, "--output", str(store)])
    steps_per_epoch = len(open_store(store).splits["train"])  # of one triplet each
    epochs = -(-steps // steps_per_epoch)
    command = [
        sys.executable, "-m", "painterjax.train", *RECIPE, f"--config.data.store={store}",
        "--config.checkpoint_every_steps=1000", f"--config.num_epochs={epochs}",
        "--workdir", str(run),
    ]  # fmt: skip
    with open(output / "memory.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    step_M, bytes_M = _watch(process, run, last=epochs * steps_per_epoch)
    if process.wait():
        raise SystemExit(
            f"training ended with status {process.returncode}: see {output}/memory.log"
        )
    first, last = _medians(step_M, bytes_M)
    return {
        "steps": int(step_M[-1]),
        "looks": len(step_M),
        "bytes_after_warm_up": first,
        "bytes_at_end": last,
        "growth": last / first - 1,
    }


def _watch(process: subprocess.Popen, run: Path, *, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Looks at the memory with every new record until the last step; evaluation does not count."""
    seen: list[tuple[int, int]] = []
    while process.poll() is None and (not seen or seen[-1][0] < last):
        step = max((record["step"] for record in metrics_log.read_records(run)), default=0)
        if step and (not seen or step > seen[-1][0]):
            seen.append((step, resident_bytes(process.pid)))
        time.sleep(0.02)
    step_M, bytes_M = np.array(seen).T
    return step_M, bytes_M


def _medians(step_M: np.ndarray, bytes_M: np.ndarray) -> tuple[int, int]:
    start, end = WARM_UP * step_M[-1], step_M[-1]
    tenth = (end - start) / 10
    first = bytes_M[(step_M >= start) & (step_M <= start + tenth)]
    last = bytes_M[step_M >= end - tenth]
    return int(np.median(first)), int(np.median(last))


def resident_bytes(pid: int) -> int:
    """Returns how much memory of a process is resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return 1024 * int(line.split()[1])
    raise ProcessLookupError(pid)


if __name__ == "__main__":
    main()
