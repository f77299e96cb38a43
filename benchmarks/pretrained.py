"""A recipe on a pretrained network here and in PyTorch, from a folder of images on.

    python -m benchmarks.pretrained --images paintings --data data --json FILE [--seeds 0 1 2]
        [--recipe pretrained] [--sizes 128 224]
    python -m benchmarks.pretrained --images paintings --data data --json FILE
        --recipe finetuned --sizes 224

Artists never seen are the held-out ones, with the first seed, and for each seed a fifth of all
artists, drawn anew. For each side of the images in pixels the store is prepared, and then both
read its features, train and judge, one after the other on this machine. Minutes are those of whole
commands with the preparation, in a folder that is new for each store, and nothing is compiled
before. FILE gets the figures of each and their means.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import learning
from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.run import folder as run_folder
from painterjax.run import metrics_log

IN_PYTORCH = {
    "pretrained": "benchmarks.pytorch_pretrained",
    "finetuned": "benchmarks.pytorch_finetuning",
}
SYSTEMS = ("pytorch", "painterjax")


def main() -> None:
    """Runs the command line."""
    parser = learning.flags_parser(__doc__)
    parser.add_argument("--recipe", choices=IN_PYTORCH, default="pretrained")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 224], help="in pixels")
    args = parser.parse_args()
    try:
        cli.check_json(args.json)
    except InputError as error:
        parser.error(str(error))
    args.data.mkdir(parents=True, exist_ok=True)
    rows = []
    cases = [(*draw, size) for draw in draws(args.seeds) for size in args.sizes]
    for seed, split_by, size in cases:
        with tempfile.TemporaryDirectory(dir=args.data) as folder:
            systems = compare(
                args.images, Path(folder), args.recipe, seed=seed, split_by=split_by, size=size
            )
        rows.append({"seed": seed, "split_by": split_by, "pixels": size, **systems})
        result = {
            "environment": run_folder.environment(),
            "recipe": args.recipe,
            "rows": rows,
            "means": means(rows),
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(means(rows), indent=2))


def draws(seeds: list[int]) -> list[tuple[int, str]]:
    """Returns seeds and what `prepare --split-by` divides by."""
    return [(seeds[0], "holdout"), *((seed, "artist") for seed in seeds)]


def compare(
    images: str, folder: Path, recipe: str, *, seed: int, split_by: str, size: int
) -> dict[str, Any]:
    """Prepares a store in an empty folder, and trains on it with each of SYSTEMS."""
    store, started_s = folder / "store", time.perf_counter()
    options = ("--image-size", str(size), "--seed", str(seed), "--split-by", split_by)
    learning.run(
        "painterjax.prepare", "folder", "--input", images, "--output", str(store), *options
    )
    minutes = (time.perf_counter() - started_s) / 60
    options = ("--seed", str(seed))
    theirs = learning.train_in_pytorch(IN_PYTORCH[recipe], store, folder / "pytorch.json", *options)
    systems = {"pytorch": theirs, "painterjax": train(recipe, store, folder / "run", seed)}
    for figures in systems.values():
        figures["minutes"] += minutes
    return {"minutes_of_preparation": minutes, **systems}


def train(recipe: str, store: Path, run: Path, seed: int) -> dict[str, Any]:
    """Trains here; returns the minutes of the whole command, what was fitted, and test figures."""
    minutes = learning.minutes_of_training(
        f"--config=configs/{recipe}.py", store, run, [f"--config.seed={seed}"]
    )
    fit = next(each for each in metrics_log.read_records(run) if each["split"] == "fit")
    test = json.loads((run / "evaluation.json").read_text())["test"]
    return {"minutes": minutes, "shrinkage": fit["shrinkage"], "dim": fit["dim"], **test}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, for each split and size."""
    found = []
    for key in dict.fromkeys((row["split_by"], row["pixels"]) for row in rows):
        same = [row for row in rows if (row["split_by"], row["pixels"]) == key]
        systems = {name: learning.mean_of([row[name] for row in same]) for name in SYSTEMS}
        found.append({"split_by": key[0], "pixels": key[1], "seeds": len(same), **systems})
    return found


if __name__ == "__main__":
    main()
