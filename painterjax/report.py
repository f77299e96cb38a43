"""Writes what a run learned as one page that opens anywhere, and its plots as PNGs.

    python -m painterjax.report --run RUN

Example:

    python -m painterjax.report --run runs/quickstart

writes runs/quickstart/report.html, which needs no network, and runs/quickstart/report/*.png.
"""

import collections
import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from painterjax import (
    cli,
    compilation,
    embed,
    figures,
    files,
    images,
    judging,
    mapping,
    objectives,
    runfolder,
    runlog,
    verification,
)
from painterjax.errors import InputError
from painterjax.store import Split, Store

CURVES = ("loss", "accuracy", "roc_auc", "recall_at_1")
# What judging measures, in words.
NAMES = {
    "accuracy": "accuracy",
    "equal_error_rate": "equal-error rate",
    "loss": "loss",
    "map_at_r": "MAP@R",
    "mean_of_two_accuracy": "accuracy, mean of two",
    "pair_roc_auc": "ROC AUC of all pairs",
    "r_precision": "R-precision",
    "recall_at_1": "recall@1",
    "recall_at_10": "recall@10",
    "recall_at_5": "recall@5",
    "roc_auc": "ROC AUC of triplets",
    "tpr_at_0.1_percent_fpr": "true positives at 0.1 % false",
    "tpr_at_1_percent_fpr": "true positives at 1 % false",
    "triplet_accuracy": "triplet accuracy",
}
TRIPLETS = 8  # shown of each kind
QUERIES, NEIGHBORS = 8, 7
CONFUSED = 15
THUMBNAIL = 160  # pixels at most
# https://www.kaggle.com/c/painter-by-numbers, and the solution that painterjax starts from.
PUBLISHED = {"roc_auc": 0.7465, "mean_of_two_accuracy": 0.79045}
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
figure img {{ width: 100%; aspect-ratio: 1; display: block; margin-bottom: .25rem; }}
figure img {{ border-bottom: 4px solid #8880; }}
figure.same img {{ border-color: #d9822b; }} figure.other img {{ border-color: #3d85c6; }}
figcaption {{ overflow-wrap: anywhere; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.report`."""
    compilation.keep_on_disk()
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.report")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    run = parser.parse_args(argv).run
    report(run)
    print(f"report: {run / 'report.html'}")


def report(run: Path) -> None:
    """Writes RUN/report.html and RUN/report/*.png.

    Raises:
      InputError: the run was not judged on artists never seen in training.
    """
    embedder, origin = embed.of_run(run)
    evaluation = _read_evaluation(run, origin["step"])
    config = runfolder.read_config(run)
    store = runfolder.open_store(run)
    (embedded,) = embed.store_vectors(run, embedder, origin, names=("test",))
    test, emb_NxD = store.splits["test"], embedded.emb_NxD
    pairs = verification.count_pairs(emb_NxD, test.artist_N)
    records = _comparable(runlog.read_records(run), config.loss.name)
    plots = {
        **{key: figures.curve(records, key, title=NAMES[key]) for key in CURVES},
        **{f"artists_{name}": _artists(store.splits[name]) for name in ("train", "test")},
        "roc": figures.roc(pairs, roc_auc=evaluation["test"]["pair_roc_auc"]["value"]),
        "distances": figures.distances(pairs, threshold=evaluation.get("threshold")),
        "map": paintings_map(emb_NxD, test),
    }
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    for name, figure in plots.items():
        figure.savefig(folder / f"{name}.png", dpi=160)
    files.write_text(run / "report.html", page(run, store, evaluation, emb_NxD, plots))


def page(
    run: Path,
    store: Store,
    evaluation: dict[str, Any],
    emb_NxD: np.ndarray,
    plots: dict[str, Figure],
) -> str:
    """Returns the page's text."""
    train, test = store.splits["train"], store.splits["test"]
    row_Tx3 = judging.fixed_triplets(test, count=10_000)
    gap_T = _gaps(emb_NxD, row_Tx3)
    hardest_Tx3 = _one_of_each_anchor(row_Tx3[np.argsort(gap_T)])[:TRIPLETS]
    sections = {
        "Figures": figures_table(evaluation["test"]),
        "Training": _plots(plots, *CURVES),
        "Paintings per artist": _plots(plots, "artists_train", "artists_test"),
        "What it was trained on: triplets": _triplets(
            train, judging.fixed_triplets(train, count=TRIPLETS), None
        ),
        "Artists never seen: triplets and their distances to the anchor": _triplets(
            test, row_Tx3[:TRIPLETS], emb_NxD
        ),
        "The hardest mistakes": _triplets(test, hardest_Tx3, emb_NxD),
        "Pairs of paintings by artists never seen": _plots(plots, "roc", "distances"),
        "What hangs nearest": "".join(neighbor_rows(emb_NxD, test)),
        "Artists most often confused": confused_table(emb_NxD, test),
        "A map of paintings by artists never seen": figures.svg(plots["map"]),
    }
    title = f"{run.name}: {len(test.artists)} artists never seen in training"
    body = "".join(f"<h2>{html.escape(head)}</h2>\n{text}\n" for head, text in sections.items())
    return PAGE.format(title=html.escape(title), body=body)


def figures_table(judged: dict[str, Any]) -> str:
    """Returns the figures beside their floors and what was published."""
    columns = {"trained": judged, **{key: judged[key] for key in ("untrained", "color_histogram")}}
    rows = []
    for metric in judged["color_histogram"]:
        cells = [
            f"{c[metric]['value']:.3f} [{c[metric]['low']:.2f}, {c[metric]['high']:.2f}]"
            for c in columns.values()
        ]
        cells.append(f"{PUBLISHED[metric]:.3f}" if metric in PUBLISHED else "")
        rows.append([NAMES[metric], *cells])
    note = (
        "<p>In brackets 95 % intervals by bootstrap over artists. The reference's published figures"
        " are of other paintings: those of Painter by Numbers.</p>"
    )
    head = [column.replace("_", " ") for column in columns]
    return _table(["", *head, "reference, published"], rows) + note


def paintings_map(emb_NxD: np.ndarray, split: Split) -> Figure:
    """Returns a map of a split's paintings."""
    row_M, place_Mx2 = mapping.places(emb_NxD)
    thumbnails = np.stack([images.thumbnail(image, 64) for image in split.image_NxSxSxC[row_M]])
    return figures.scatter(place_Mx2, thumbnails, split.artist_N[row_M], split.artists)


def neighbor_rows(emb_NxD: np.ndarray, split: Split) -> Iterable[str]:
    """Yields some paintings, by as many artists as possible, each with its nearest others."""
    for row in np.linspace(0, len(split) - 1, QUERIES).astype(int):
        distance_N = np.linalg.norm(emb_NxD - emb_NxD[row], axis=1)
        distance_N[row] = np.inf
        shown = [_picture(split, row, "")]
        for other in np.argsort(distance_N, kind="stable")[:NEIGHBORS]:
            kind = "same" if split.artist_N[other] == split.artist_N[row] else "other"
            shown.append(_picture(split, other, f"{distance_N[other]:.3f}", kind))
        yield _row(shown)


def confused_table(emb_NxD: np.ndarray, split: Split) -> str:
    """Returns whose paintings most often hang nearest to another artist's."""
    counts = collections.Counter()
    for row, artist in enumerate(split.artist_N):
        distance_N = np.linalg.norm(emb_NxD - emb_NxD[row], axis=1)
        distance_N[row] = np.inf
        counts[artist, split.artist_N[np.argmin(distance_N)]] += 1
    paintings_A = np.bincount(split.artist_N)
    shares = {
        (a, b): count / paintings_A[a] for (a, b), count in counts.items() if a != b and count > 1
    }
    most = sorted(shares, key=lambda pair: (-shares[pair], pair))[:CONFUSED]
    rows = [
        [split.artists[a], split.artists[b], f"{100 * shares[a, b]:.0f} %", str(paintings_A[a])]
        for a, b in most
    ]
    return _table(["paintings by", "hang nearest to one by", "of them", "paintings"], rows)


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
    return figures.paintings_per_artist(np.bincount(split.artist_N), title=title)


def _plots(plots: dict[str, Figure], *names: str) -> str:
    """Side by side where there is room."""
    return f'<div class="plots">{"".join(figures.svg(plots[name]) for name in names)}</div>\n'


def _triplets(split: Split, row_Tx3: np.ndarray, emb_NxD: np.ndarray | None) -> str:
    rows = "".join(_row(_triplet(split, row_3, emb_NxD)) for row_3 in row_Tx3)
    return f'<div class="triplets">{rows}</div>\n'


def _triplet(split: Split, row_3: np.ndarray, emb_NxD: np.ndarray | None) -> list[str]:
    captions = ["anchor", "same artist", "another"]
    if emb_NxD is not None:
        distance_2 = np.linalg.norm(emb_NxD[row_3[1:]] - emb_NxD[row_3[0]], axis=1)
        captions[1:] = [f"{distance:.3f}" for distance in distance_2]
    kinds = ("", "same", "other")
    return [_picture(split, *each) for each in zip(row_3, captions, kinds, strict=True)]


def _picture(split: Split, row: int, caption: str, kind: str = "") -> str:
    painting = split.paintings[row]
    source = images.jpeg_url(images.thumbnail(split.image_NxSxSxC[row], THUMBNAIL))
    text = html.escape(f"{painting.artist}, {painting.title}".strip(", "))
    return (
        f'<figure class="{kind}"><strong>{html.escape(caption) or "&nbsp;"}</strong>'
        f'<img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'
    )


def _row(pictures: Iterable[str]) -> str:
    return f'<div class="row">{"".join(pictures)}</div>\n'


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    text = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="scroll"><table>\n{text}</table></div>\n'


def _comparable(records: list[dict[str, Any]], loss: str) -> list[dict[str, Any]]:
    """The records without validation's loss, where that is another than training's."""
    if objectives.validated_as(loss) == loss:
        return records
    return [
        {key: value for key, value in record.items() if record["split"] != "val" or key != "loss"}
        for record in records
    ]


def _read_evaluation(run: Path, step: int) -> dict[str, Any]:
    try:
        evaluation = files.read_json(run / "evaluation.json")
        if evaluation["step"] != step:
            raise ValueError(f"they are of step {evaluation['step']}, the run has {step}")
        _ = evaluation["test"]["pair_roc_auc"]["value"]
        return evaluation
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{run} has no figures of artists never seen ({error}):"
            f" python -m painterjax.evaluate --run {run}"
        ) from error


if __name__ == "__main__":
    cli.run(main, "report")
