"""Judges a run on validation (artists seen in training) and test (artists never seen).

    python -m painterjax.evaluate --run RUN [--split test] [--json FILE]

Example:

    python -m painterjax.evaluate --run runs/quickstart

prints a table and writes the same figures to runs/quickstart/evaluation.json.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from painterjax import checks, cli, compilation, embed, files, metrics, runfolder, runlog, sampling
from painterjax.errors import InputError
from painterjax.store import Split, open_store

JUDGED = ("val", "test")
# The same tuples for every run on a store, whatever its own seed.
TUPLE_SEED = 0
REPLICATES = 1000  # of the bootstrap
DISTANCE_BLOCK = 1024
FLOORS = ("untrained", "color_histogram")

# A metric, the artist of each element, and the arrays of elements that it takes.
Measurement = tuple[Callable[..., float], np.ndarray, tuple[np.ndarray, ...]]
Figures = dict[str, dict[str, float]]


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.evaluate`."""
    compilation.keep_on_disk()
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.evaluate")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    parser.add_argument("--split", choices=JUDGED, help="only this one (both)")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args(argv)
    evaluation = evaluate(args.run, splits=(args.split,) if args.split else JUDGED)
    if args.json:
        args.json.write_text(json.dumps(evaluation, indent=2) + "\n")


def evaluate(run: Path, *, splits: tuple[str, ...] = JUDGED) -> dict[str, Any]:
    """Judges a run's best checkpoint, prints a table, and writes evaluation.json.

    A split without two artists is left out, and the table says so.

    Returns:
      `step`, and by split each metric's {value, low, high} beside the same of two floors on the
      same tuples: `color_histogram` and `untrained`. Earlier figures of other splits are kept
      where they are of the same step.

    Raises:
      InputError: there is no run, its store is another now, or no split can be judged.
    """
    config = runfolder.read_config(run)
    checks.check_keys(config)
    store = open_store(config.data.store)
    # Other splits could hold artists of whom training has seen paintings.
    runfolder.check_same(run, "dataset", store.info)
    start = embed.untrained(config, image_size=store.image_size)
    best, step = embed.trained(run, start)
    judged = {}
    for split in (store.splits[name] for name in splits):
        try:
            row_Tx3 = fixed_triplets(split, count=config.eval.triplets)
        except InputError as error:
            print(f"{split.name}: not judged, {error}")
            continue
        judged[split.name] = _judge_split(split, best, start, row_Tx3)
        print(table(split, judged[split.name]))
    if not judged:
        raise InputError(f"{store.path} has nothing to judge in {' or '.join(splits)}")
    before = _read(run / "evaluation.json")
    evaluation = {**(before if before.get("step") == step else {}), "step": step, **judged}
    files.write_json(run / "evaluation.json", evaluation)
    return evaluation


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):  # Earlier figures are kept where there are any.
        return {}


def _judge_split(
    split: Split, best: embed.Embedder, start: embed.Embedder, row_Tx3: np.ndarray
) -> dict[str, Any]:
    total = 2 * len(split)
    with runlog.Progress(f"evaluate {split.name}", total=total, unit="painting") as progress:
        embedded = {
            "trained": best.embed(split.image_NxSxSxC, progress),
            "untrained": start.embed(split.image_NxSxSxC, progress),
            "color_histogram": color_histograms(split.image_NxSxSxC),
        }
        progress.show(f"intervals of {split.name}")
        figures = {
            key: judge(emb_NxD, split.artist_N, row_Tx3) for key, emb_NxD in embedded.items()
        }
    return {**figures.pop("trained"), **figures}


def fixed_tuples(split: Split, sample: Callable[..., np.ndarray], *, count: int) -> np.ndarray:
    """Returns row_BxT: the same `count` tuples of a split on every call."""
    artists = sampling.artist_rows(split.artist_N)
    return sample(artists, batch_size=count, seed=TUPLE_SEED, index=0)


def fixed_triplets(split: Split, *, count: int) -> np.ndarray:
    """Returns row_Tx3: the same `count` triplets of a split on every call."""
    return fixed_tuples(split, sampling.triplets, count=count)


def judge(emb_NxD: np.ndarray, artist_N: np.ndarray, row_Tx3: np.ndarray) -> Figures:
    """Returns every metric of embeddings with its interval."""
    return {
        name: metrics.interval(metric, by_N, *values, replicates=REPLICATES, seed=TUPLE_SEED)
        for name, (metric, by_N, values) in _measurements(emb_NxD, artist_N, row_Tx3).items()
    }


def judge_quickly(
    emb_NxD: np.ndarray, artist_N: np.ndarray, row_Tx3: np.ndarray
) -> dict[str, float]:
    """Returns every metric of embeddings as one number."""
    measurements = _measurements(emb_NxD, artist_N, row_Tx3)
    return {name: metric(*values) for name, (metric, _, values) in measurements.items()}


def color_histograms(image_NxSxSxC: np.ndarray) -> np.ndarray:
    """Returns the square root of each image's 8 x 8 x 8 color histogram: float32 N x 512.

    Euclidean distance between these is sqrt(2) times Hellinger distance between the histograms.
    """
    histograms = []
    for image_SxSxC in image_NxSxSxC:
        bin_M = (image_SxSxC.reshape(-1, 3) >> 5).astype(np.int64) @ (64, 8, 1)
        histograms.append(np.sqrt(np.bincount(bin_M, minlength=512) / len(bin_M)))
    return np.array(histograms, np.float32)


def table(split: Split, figures: dict[str, Any]) -> str:
    """Returns a split's figures as lines of text, one column per embedding."""
    seen = "seen" if split.name == "val" else "never seen"
    columns = {
        "trained": figures,
        **{key: figures[key] for key in FLOORS},
    }
    lines = [
        f"{split.name}: {len(split)} paintings by {len(split.artists)} artists {seen} in training",
        f"  {'':20}" + "".join(f"{key:>24}" for key in columns),
    ]
    for metric in (key for key in figures if key not in columns):
        cells = [
            f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
            for figure in (column[metric] for column in columns.values())
        ]
        lines.append(f"  {metric:20}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def _measurements(
    emb_NxD: np.ndarray, artist_N: np.ndarray, row_Tx3: np.ndarray
) -> dict[str, Measurement]:
    anchor_T, positive_T, negative_T = row_Tx3.T
    distances = (_distances(emb_NxD, anchor_T, other_T) for other_T in (positive_T, negative_T))
    compared = (artist_N[anchor_T], tuple(distances))
    recall_N, precision_N = metrics.retrieval(emb_NxD, artist_N)
    counted_N = ~np.isnan(recall_N)
    return {
        "triplet_accuracy": (metrics.triplet_accuracy, *compared),
        "roc_auc": (metrics.roc_auc, *compared),
        "mean_of_two_accuracy": (metrics.mean_of_two_accuracy, *compared),
        "recall_at_1": (_mean, artist_N[counted_N], (recall_N[counted_N],)),
        "map_at_r": (_mean, artist_N[counted_N], (precision_N[counted_N],)),
    }


def _distances(emb_NxD: np.ndarray, first_T: np.ndarray, second_T: np.ndarray) -> np.ndarray:
    blocks = range(0, len(first_T), DISTANCE_BLOCK)
    slices = [slice(start, start + DISTANCE_BLOCK) for start in blocks]
    return np.concatenate(
        [np.linalg.norm(emb_NxD[first_T[s]] - emb_NxD[second_T[s]], axis=1) for s in slices]
    )


def _mean(value_N: np.ndarray) -> float:
    return float(value_N.mean(dtype=np.float64))


if __name__ == "__main__":
    cli.run(main, "evaluate")
