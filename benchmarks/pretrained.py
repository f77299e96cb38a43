"""A recipe on a pretrained network here and in PyTorch, from a folder of images on.

    python -m benchmarks.pretrained --images paintings --data data --json FILE [--seeds 0 1 2]
        [--recipe pretrained] [--sizes 128 224] [--split-by holdout artist]
        [--systems pytorch painterjax] [--dtype float32]
    python -m benchmarks.pretrained --images paintings --data data --json FILE
        --recipe finetuned --sizes 224 --split-by holdout

Artists never seen are the held-out ones, with the first seed, and for each seed a fifth of all
artists, drawn anew. For each side of the images in pixels the store is prepared, and then both
read its features, train and judge, one after the other on this machine. Minutes are those of whole
commands with the preparation, in a folder that is new for each store, and nothing is compiled
before. FILE gets the figures of each and their means, and of painterjax, and of fine-tuning in
PyTorch, those of the validation paintings as queries against train's; what it has already is kept
and not measured again.
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
SPLITS = ("holdout", "artist")  # of prepare --split-by


def main() -> None:
    """Runs the command line."""
    parser = learning.flags_parser(__doc__)
    parser.add_argument("--recipe", choices=IN_PYTORCH, default="pretrained")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 224], help="in pixels")
    parser.add_argument("--split-by", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--dtype", default="float32", help="of painterjax")
    args = parser.parse_args()
    try:
        cli.check_json(args.json)
        rows = measured(args.json, args.recipe)
    except InputError as error:
        parser.error(str(error))
    args.data.mkdir(parents=True, exist_ok=True)
    done = {(row["seed"], row["split_by"], row["pixels"]) for row in rows}
    wanted = [draw for draw in draws(args.seeds) if draw[1] in args.split_by]
    cases = [(*draw, size) for draw in wanted for size in args.sizes]
    for seed, split_by, size in [case for case in cases if case not in done]:
        with tempfile.TemporaryDirectory(dir=args.data) as folder:
            store = Path(folder) / "store"
            minutes = prepare(args.images, store, seed=seed, split_by=split_by, size=size)
            flags = [f"--config.seed={seed}", f"--config.model.dtype={args.dtype}"]
            figures = {
                system: train(args.recipe, store, flags)
                if system == "painterjax"
                else train_in_pytorch(args.recipe, store, seed)
                for system in args.systems
            }
        for of in figures.values():
            of["minutes"] += minutes
        row = {"seed": seed, "split_by": split_by, "pixels": size}
        rows.append({**row, "minutes_of_preparation": minutes, **figures})
        result = {
            "environment": run_folder.environment(),
            "recipe": args.recipe,
            "dtype": args.dtype,
            "rows": rows,
            "means": means(rows),
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps(means(rows), indent=2))


def measured(path: Path, recipe: str) -> list[dict[str, Any]]:
    """Returns the rows that a file of results has.

    Raises:
      InputError: they are of another recipe.
    """
    if not path.exists():
        return []
    result = json.loads(path.read_text())
    if result["recipe"] != recipe:
        raise InputError(f"--json {path} is of {result['recipe']}: choose another file")
    return result["rows"]


def draws(seeds: list[int]) -> list[tuple[int, str]]:
    """Returns seeds and what `prepare --split-by` divides by."""
    return [(seeds[0], "holdout"), *((seed, "artist") for seed in seeds)]


def prepare(images: str, store: Path, *, seed: int, split_by: str, size: int) -> float:
    """Prepares a store; returns the minutes that this took."""
    started_s = time.perf_counter()
    options = ("--image-size", str(size), "--seed", str(seed), "--split-by", split_by)
    learning.run(
        "painterjax.prepare", "folder", "--input", images, "--output", str(store), *options
    )
    return (time.perf_counter() - started_s) / 60


def train_in_pytorch(recipe: str, store: Path, seed: int) -> dict[str, Any]:
    """Trains beside a store; returns the minutes of the whole command, and test figures."""
    path = store.parent / "pytorch.json"
    return learning.train_in_pytorch(IN_PYTORCH[recipe], store, path, "--seed", str(seed))


def train(recipe: str, store: Path, flags: list[str]) -> dict[str, Any]:
    """Trains here; returns the same, and what was fitted."""
    run = store.parent / "run"
    minutes = learning.minutes_of_training(f"--config=configs/{recipe}.py", store, run, flags)
    fit = next(each for each in metrics_log.read_records(run) if each["split"] == "fit")
    judged = json.loads((run / "evaluation.json").read_text())
    fitted = {"shrinkage": fit["shrinkage"], "dim": fit["dim"]}
    return {"minutes": minutes, **fitted, **judged["test"], "queries": judged["val"]["queries"]}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, for each split and size."""
    found = []
    for key in dict.fromkeys((row["split_by"], row["pixels"]) for row in rows):
        same = [row for row in rows if (row["split_by"], row["pixels"]) == key]
        names = [name for name in SYSTEMS if name in same[0]]
        systems = {name: learning.mean_of([row[name] for row in same]) for name in names}
        found.append({"split_by": key[0], "pixels": key[1], "seeds": len(same), **systems})
    return found


if __name__ == "__main__":
    main()
