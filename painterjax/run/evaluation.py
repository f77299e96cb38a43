"""How a run fares on validation and test, and the file that keeps it."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data.catalog import JUDGED
from painterjax.data.store import Store, verify
from painterjax.distributed import processes
from painterjax.metrics import attribution, breakdown, evaluator
from painterjax.metrics.calibration import Calibration, calibrate
from painterjax.metrics.pairs import Pairs, at_threshold, best_threshold
from painterjax.model.embedder import untrained
from painterjax.run import figures, foreign_vectors, queries, tensorboard
from painterjax.run import folder as run_folder
from painterjax.run.embed import embed_paintings, split_embeddings
from painterjax.run.load import NETWORK, Run


@dataclasses.dataclass(frozen=True)
class Judging:
    """How splits are judged: keys of a recipe's `eval`; these are for vectors without a recipe."""

    triplets: int = 10_000
    max_paintings: int = 50_000
    floors: bool = True


def evaluate(
    run: Run,
    *,
    splits: tuple[str, ...] = JUDGED,
    floors: bool | None = None,
    in_full: bool = True,
    check_store: bool = False,
) -> dict[str, Any]:
    """Judges a run's best network, prints a table if `in_full`, and writes evaluation.json.

    A split without two artists is left out, and a line says so. Where its artists are all in train,
    its paintings are also queries against those of train, whose embeddings are a forward pass: a
    third of an epoch. The test embeddings are also written for TensorBoard's projector. All
    processes of a training call it, and embed and compare together; the writer alone prints and
    writes. `floors` says whether the floors are judged; None leaves it to the recipe. With
    `check_store` the whole store is read, also what this machine has found intact before.

    Returns:
      `step` and `network_sha256`; `threshold`, `calibration` and `attribution`, found on
      validation; and for each split how many paintings it has and how many of them were compared
      with all; every metric's {value, low, high} beside the same of two floors, `color_histogram`
      and `untrained`; retrieval of its paintings from those of train where all its artists are
      there; how the threshold and the calibration do there; and figures by artist, style and
      century. Figures of other splits are kept where they are of the same network.

    Raises:
      InputError: the store has changed, or no split can be judged.
    """
    verify(run.store.path, share=processes.share(), anew=check_store)
    trained_on, settings = run.artists_trained_on, run.config.eval
    how = Judging(
        settings.triplets, settings.max_paintings, settings.floors if floors is None else floors
    )
    present = [name for name in JUDGED if len(run.store.splits[name])]
    database = ["train"] if any(queries.have_database(run.store, name) for name in splits) else []
    emb_by_split = {name: split_embeddings(run, name).emb_NxD for name in present + database}
    wanted = [name for name in present if name in splits and how.floors]
    untrained_by_split = _untrained(run, wanted) if wanted else {}
    compared = _compare(run.store, emb_by_split, untrained_by_split, how, splits)
    calibrated = _calibrate(compared)
    judged = _judge(run.store, compared, splits, calibrated, emb_by_split, how)
    if not processes.is_writer():
        return {}
    if in_full:
        _print_tables(run.store, judged, trained_on)
    if "test" in judged:
        tensorboard.write_projector(run.path, run.store.splits["test"], emb_by_split["test"])
    network = {"step": run.step, NETWORK: run.origin[NETWORK]}
    before = run_folder.read_evaluation(run.path, network[NETWORK])
    evaluation = {**before, **network, **calibrated, **judged}
    files.write_json(run.path / "evaluation.json", evaluation)
    return evaluation


def evaluate_file(
    path: Path, store: Store, *, splits: tuple[str, ...] = JUDGED, floors: bool | None = None
) -> dict[str, Any]:
    """Judges vectors of any origin as `evaluate` does a run; nothing is written."""
    how = Judging(floors=floors is not False)
    emb_by_split = foreign_vectors.read(path, store, splits)
    compared = _compare(store, emb_by_split, {}, how, splits)
    calibrated = _calibrate(compared)
    judged = _judge(store, compared, splits, calibrated, emb_by_split, how)
    _print_tables(store, judged, store.splits["train"].artists)
    return {**calibrated, **judged}


@dataclasses.dataclass(frozen=True)
class ComparedSplit:
    """The embeddings of a split and those of its floors, compared; and its fixed triplets."""

    comparison: evaluator.Comparison
    row_Tx3: np.ndarray
    floors: dict[str, evaluator.Comparison]


def _compare(
    store: Store,
    emb_by_split: dict[str, np.ndarray],
    untrained_by_split: dict[str, np.ndarray],
    how: Judging,
    wanted: tuple[str, ...],
) -> dict[str, ComparedSplit]:
    """Compares the paintings of each split that can be judged; a line says why another cannot."""
    found = {}
    for name, row_Tx3 in _fixed_triplets(store, emb_by_split, how.triplets).items():
        split, emb_by_floor = store.splits[name], {}
        if how.floors and name in wanted:
            if name in untrained_by_split:
                emb_by_floor["untrained"] = untrained_by_split[name]
            emb_by_floor["color_histogram"] = evaluator.color_histograms(split.image_NxSxSxC)
        comparison, *floors = (
            evaluator.compare(emb_NxD, split.artist_N, most=how.max_paintings)
            for emb_NxD in (emb_by_split[name], *emb_by_floor.values())
        )
        of_floors = dict(zip(emb_by_floor, floors, strict=True))
        found[name] = ComparedSplit(comparison, row_Tx3, of_floors)
    return found


def _calibrate(compared: dict[str, ComparedSplit]) -> dict[str, Any]:
    """The threshold and the calibration of validation's pairs, and its attribution; or nothing."""
    if "val" not in compared:
        return {}
    val = compared["val"].comparison
    return {
        "threshold": best_threshold(val.pairs),
        "calibration": dataclasses.asdict(calibrate(val.pairs)),
        "attribution": dataclasses.asdict(attribution.fit(val.emb_NxD, val.artist_N)),
    }


def _judge(
    store: Store,
    compared: dict[str, ComparedSplit],
    wanted: tuple[str, ...],
    calibrated: dict[str, Any],
    emb_by_split: dict[str, np.ndarray],
    how: Judging,
) -> dict[str, dict[str, Any]]:
    """The figures of each wanted split; raises InputError where none can be judged."""
    judged = {}
    for name in (name for name in compared if name in wanted):
        split, of = store.splits[name], compared[name]
        judged[name] = {
            "paintings": len(split),
            "judged_paintings": len(of.comparison.query_Q),
            "artists": len(split.artists),
            **evaluator.evaluate(of.comparison, of.row_Tx3),
            **{key: evaluator.evaluate(floor, of.row_Tx3) for key, floor in of.floors.items()},
            **_at_calibration(of.comparison.pairs, calibrated),
            "groups": breakdown.by_group(of.comparison, split),
        }
        if "train" in emb_by_split and queries.have_database(store, name):
            judged[name]["queries"] = queries.judge(
                store, name, emb_by_split, most=how.max_paintings
            )
    if not judged:
        raise InputError(f"{store.path} has nothing to judge in {' or '.join(wanted)}")
    return judged


def _print_tables(
    store: Store, judged: dict[str, dict[str, Any]], trained_on: Collection[str]
) -> None:
    for name, of in judged.items():
        print(figures.table(store.splits[name], of, trained_on))
        if "queries" in of:
            print(queries.table(name, of["queries"]))


def _untrained(run: Run, names: list[str]) -> dict[str, np.ndarray]:
    """The embeddings of splits by an untrained network."""
    floor = untrained(run.config, image_size=run.store.image_size)
    return {
        name: embed_paintings(run.config, run.store, name, floor, f"embed {name}, untrained")
        for name in names
    }


def _fixed_triplets(
    store: Store, emb_by_split: dict[str, np.ndarray], count: int
) -> dict[str, np.ndarray]:
    """The triplets of each split that can be judged; a line says why another cannot."""
    found = {}
    for name in (name for name in JUDGED if name in emb_by_split or not len(store.splits[name])):
        try:
            found[name] = evaluator.fixed_triplets(store.splits[name], count=count)
        except InputError as error:
            if processes.is_writer():
                print(f"{name}: not judged, {error}")
    return found


def _at_calibration(pairs: Pairs, calibrated: dict[str, Any]) -> dict[str, Any]:
    """How validation's threshold and calibration do on these pairs."""
    if not calibrated:
        return {}
    return {
        "at_threshold": at_threshold(pairs, calibrated["threshold"]),
        "calibration_error": Calibration(**calibrated["calibration"]).error(pairs),
    }
