"""The reference recipe and configs/scratch.py, in PyTorch and here: who learns more, and sooner?

    python -m benchmarks.learning --images paintings --data data --json FILE [--seeds 0 1 2]
        [--config.key=value ...]

The test has the held-out artists. For each seed, which draws the validation, the tuples and the
weights, one after the other on this machine: the reference in PyTorch for ten minutes of training,
at 64 pixels; scratch.py in PyTorch and here, on the same images and from the same first weights;
and scratch.py here with 4 of its 24 epochs. So the first and the second row tell recipes
apart, the second and the third trainers. FILE gets what each reached on artists never seen in
training: the reference with its last weights, scratch.py with those that were best on its
validation, on images of 80 pixels. Minutes are those of the whole command; each run of
scratch.py begins without anything compiled. What follows --config is handed on to scratch.py.
"""

import argparse
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from configs import scratch
from painterjax.common import cli
from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.run import config_checks, metrics_log
from painterjax.run import folder as run_folder

RECIPE = "--config=configs/scratch.py"
IN_PYTORCH = "benchmarks.pytorch_learning"
REFERENCE_SIZE = 64
SYSTEMS = ("reference", "scratch_pytorch", "scratch", "scratch_fifth")
METRICS = ("roc_auc", "recall_at_1", "map_at_r")
# Keys whose other values benchmarks.pytorch_scratch does not have.
MIRRORED = (
    "model.head", "model.dtype", "model.batch_norm", "loss.name", "loss.margin",
    "optimizer.schedule", "augmentation.shift", "augmentation.scale", "augmentation.rotation",
)  # fmt: skip


def main() -> None:
    """Runs the command line."""
    parser = flags_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the reference")
    args, flags = parser.parse_known_args()
    try:
        cli.check_json(args.json)
        check_mirrored(check_recipe(flags, image_size=scratch.IMAGE_SIZE))
        for seed in args.seeds:
            check_new(args.data / f"scratch-{seed}", args.data / f"scratch-fifth-{seed}")
    except InputError as error:
        parser.error(str(error))
    rows = []
    for seed in args.seeds:
        rows.append(compare(args.images, args.data, flags, seed=seed, minutes=args.minutes))
        result = {"environment": run_folder.environment(), "seeds": rows, "mean": mean(rows)}
        args.json.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(mean(rows), indent=2))


def flags_parser(doc: str | None) -> argparse.ArgumentParser:
    """Returns a parser of the flags that all comparisons from a folder of images on have."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--images", required=True, help="<artist>/<any image>")
    parser.add_argument("--data", type=Path, required=True, help="folder for stores and runs")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser


def check_recipe(flags: list[str], *, image_size: int) -> Config:
    """Returns scratch.py with these flags; raises InputError where it cannot be trained."""
    config, _ = cli.config_and_options([RECIPE, *flags], doc="", required={})
    config_checks.check_keys(config)
    config_checks.check(config, image_size=image_size)
    return config


def check_mirrored(config: Config) -> None:
    """Raises InputError where benchmarks.pytorch_scratch would train another recipe."""
    shipped = scratch.get_config()
    for key in MIRRORED:
        value, own = (operator.attrgetter(key)(each) for each in (config, shipped))
        if value != own:
            raise InputError(f"{key} is {value!r}, but in PyTorch it is {own!r}: leave it so")


def check_new(*workdirs: Path) -> None:
    """Raises InputError where a training would go on, and its minutes be wrong."""
    for workdir in workdirs:
        if workdir.exists():
            raise InputError(f"{workdir} exists: remove it, or name another --data")


def compare(
    images: str, data: Path, flags: list[str], *, seed: int, minutes: float
) -> dict[str, Any]:
    """Trains all on one seed; returns minutes and figures of each, and the histogram's."""
    small = prepare(images, data, seed=seed, image_size=REFERENCE_SIZE)
    large = prepare(images, data, seed=seed, image_size=scratch.IMAGE_SIZE)
    epochs = scratch.get_config().num_epochs
    report, options = data / f"reference-{seed}.json", ("--seed", str(seed), "--recipe")
    reference = train_in_pytorch(
        IN_PYTORCH, small, report, *options, "reference", "--minutes", str(minutes)
    )
    report = data / f"scratch-pytorch-{seed}.json"
    theirs = train_in_pytorch(IN_PYTORCH, large, report, *options, "scratch", *flags)
    ours = train(large, data / f"scratch-{seed}", flags, seed=seed, epochs=epochs)
    fifth = train(large, data / f"scratch-fifth-{seed}", flags, seed=seed, epochs=epochs // 5)
    systems = dict(zip(SYSTEMS, (reference, theirs, ours, fifth), strict=True))
    return {"seed": seed, **systems}


def prepare(images: str, data: Path, *, seed: int, image_size: int) -> Path:
    """Makes a store with the held-out artists as test; one that is there is left as it is."""
    store = data / f"holdout-{image_size}-{seed}"
    if not store.exists():
        run("painterjax.prepare", "folder", "--input", images, "--output", str(store),
            "--image-size", str(image_size), "--seed", str(seed),
            "--split-by", "holdout")  # fmt: skip
    return store


def train_in_pytorch(module: str, store: Path, report: Path, *options: str) -> dict[str, Any]:
    """Trains a recipe in PyTorch; returns the minutes of the whole command and what it reports."""
    started_s = time.perf_counter()
    run(module, "--store", str(store), "--json", str(report), *options)
    minutes = (time.perf_counter() - started_s) / 60
    return {"minutes": minutes, **json.loads(report.read_text())}


def train(
    store: Path, workdir: Path, flags: list[str], *, seed: int, epochs: int
) -> dict[str, Any]:
    """Trains scratch.py; returns the minutes of the whole command and its test figures."""
    flags = [f"--config.seed={seed}", f"--config.num_epochs={epochs}", *flags]
    minutes = minutes_of_training(RECIPE, store, workdir, flags)
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    config = json.loads((workdir / "config.json").read_text())
    return {
        "minutes": minutes,
        "minutes_of_training": minutes_of_steps(metrics_log.read_records(workdir)),
        "epochs": config["num_epochs"],
        "recipe_epochs": scratch.get_config().num_epochs,
        "pixels_trained": config["augmentation"]["crop"],
        "pixels_judged": scratch.IMAGE_SIZE,
        **evaluation["test"],
    }


def minutes_of_training(recipe: str, store: Path, workdir: Path, flags: list[str]) -> float:
    """Trains a recipe, with nothing compiled before; returns the minutes of the whole command."""
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:  # Else the next would begin with this one's.
        run("painterjax.train", recipe, "--workdir", str(workdir), f"--config.data.store={store}",
            *flags, JAX_COMPILATION_CACHE_DIR=cache)  # fmt: skip
    return (time.perf_counter() - started_s) / 60


def minutes_of_steps(records: list[dict[str, Any]]) -> float:
    """Returns how long the steps took, without compilation, validation and evaluation."""
    steps = [record for record in records if record["split"] == "train"]
    count_W = np.diff([0, *(record["step"] for record in steps)])
    return sum(count_W * [record["step_ms"] for record in steps]) / 60_000


def run(module: str, *arguments: str, **environment: str) -> None:
    """Runs a module's command line; what it says goes where this one's does."""
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, env={**os.environ, **environment}, check=True)


def mean(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over seeds, of each system and of the color histogram."""
    histograms = [row["scratch"]["color_histogram"] for row in rows]
    means = {system: mean_of([row[system] for row in rows]) for system in SYSTEMS}
    return {**means, "color_histogram": mean_of(histograms)}


def mean_of(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of all numbers and of METRICS, also of the untrained network's; medians of minutes."""
    means: dict[str, Any] = {}
    for key, first in figures[0].items():
        values = [each[key] for each in figures]
        if key == "untrained":
            means[key] = mean_of(values)
        elif key in METRICS:
            means[key] = float(np.mean([value["value"] for value in values]))
        elif isinstance(first, int | float):
            middle = np.median if key.startswith("minutes") else np.mean
            means[key] = float(middle(values))
    return means


if __name__ == "__main__":
    main()
