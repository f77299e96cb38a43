"""The report: what a run learned, as one page that opens anywhere, and its plots as PNGs."""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.data.store import Split, Store
from painterjax.losses import objectives
from painterjax.metrics import evaluator
from painterjax.metrics.calibration import Calibration
from painterjax.metrics.pairs import count_pairs
from painterjax.pages import html, plots, tsne
from painterjax.run import embed as run_embed
from painterjax.run import folder as run_folder
from painterjax.run import metrics_log

CURVES = ("loss", "accuracy", "roc_auc", "recall_at_1")
TRIPLETS = 8  # shown of each kind
PAIR_PLOTS = ("roc", "distances", "reliability")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --line: #8884; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }}
h1 {{ line-height: 1.2; }} h2 {{ margin-top: 3rem; }}
svg {{ max-width: 100%; height: auto; }}
.plots, .triplets {{ display: grid; gap: 0 2rem; }}
.plots {{ grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }}
.triplets {{ grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .25rem .75rem; border-bottom: 1px solid var(--line); text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
.row {{ display: flex; gap: .75rem; overflow-x: auto; padding: .5rem 0; }}
figure {{ margin: 0; flex: 0 0 auto; width: min(8rem, 30%); font-size: .8rem; line-height: 1.3; }}
.rows figure {{ width: min(8rem, 26%); }}
figure img {{ width: 100%; aspect-ratio: 1; display: block; margin-bottom: .25rem; }}
figure img {{ border-bottom: 4px solid #8880; }}
figure.same img {{ border-color: #d9822b; }} figure.other img {{ border-color: #3d85c6; }}
figcaption {{ overflow-wrap: anywhere; }}
.key span {{ border-bottom: 4px solid #8880; margin-right: 1.5rem; display: inline-block; }}
.key .same {{ border-color: #d9822b; }} .key .other {{ border-color: #3d85c6; }}
td small {{ white-space: nowrap; }}
@media (max-width: 40rem) {{
  table {{ font-size: .75rem; line-height: 1.3; }} th, td {{ padding: .25rem .3rem; }}
  td small {{ display: block; font-size: .7rem; }}
}}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def report(run: Path) -> None:
    """Writes RUN/report.html and RUN/report/*.png.

    Raises:
      InputError: the run was not judged on artists never seen in training.
    """
    embedder, origin = run_embed.of_run(run)
    config = run_folder.read_config(run)
    store = run_folder.open_store_of(run)
    test = store.splits["test"]
    evaluation = _read_evaluation(run, origin["step"], test)
    (embedded,) = run_embed.store_vectors(run, embedder, origin, names=("test",))
    emb_NxD = embedded.emb_NxD
    records = _comparable(metrics_log.read_records(run), config.loss.name)
    shown = _shown(store, emb_NxD)
    figures = {
        **{key: plots.curve(records, key, title=html.NAMES[key]) for key in CURVES},
        **{f"artists_{name}": _artists(store.splits[name]) for name in ("train", "test")},
        **_pair_plots(emb_NxD, test, evaluation),
        "map": paintings_map(emb_NxD, test),
    }
    pictures = {
        name: plots.pictures(store.splits["train" if name == "trained_on" else "test"], rows)
        for name, rows in shown.items()
    }
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    for name, figure in {**figures, **pictures}.items():
        figure.savefig(folder / f"{name}.png", dpi=160)
    files.write_text(run / "report.html", page(run, store, evaluation, emb_NxD, figures, shown))


def page(
    run: Path,
    store: Store,
    evaluation: dict[str, Any],
    emb_NxD: np.ndarray,
    figures: dict[str, Figure],
    shown: dict[str, list[list[html.Shown]]],
) -> str:
    """Returns the page's text."""
    train, test = store.splits["train"], store.splits["test"]
    judged = evaluation["test"]
    text_by_head = {
        "Figures": html.figures_table(judged),
        "Training": _plots(figures, *CURVES),
        "Paintings per artist": _plots(figures, "artists_train", "artists_test"),
        "What it was trained on: triplets": html.pictures(
            train, shown["trained_on"], kind="triplets"
        ),
        "Artists never seen: triplets, right where the same artist's is nearer": html.pictures(
            test, shown["triplets"], kind="triplets"
        ),
        "The hardest mistakes": html.pictures(test, shown["mistakes"], kind="triplets"),
        "Pairs of paintings by artists never seen": html.verdict(judged)
        + _plots(figures, *(name for name in PAIR_PLOTS if name in figures)),
        "Artists, styles and centuries": html.groups(judged["groups"]),
        "What hangs nearest": html.pictures(test, shown["neighbors"], kind="rows"),
        "Artists most often confused": html.confused_table(emb_NxD, test),
        "A map of paintings by artists never seen": plots.svg(figures["map"]),
    }
    title = f"{run.name}: {len(test.artists)} artists never seen in training"
    body = "".join(f"<h2>{escape(head)}</h2>\n{text}\n" for head, text in text_by_head.items())
    return PAGE.format(title=escape(title), body=body)


def paintings_map(emb_NxD: np.ndarray, split: Split) -> Figure:
    """Returns a map of a split's paintings."""
    row_M, place_Mx2 = tsne.places(emb_NxD)
    thumbnails = np.stack([images.thumbnail(image, 64) for image in split.image_NxSxSxC[row_M]])
    return plots.scatter(place_Mx2, thumbnails, split.artist_N[row_M], split.artists)


def _shown(store: Store, emb_NxD: np.ndarray) -> dict[str, list[list[html.Shown]]]:
    """The rows of paintings of each section that has some."""
    train, test = store.splits["train"], store.splits["test"]
    row_Tx3 = evaluator.fixed_triplets(test, count=10_000)
    hardest_Tx3 = _one_of_each_anchor(row_Tx3[np.argsort(_gaps(emb_NxD, row_Tx3))])[:TRIPLETS]
    return {
        "trained_on": html.triplets(evaluator.fixed_triplets(train, count=TRIPLETS), None),
        "triplets": html.triplets(row_Tx3[:TRIPLETS], emb_NxD),
        "mistakes": html.triplets(hardest_Tx3, emb_NxD),
        "neighbors": html.neighbors(emb_NxD, test),
    }


def _pair_plots(emb_NxD: np.ndarray, test: Split, evaluation: dict[str, Any]) -> dict[str, Figure]:
    pairs = count_pairs(emb_NxD, test.artist_N)
    figures = {
        "roc": plots.roc(pairs, roc_auc=evaluation["test"]["pair_roc_auc"]["value"]),
        "distances": plots.distances(pairs, threshold=evaluation.get("threshold")),
    }
    if "calibration" in evaluation:
        calibration = Calibration(**evaluation["calibration"])
        figures["reliability"] = plots.reliability(*calibration.reliability(pairs))
    return figures


def _gaps(emb_NxD: np.ndarray, row_Tx3: np.ndarray) -> np.ndarray:
    """How much farther than the positive the negative is."""
    anchor_TxD, positive_TxD, negative_TxD = (emb_NxD[row_T] for row_T in row_Tx3.T)
    return np.linalg.norm(anchor_TxD - negative_TxD, axis=1) - np.linalg.norm(
        anchor_TxD - positive_TxD, axis=1
    )


def _one_of_each_anchor(row_Tx3: np.ndarray) -> np.ndarray:
    _, first_M = np.unique(row_Tx3[:, 0], return_index=True)
    return row_Tx3[np.sort(first_M)]


def _artists(split: Split) -> Figure:
    title = f"{split.name}: {len(split):,} paintings by {len(split.artists):,} artists"
    return plots.paintings_per_artist(np.bincount(split.artist_N), title=title)


def _plots(figures: dict[str, Figure], *names: str) -> str:
    """Side by side where there is room."""
    return f'<div class="plots">{"".join(plots.svg(figures[name]) for name in names)}</div>\n'


def _comparable(records: list[dict[str, Any]], loss: str) -> list[dict[str, Any]]:
    """The records without validation's loss, where that is another than training's."""
    if objectives.validated_as(loss) == loss:
        return records
    return [
        {key: value for key, value in record.items() if record["split"] != "val" or key != "loss"}
        for record in records
    ]


def _read_evaluation(run: Path, step: int, test: Split) -> dict[str, Any]:
    try:
        evaluator.fixed_triplets(test, count=1)
    except InputError as error:
        raise InputError(
            f"{run} can have no figures of artists never seen: {error} in test; prepare more"
            " paintings, or with another --test-fraction, and train again"
        ) from error
    try:
        evaluation = files.read_json(run / "evaluation.json")
        reason = f"they are of step {evaluation['step']}, the run has {step}"
        if evaluation["step"] == step:
            reason = "test was not judged"
            _ = evaluation["test"]["pair_roc_auc"]["value"], evaluation["test"]["groups"]
            return evaluation
    except (OSError, ValueError):
        reason = "evaluation.json cannot be read"
    except (KeyError, TypeError):
        reason = "test was not judged"
    raise InputError(
        f"{run} has no figures of artists never seen ({reason}):"
        f" python -m painterjax.evaluate --run {run}"
    )
