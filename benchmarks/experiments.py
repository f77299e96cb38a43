"""What was tried on the way to configs/throughput.py, each with a line of JSON.

    python -m benchmarks.experiments --store data/paintings-80-3 --data data/experiments
        --json docs/results/throughput-experiments.jsonl [--names NAME ...] [--config.key=value ...]

Every experiment is throughput.py with a few keys changed. Choose a store whose test artists are of
another draw than those that results are reported on (`prepare --seed 3`); those of `WHOLE` need one
of 64 pixels, the others one of 80.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SHORT = {"num_epochs": 6, "optimizer.weight_decay": 0.3}
ARTISTS_BY_PAINTINGS = {**SHORT, "batch_size": 16, "loss.paintings_per_artist": 4}
WHOLE = {**SHORT, "augmentation.crop": 0}
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "throughput": {},
    "half": {"num_epochs": 12, "optimizer.weight_decay": 0.3},
    "short": SHORT,
    "full_decay_0.3": {"optimizer.weight_decay": 0.3},
    "half_decay_1": {"num_epochs": 12},
    "supervised_contrastive": {**ARTISTS_BY_PAINTINGS, "loss.name": "supervised_contrastive"},
    "multi_similarity": {**ARTISTS_BY_PAINTINGS, "loss.name": "multi_similarity"},
    "batch_all": {**ARTISTS_BY_PAINTINGS, "loss.name": "batch_all", "loss.margin": 0.2},
    "four_paintings_each": ARTISTS_BY_PAINTINGS,
    "two_paintings_each": {**SHORT, "loss.paintings_per_artist": 2},
    "batch_of_32": {**SHORT, "batch_size": 32},
    "margin_0.2": {**SHORT, "loss.margin": 0.2},
    "scale_8": {**SHORT, "loss.scale": 8.0},
    "dim_64": {**SHORT, "model.embedding_dim": 64},
    "learning_rate_3e-3": {**SHORT, "optimizer.learning_rate": 3e-3},
    "no_colors": {
        **SHORT,
        "augmentation.contrast": 0.0,
        "augmentation.brightness": 0.0,
        "augmentation.tint": 0.0,
    },
    "no_flips": {**SHORT, "augmentation.flips": False},
    "piecewise": {
        **SHORT,
        "optimizer.schedule": "piecewise",
        "optimizer.milestones": (3, 5),
    },
    "reference_depths": {**SHORT, "model.depths": (2, 3, 3, 3, 3)},
    "whole": WHOLE,
    "whole_dense_head": {**WHOLE, "model.head": "dense"},
}
FIGURES = ("roc_auc", "recall_at_1", "map_at_r")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--json", type=Path, required=True, help="file to append to")
    parser.add_argument("--seed", type=int, default=3)
    args, flags = parser.parse_known_args()
    for name in args.names:
        line = json.dumps(run(name, args.store, args.data / name, args.seed, flags))
        with args.json.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


def run(name: str, store: Path, workdir: Path, seed: int, flags: list[str]) -> dict[str, Any]:
    """Trains one experiment in a new folder; returns its figures on artists never seen."""
    if workdir.exists():
        raise SystemExit(f"{workdir} exists: remove it, or name another --data")
    changed = EXPERIMENTS[name]
    keys = {"data.store": store, "seed": seed, **changed}
    flags = [*(f"--config.{key}={value}" for key, value in keys.items()), *flags]
    command = ["-m", "painterjax.train", "--config", "configs/throughput.py"]
    subprocess.run([sys.executable, *command, "--workdir", str(workdir), *flags], check=True)
    test = json.loads((workdir / "evaluation.json").read_text())["test"]
    environment = json.loads((workdir / "environment.json").read_text())
    del environment["directory"]  # Of this machine alone.
    return {
        "name": name,
        "changed": changed,
        "artists_never_seen": {key: round(test[key]["value"], 4) for key in FIGURES},
        "config": json.loads((workdir / "config.json").read_text()),
        "environment": environment,
    }


if __name__ == "__main__":
    main()
