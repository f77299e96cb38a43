"""The report of a run: one page that opens offline, and its plots as PNG files."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.common.progress import counted
from painterjax.data import raster
from painterjax.data.store import Split, Store
from painterjax.metrics import evaluator
from painterjax.metrics.pairs import count_pairs
from painterjax.metrics.tiles import sampled_rows
from painterjax.model import likeness
from painterjax.pages import attributed, html, overview, plots, tsne
from painterjax.run import folder as run_folder
from painterjax.run import metrics_log
from painterjax.run.embed import split_embeddings
from painterjax.run.figures import artists_of
from painterjax.run.load import NETWORK, Run

CURVES = ("loss", "accuracy", "roc_auc", "recall_at_1")
TRIPLETS = 8  # of each kind
EXPLAINED = 6  # paintings whose nearest one is shown with a heat map
PAIR_PLOTS = ("roc", "distances", "reliability")
LIKENESS = (
    "<p>The brighter a place, the more it adds to the cosine of the two embeddings: the gradient of"
    " the cosine times what the network has there more than on average (Draelos and Carin 2020;"
    " Stylianou et al. 2019).</p>"
)


@matplotlib.rc_context(plots.STYLE)
def write_report(run: Run) -> None:
    """Writes RUN/report.html and RUN/report/*.png.

    Raises:
      InputError: the run's best step was not evaluated on test.
    """
    store, evaluation = run.store, evaluation_of_test(run)
    emb_NxD = split_embeddings(run, "test").emb_NxD
    figures = _figures(run, emb_NxD, evaluation)
    attributions = {}
    if run.attribution is not None:
        text, figures["attribution"] = attributed.section(
            run.attribution, emb_NxD, store.splits["test"]
        )
        attributions = {"Who painted this": text}
    tiles = _tiles(store, emb_NxD)
    sheets = {
        name: plots.tile_sheet(store.splits["train" if name == "trained_on" else "test"], rows)
        for name, rows in tiles.items()
    }
    folder = run.path / "report"
    folder.mkdir(exist_ok=True)
    for name, figure in {**figures, **sheets}.items():
        with files.replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=160)
    artists = artists_of(store.splits["test"], run.artists_trained_on)
    title = f"{run.path.resolve().name}: results on {artists}"
    sections = _sections(run, evaluation["test"], emb_NxD, figures, tiles)
    lead = overview.outcome(evaluation["test"], artists)
    files.write_text(run.path / "report.html", html.page(title, lead, {**attributions, **sections}))


def _sections(
    run: Run,
    judged: dict[str, Any],
    emb_NxD: np.ndarray,
    figures: dict[str, Figure],
    tiles: dict[str, list[list[html.Tile]]],
) -> dict[str, str]:
    """The HTML of each section by its heading."""
    train, test = run.store.splits["train"], run.store.splits["test"]
    return {
        "Metrics": html.metrics_table(judged, test) + overview.meanings(),
        "Training": _plots(figures, *CURVES) or "<p>The head was fitted in closed form.</p>",
        "Paintings per artist": _plots(figures, "artists_train", "artists_test"),
        "Training triplets": html.tile_rows(train, tiles["trained_on"], layout="triplets"),
        "Test triplets: correct if the painting by the same artist is nearer": html.tile_rows(
            test, tiles["triplets"], layout="triplets"
        ),
        "Worst mistakes": html.tile_rows(test, tiles["mistakes"], layout="triplets"),
        "Pairs of test paintings": html.pairs_summary(judged) + _plots(figures, *PAIR_PLOTS),
        "Artists, styles and centuries": html.groups_tables(judged["groups"], test.written),
        "Nearest paintings": html.tile_rows(test, tiles["neighbors"], layout="rows"),
        "Where a painting and its nearest one are alike": LIKENESS + plots.svg(figures["likeness"]),
        "Artists most often confused": html.confused_table(emb_NxD, test, _judged(run)),
        "Map of test paintings": f'<div class="scroll">{plots.svg(figures["map"])}</div>\n',
        "How it was trained": overview.about(run),
    }


def _figures(run: Run, emb_NxD: np.ndarray, evaluation: dict[str, Any]) -> dict[str, Figure]:
    records = metrics_log.read_records(run.path)
    splits, test = run.store.splits, run.store.splits["test"]
    pairs = count_pairs(emb_NxD, test.artist_N, _judged(run))
    curves = CURVES if any(record["split"] == "train" for record in records) else ()
    figures = {
        **{key: plots.curve(records, key, title=html.METRIC_NAMES[key]) for key in curves},
        **{f"artists_{name}": _paintings_per_artist(splits[name]) for name in ("train", "test")},
        "roc": plots.roc(pairs, roc_auc=evaluation["test"]["pair_roc_auc"]["value"]),
        "distances": plots.distances(pairs, threshold=evaluation.get("threshold")),
    }
    if run.calibration is not None:
        figures["reliability"] = plots.reliability(
            *run.calibration.reliability(pairs),
            stated="predicted probability of one artist", share="share of pairs by one artist",
        )  # fmt: skip
    explained = _likeness(run, emb_NxD, test)
    return {**figures, "likeness": explained, "map": paintings_map(emb_NxD, test)}


def _judged(run: Run) -> np.ndarray:
    """The rows of test that evaluation compares with all."""
    return sampled_rows(len(run.store.splits["test"]), run.config.eval.max_paintings)


def _likeness(run: Run, emb_NxD: np.ndarray, split: Split) -> Figure:
    tiles = html.neighbor_tiles(emb_NxD, split)[:EXPLAINED]
    rows = [(first.row, second.row) for first, second, *_ in tiles]
    shown = [(split.picture(first), split.picture(second)) for first, second in rows]
    return heat_maps(run, split.image_NxSxSxC[np.array(rows)], shown)


@matplotlib.rc_context(plots.STYLE)
def heat_maps(
    run: Run, image_Px2xSxSxC: np.ndarray, shown: Sequence[tuple[bytes, bytes]]
) -> Figure:
    """Returns pairs of paintings with their cosine, and what makes the two alike.

    Args:
      run: the run whose network sees them.
      image_Px2xSxSxC: what it sees of them.
      shown: the same as JPEG files, whose center squares it sees.
    """
    explained = [likeness.likeness(run.embedder, pair) for pair in image_Px2xSxSxC]
    captions = [f"cosine {cosine:.2f}" for cosine, _ in explained]
    share_Px2xMxM = np.stack([likeness.shares(each) for _, each in explained])
    return plots.likeness(shown, share_Px2xMxM, captions)


def paintings_map(emb_NxD: np.ndarray, split: Split) -> Figure:
    """Returns a map of a split's paintings."""
    row_M, place_Mx2 = tsne.places(emb_NxD)
    thumbnails = np.stack([raster.thumbnail(image, 64) for image in split.image_NxSxSxC[row_M]])
    return plots.scatter(place_Mx2, thumbnails, split.artist_N[row_M], list(split.written.values()))


def _tiles(store: Store, emb_NxD: np.ndarray) -> dict[str, list[list[html.Tile]]]:
    """Rows of tiles for the sections that have some."""
    train, test = store.splits["train"], store.splits["test"]
    row_Tx3 = evaluator.fixed_triplets(test, count=10_000)
    worst_Tx3 = _first_of_each_anchor(row_Tx3[np.argsort(_gaps(emb_NxD, row_Tx3))])[:TRIPLETS]
    return {
        "trained_on": html.triplet_tiles(evaluator.fixed_triplets(train, count=TRIPLETS), None),
        "triplets": html.triplet_tiles(row_Tx3[:TRIPLETS], emb_NxD),
        "mistakes": html.triplet_tiles(worst_Tx3, emb_NxD),
        "neighbors": html.neighbor_tiles(emb_NxD, test),
    }


def _gaps(emb_NxD: np.ndarray, row_Tx3: np.ndarray) -> np.ndarray:
    """The distance of the negative minus that of the positive."""
    anchor_TxD, positive_TxD, negative_TxD = (emb_NxD[row_T] for row_T in row_Tx3.T)
    return np.linalg.norm(anchor_TxD - negative_TxD, axis=1) - np.linalg.norm(
        anchor_TxD - positive_TxD, axis=1
    )


def _first_of_each_anchor(row_Tx3: np.ndarray) -> np.ndarray:
    _, first_M = np.unique(row_Tx3[:, 0], return_index=True)
    return row_Tx3[np.sort(first_M)]


def _paintings_per_artist(split: Split) -> Figure:
    paintings, artists = counted(len(split), "painting"), counted(len(split.artists), "artist")
    title = f"{split.name}: {paintings} by {artists}"
    return plots.paintings_per_artist(np.bincount(split.artist_N), title=title)


def _plots(figures: dict[str, Figure], *names: str) -> str:
    """Plots side by side where there is room, as many as there are."""
    there = [plots.svg(figures[name]) for name in names if name in figures]
    return f'<div class="plots">{"".join(there)}</div>\n' if there else ""


def evaluation_of_test(run: Run) -> dict[str, Any]:
    """Returns the run's evaluation.json; raises InputError if it does not judge test."""
    try:
        evaluator.fixed_triplets(run.store.splits["test"], count=1)
    except InputError as error:
        raise InputError(
            f"{run.path} has no test to report on ({error}): prepare more paintings, or with"
            " another --test-fraction, and train again"
        ) from error
    evaluation = run_folder.read_evaluation(run.path, run.origin[NETWORK])
    try:
        test = evaluation["test"]
        _ = test["pair_roc_auc"]["value"], test["groups"], test["artists"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.path}/evaluation.json has no figures of test at step {run.step}: run"
            f" python -m painterjax.evaluate --run {run.path}"
        ) from error
    return evaluation
