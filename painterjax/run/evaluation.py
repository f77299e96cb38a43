"""How a run fares on artists seen and never seen, and the file that keeps it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.common.progress import Progress
from painterjax.data.store import Split, Store, verify
from painterjax.metrics import breakdown, evaluator
from painterjax.metrics.calibration import Calibration, calibrate
from painterjax.metrics.pairs import Pairs, at_threshold, best_threshold
from painterjax.model.embedder import untrained
from painterjax.run import config_checks, embeddings, tensorboard
from painterjax.run import embed as run_embed
from painterjax.run import folder as run_folder

JUDGED = ("val", "test")
FLOORS = ("untrained", "color_histogram")
TRIPLETS = 10_000  # of vectors that come without a recipe


def evaluate(run: Path, *, splits: tuple[str, ...] = JUDGED) -> dict[str, Any]:
    """Judges a run's best checkpoint, prints a table, and writes evaluation.json.

    A split without two artists is left out, and the table says so. The test's embeddings are also
    written for TensorBoard's projector.

    Returns:
      `step`; `threshold` and `calibration`, found on validation; and by split each metric's
      {value, low, high} beside the same of two floors, `color_histogram` and `untrained`, how the
      threshold and the calibration fare, and figures by artist, style and century. Earlier figures
      of other splits are kept where they are of the same step.

    Raises:
      InputError: there is no run, its store is another now, or no split can be judged.
    """
    config = run_folder.read_config(run)
    config_checks.check_keys(config)
    # Other splits could hold artists of whom training has seen paintings.
    store = run_folder.open_store_of(run)
    verify(store.path)
    start = untrained(config, image_size=store.image_size)
    best, step = run_embed.trained(run, start)

    def embed_by(split: Split, progress: Progress) -> dict[str, np.ndarray]:
        emb_NxD = best.embed(split.image_NxSxSxC, progress)
        if split.name == "test":
            tensorboard.write_projector(run, split, emb_NxD)
        return {"trained": emb_NxD, "untrained": start.embed(split.image_NxSxSxC, progress)}

    judged = _judge_splits(store, JUDGED, splits, embed_by, triplets=config.eval.triplets)
    before = _read(run / "evaluation.json")
    evaluation = {**(before if before.get("step") == step else {}), "step": step, **judged}
    files.write_json(run / "evaluation.json", evaluation)
    return evaluation


def evaluate_vectors(
    path: Path, store: Store, *, splits: tuple[str, ...] = JUDGED
) -> dict[str, Any]:
    """Judges vectors of any origin as `evaluate` does a run; nothing is written."""
    vector_by_split = _read_vectors(path, store, splits)

    def embed_by(split: Split, progress: Progress) -> dict[str, np.ndarray]:
        progress.advance(2 * len(split))
        return {"trained": vector_by_split[split.name]}

    known = tuple(name for name in JUDGED if name in vector_by_split)
    return _judge_splits(store, known, splits, embed_by, triplets=TRIPLETS)


def _judge_splits(
    store: Store,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    embed_by: Callable[[Split, Progress], dict[str, np.ndarray]],
    *,
    triplets: int,
) -> dict[str, Any]:
    """Judges those of the splits `names` that are wanted; validation calibrates, wanted or not."""
    judged: dict[str, Any] = {}
    for split in (store.splits[name] for name in names):
        try:
            row_Tx3 = evaluator.fixed_triplets(split, count=triplets)
        except InputError as error:
            print(f"{split.name}: not judged, {error}")
            continue
        with Progress(f"evaluate {split.name}", total=2 * len(split), unit="painting") as bar:
            emb_by_name = embed_by(split, bar)
            bar.show(f"judge {split.name}")
            emb_by_name["color_histogram"] = evaluator.color_histograms(split.image_NxSxSxC)
            compared = evaluator.compare(emb_by_name.pop("trained"), split.artist_N)
            figures = {
                key: evaluator.evaluate(evaluator.compare(emb_NxD, split.artist_N), row_Tx3)
                for key, emb_NxD in emb_by_name.items()
            }
        pairs = compared.pairs
        if split.name == "val":
            judged["threshold"] = best_threshold(pairs)
            judged["calibration"] = dataclasses.asdict(calibrate(pairs))
        if split.name in wanted:
            judged[split.name] = {
                **evaluator.evaluate(compared, row_Tx3),
                **figures,
                **_by_validation(pairs, judged),
                "groups": breakdown.by_group(compared, split),
            }
            print(table(split, judged[split.name]))
    if not set(judged) & set(wanted):
        raise InputError(f"{store.path} has nothing to judge in {' or '.join(wanted)}")
    return judged


def _by_validation(pairs: Pairs, judged: dict[str, Any]) -> dict[str, Any]:
    """How what was found on validation fares."""
    if "calibration" not in judged:
        return {}
    calibration = Calibration(**judged["calibration"])
    return {
        "at_threshold": at_threshold(pairs, judged["threshold"]),
        "calibration_error": calibration.error(pairs),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path)
    except (OSError, ValueError):  # Earlier figures are kept where there are any.
        return {}


def _read_vectors(path: Path, store: Store, splits: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the vectors of each split that a file has whole."""
    if path.suffix == ".npz":
        found = embeddings.load(path)
        row_by_file = {painting.file: row for row, painting in enumerate(found.paintings)}
        return _vectors_by_file(found.emb_NxD, row_by_file, store)
    try:
        loaded = np.lib.format.open_memmap(path, mode="r")  # Refuses pickles, and what is no .npy.
    except embeddings.UNREADABLE as error:
        raise InputError(f"--embeddings {path} cannot be read: {error}") from error
    is_table = loaded.ndim == 2 and loaded.shape[1] > 0 and loaded.dtype.kind in "fiu"
    with np.errstate(over="ignore"):
        emb_NxD = loaded.astype(np.float32) if is_table else np.array(np.nan)
    if not np.isfinite(emb_NxD).all():
        found = f"{loaded.dtype} {loaded.shape}"
        raise InputError(f"--embeddings {path} holds {found}: must be N x D finite numbers")
    lengths = {name: len(split) for name, split in store.splits.items()}
    if len(emb_NxD) == sum(lengths.values()):
        ends = np.cumsum(list(lengths.values()))
        return dict(zip(lengths, np.split(emb_NxD, ends[:-1]), strict=True))
    fitting = [name for name in JUDGED if lengths[name] == len(emb_NxD)]
    if len(fitting) > 1 and len(splits) == 1:
        fitting = list(splits)
    if len(fitting) == 1:
        return {fitting[0]: emb_NxD}
    if fitting:
        raise InputError(
            f"--embeddings {path} has {len(emb_NxD)} vectors, as many as both val and test of"
            f" {store.path} have paintings: --split says which they are of"
        )
    expected = ", ".join(f"{length} in {name}" for name, length in lengths.items())
    raise InputError(
        f"--embeddings {path} has {len(emb_NxD)} vectors, {store.path} has {expected} paintings:"
        " give one for each painting of all splits, or of val or test"
    )


def _vectors_by_file(
    emb_NxD: np.ndarray, row_by_file: dict[str, int], store: Store
) -> dict[str, np.ndarray]:
    found = {}
    for name in JUDGED:
        rows = [row_by_file.get(painting.file, -1) for painting in store.splits[name].paintings]
        if rows and min(rows) >= 0:
            found[name] = emb_NxD[rows]
    if not found:
        raise InputError(f"--embeddings has no split of {store.path} whole: embed it again")
    return found


def read_calibration(run: Path, *, step: int) -> Calibration | None:
    """Returns what evaluation.json says of a step; None where another or none was judged."""
    try:
        evaluation = files.read_json(run / "evaluation.json")
        calibration = {key: float(value) for key, value in evaluation["calibration"].items()}
        return Calibration(**calibration) if evaluation["step"] == step else None
    except (AttributeError, OSError, ValueError, KeyError, TypeError):
        return None


def needed_calibration(run: Path, *, step: int) -> Calibration:
    """Returns what evaluation.json says of a step; raises InputError where it says nothing."""
    calibration = read_calibration(run, step=step)
    if calibration is None:
        raise InputError(
            f"{run} was not calibrated: python -m painterjax.evaluate --run {run}, on a store with"
            " two paintings by each of two artists in its validation"
        )
    return calibration


def table(split: Split, figures: dict[str, Any]) -> str:
    """Returns a split's figures as lines of text, one column per embedding."""
    seen = "seen" if split.name == "val" else "never seen"
    first = "trained" if "untrained" in figures else "vectors"
    columns = {first: figures, **{key: figures[key] for key in FLOORS if key in figures}}
    lines = [
        f"{split.name}: {len(split)} paintings by {len(split.artists)} artists {seen} in training",
        f"  {'':22}" + "".join(f"{key:>24}" for key in columns),
    ]
    for metric in figures["color_histogram"]:
        cells = [_with_interval(column[metric]) for column in columns.values()]
        lines.append(f"  {metric:22}" + "".join(f"{cell:>24}" for cell in cells))
    if figures["pair_roc_auc"]["low"] is None:
        lines.append(f"  no intervals: {len(split.artists)} artists")
    if "at_threshold" in figures:
        at, error = figures["at_threshold"], figures["calibration_error"]
        lines.append(
            f"  by validation: within a distance of {at['distance']:.3f} lie"
            f" {100 * at['true_positive_rate']:.0f} % of the pairs by one artist,"
            f" {100 * at['false_positive_rate']:.0f} % of the others;"
            f" probabilities are off by {error:.3f}"
        )
    return "\n".join(lines)


def _with_interval(figure: dict[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
