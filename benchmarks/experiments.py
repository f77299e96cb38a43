"""What was tried around configs/scratch.py, each with a line of JSON.

    python -m benchmarks.experiments --store data/choosing-80 --data data/experiments
        --json docs/results/experiments.jsonl [--names NAME ...] [--config.key=value ...]

Every experiment is scratch.py with a few keys changed. The store must lack the held-out artists,
on whom results are reported (`prepare --without-holdout`). Experiments on whole images need one of
64 pixels, the others one of 80; without --names all run that the store is for.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import learning
from configs import scratch
from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.data.store import open_store

SHORT = {"num_epochs": 6, "optimizer.weight_decay": 0.3}
ARTISTS_BY_PAINTINGS = {**SHORT, "batch_size": 16, "loss.paintings_per_artist": 4}
WHOLE = {**SHORT, "augmentation.crop": 0}
WHOLE_SIZE = 64  # of a store's images: as many pixels as the others see of them
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "short": SHORT,
    "flips": {**SHORT, "augmentation.flips": True},
    "no_colors": {
        **SHORT,
        "augmentation.contrast": 0.0,
        "augmentation.brightness": 0.0,
        "augmentation.tint": 0.0,
    },
    "reference_depths": {**SHORT, "model.depths": (2, 3, 3, 3, 3)},
    "dim_64": {**SHORT, "model.embedding_dim": 64},
    "two_paintings_each": {**SHORT, "loss.paintings_per_artist": 2},
    "four_paintings_each": ARTISTS_BY_PAINTINGS,
    "supervised_contrastive": {**ARTISTS_BY_PAINTINGS, "loss.name": "supervised_contrastive"},
    "batch_all": {**ARTISTS_BY_PAINTINGS, "loss.name": "batch_all", "loss.margin": 0.2},
    "decay_1": {**SHORT, "optimizer.weight_decay": 1.0},
    "whole": WHOLE,
    "whole_dense_head": {**WHOLE, "model.head": "dense"},
}
FIGURES = ("roc_auc", "recall_at_1", "map_at_r")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", nargs="+", choices=EXPERIMENTS, help="all that fit the store")
    parser.add_argument(
        "--store", type=Path, required=True, help="of 64 pixels for whole*, of 80 for the others"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--json", type=Path, required=True, help="file to append to")
    parser.add_argument("--seed", type=int, default=3)
    args, flags = parser.parse_known_args()
    try:
        store = open_store(args.store)
        if not store.info.get("without_holdout"):
            raise InputError(f"--store {args.store} was not prepared --without-holdout: do that")
        size = store.image_size
        fitting = [name for name in EXPERIMENTS if image_size(name) == size]
        cli.check_json(args.json)
        for name in (names := args.names or fitting or EXPERIMENTS):
            check(name, size, args.data / name, flags)
    except InputError as error:
        parser.error(str(error))
    for name in names:
        line = json.dumps(run(name, args.store, args.data / name, args.seed, flags))
        with args.json.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


def image_size(name: str) -> int:
    """Returns the side in pixels that an experiment needs of a store's images."""
    whole = EXPERIMENTS[name].get("augmentation.crop") == 0
    return WHOLE_SIZE if whole else scratch.IMAGE_SIZE


def check(name: str, size: int, workdir: Path, flags: list[str]) -> None:
    """Raises InputError where an experiment cannot be trained into a new folder."""
    if size != image_size(name):
        raise InputError(f"--store has images of {size} pixels: {name} needs {image_size(name)}")
    learning.check_recipe([*overrides(EXPERIMENTS[name]), *flags], image_size=size)
    learning.check_new(workdir)


def overrides(keys: dict[str, Any]) -> list[str]:
    """Returns the flags that set these keys of the recipe."""
    return [f"--config.{key}={value}" for key, value in keys.items()]


def run(name: str, store: Path, workdir: Path, seed: int, flags: list[str]) -> dict[str, Any]:
    """Trains one experiment in a new folder; returns its figures on artists never seen."""
    changed = EXPERIMENTS[name]
    flags = [*overrides({"data.store": store, "seed": seed, **changed}), *flags]
    learning.run("painterjax.train", learning.RECIPE, "--workdir", str(workdir), *flags)
    test = json.loads((workdir / "evaluation.json").read_text())["test"]
    environment = json.loads((workdir / "environment.json").read_text())
    del environment["directory"]  # Of this machine alone.
    return {
        "name": name,
        "changed": changed,
        "artists": test["artists"],
        "artists_never_seen": {key: round(test[key]["value"], 4) for key in FIGURES},
        "config": json.loads((workdir / "config.json").read_text()),
        "environment": environment,
    }


if __name__ == "__main__":
    main()
