"""The reference recipe in PyTorch and configs/throughput.py in turns: who learns more, and sooner?

    python -m benchmarks.learning --images paintings --data data --json FILE [--seeds 0 1 2]
        [--config.key=value ...]

The test has the held-out artists. For each seed, which draws the validation, the tuples and the
weights, one after the other on this machine: the reference in PyTorch for ten minutes of training,
at 64 pixels; throughput.py, whose minutes are those of the whole command; and throughput.py with a
fifth of the epochs. FILE gets what each reached on artists never seen in training: the reference
with its last weights, throughput.py with those that were best on its validation, on images of 80
pixels. Each run of throughput.py begins without anything compiled. What follows --config is handed
on to it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from configs import throughput
from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.run import config_checks
from painterjax.run import folder as run_folder

RECIPE = "--config=configs/throughput.py"
REFERENCE_SIZE = 64
METRICS = ("roc_auc", "recall_at_1")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="<artist>/<any image>")
    parser.add_argument("--data", type=Path, required=True, help="folder for stores and runs")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=10.0, help="of the reference")
    args, flags = parser.parse_known_args()
    try:
        cli.check_json(args.json)
        check_recipe(flags, image_size=throughput.IMAGE_SIZE)
        for seed in args.seeds:
            check_new(args.data / f"throughput-{seed}", args.data / f"throughput-fifth-{seed}")
    except InputError as error:
        parser.error(str(error))
    rows = []
    for seed in args.seeds:
        rows.append(compare(args.images, args.data, flags, seed=seed, minutes=args.minutes))
        result = {"environment": run_folder.environment(), "seeds": rows, "mean": mean(rows)}
        args.json.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(mean(rows), indent=2))


def check_recipe(flags: list[str], *, image_size: int) -> None:
    """Raises InputError where throughput.py cannot be trained with these flags."""
    config, _ = cli.config_and_options([RECIPE, *flags], doc="", required={})
    config_checks.check_keys(config)
    config_checks.check(config, image_size=image_size)


def check_new(*workdirs: Path) -> None:
    """Raises InputError where a training would go on, and its minutes be wrong."""
    for workdir in workdirs:
        if workdir.exists():
            raise InputError(f"{workdir} exists: remove it, or name another --data")


def compare(
    images: str, data: Path, flags: list[str], *, seed: int, minutes: float
) -> dict[str, Any]:
    """Trains all three on one seed; returns minutes and figures of each, and the histogram's."""
    small = prepare(images, data, seed=seed, image_size=REFERENCE_SIZE)
    large = prepare(images, data, seed=seed, image_size=throughput.IMAGE_SIZE)
    report = data / f"reference-{seed}.json"
    run("benchmarks.pytorch_learning", "--store", str(small), "--minutes", str(minutes),
        "--seed", str(seed), "--json", str(report))  # fmt: skip
    reference = json.loads(report.read_text())
    epochs = throughput.get_config().num_epochs
    ours = train(large, data / f"throughput-{seed}", flags, seed=seed, epochs=epochs)
    fifth = train(large, data / f"throughput-fifth-{seed}", flags, seed=seed, epochs=epochs // 5)
    return {
        "seed": seed,
        "reference": {"minutes": reference["minutes"], **reference["test"]},
        "reference_curve": reference["curve"],
        "throughput": ours,
        "throughput_fifth": fifth,
    }


def prepare(images: str, data: Path, *, seed: int, image_size: int) -> Path:
    """Makes a store with the held-out artists as test; one that is there is left as it is."""
    store = data / f"holdout-{image_size}-{seed}"
    if not store.exists():
        run("painterjax.prepare", "folder", "--input", images, "--output", str(store),
            "--image-size", str(image_size), "--seed", str(seed),
            "--split-by", "holdout")  # fmt: skip
    return store


def train(
    store: Path, workdir: Path, flags: list[str], *, seed: int, epochs: int
) -> dict[str, Any]:
    """Trains throughput.py; returns the minutes of the whole command and its test figures."""
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:  # Else the next would begin with this one's.
        run("painterjax.train", RECIPE, "--workdir", str(workdir), f"--config.data.store={store}",
            f"--config.seed={seed}", f"--config.num_epochs={epochs}", *flags,
            JAX_COMPILATION_CACHE_DIR=cache)  # fmt: skip
    minutes = (time.perf_counter() - started_s) / 60
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    trained = json.loads((workdir / "config.json").read_text())["num_epochs"]
    return {"minutes": minutes, "epochs": trained, **evaluation["test"]}


def run(module: str, *arguments: str, **environment: str) -> None:
    """Runs a module's command line; what it says goes where this one's does."""
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, env={**os.environ, **environment}, check=True)


def mean(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over seeds, of each system and of the color histogram."""
    systems = ("reference", "throughput", "throughput_fifth")
    means = {
        system: {
            key: float(np.mean([row[system][key]["value"] for row in rows])) for key in METRICS
        }
        | {"minutes": float(np.mean([row[system]["minutes"] for row in rows]))}
        for system in systems
    }
    means["color_histogram"] = {
        key: float(np.mean([row["throughput"]["color_histogram"][key]["value"] for row in rows]))
        for key in METRICS
    }
    return means


if __name__ == "__main__":
    main()
