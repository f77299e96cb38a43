"""The report as HTML: the page, its tables, and rows of paintings."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common.progress import counted
from painterjax.data import raster
from painterjax.data.store import Split
from painterjax.metrics import retrieval
from painterjax.run.figures import floors_of, metrics_of

METRIC_NAMES = {
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
    "tpr_at_0.1_percent_fpr": "true-positive rate at 0.1 % false positives",
    "tpr_at_1_percent_fpr": "true-positive rate at 1 % false positives",
    "triplet_accuracy": "triplet accuracy",
}
QUERIES, NEIGHBORS = 8, 7
CONFUSED = 15
BEST_AND_WORST = 5  # artists
THUMBNAIL = 256  # pixels at most
INTERVAL = re.compile(r" (\[\d\.\d+, \d\.\d+\])$")
# The colored borders of tiles by class, and what they mean.
KEY = {"": "anchor or query", "same": "same artist", "other": "another artist"}
# https://www.kaggle.com/c/painter-by-numbers, and the solution that painterjax starts from.
PUBLISHED = {"roc_auc": 0.7465, "mean_of_two_accuracy": 0.79045}
CSS = Path(__file__).parent / "static" / "report.css"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"/><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<style>
{css}</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


@dataclasses.dataclass(frozen=True)
class Tile:
    """A painting of a split with a caption: its row there, the caption, and a class of KEY."""

    row: int
    caption: str
    kind: str = ""


def page(title: str, lead: str, sections: dict[str, str]) -> str:
    """Returns a page that loads nothing: what it says first, and its sections by heading."""
    body = lead + "".join(f"<h2>{escape(head)}</h2>\n{text}\n" for head, text in sections.items())
    return PAGE.format(title=escape(title), css=CSS.read_text(encoding="utf-8"), body=body)


def metrics_table(judged: dict[str, Any], split: Split) -> str:
    """Returns every metric beside its floors, and the published values."""
    columns = {"trained": judged, **floors_of(judged)}
    rows = [
        [METRIC_NAMES[metric], *(_with_interval(column[metric]) for column in columns.values())]
        for metric in metrics_of(judged)
    ]
    intervals = "In brackets: 95 % intervals by bootstrap over artists."
    if judged["pair_roc_auc"]["low"] is None:
        intervals = "There are no intervals: the bootstrap needs more than two artists."
    published = ", ".join(f"{METRIC_NAMES[key]} {value:.3f}" for key, value in PUBLISHED.items())
    note = (
        f"<p>{counted(len(split), 'painting')} by {counted(len(split.artists), 'artist')}."
        f" {intervals} The reference solution published, for other paintings (Painter by Numbers):"
        f" {published}.</p>"
    )
    return table(["", *(column.replace("_", " ") for column in columns)], rows) + note


def pairs_summary(judged: dict[str, Any]) -> str:
    """Returns how the threshold and the calibration found on validation do on test pairs."""
    if "at_threshold" not in judged:
        return "<p>Validation had too few paintings for a threshold and a calibration.</p>"
    at = judged["at_threshold"]
    return (
        f"<p>Validation gave the threshold {at['distance']:.3f}. Here"
        f" {100 * at['true_positive_rate']:.0f} % of the pairs by one artist and"
        f" {100 * at['false_positive_rate']:.0f} % of the pairs by two artists have a smaller"
        f" distance: a balanced accuracy of {at['balanced_accuracy']:.3f}. The calibration error,"
        " the average difference between predicted probability and observed share, is"
        f" {judged['calibration_error']:.3f}.</p>"
    )


def groups_tables(judged: dict[str, list[dict[str, Any]]], written: dict[str, str]) -> str:
    """Returns the metrics of the best and the worst artists, and of styles and centuries."""
    artists = sorted(judged["artist"], key=lambda group: (-group["map_at_r"], group["name"]))
    is_cut = len(artists) > 2 * BEST_AND_WORST
    chosen = [*artists[:BEST_AND_WORST], *artists[-BEST_AND_WORST:]] if is_cut else artists
    text = "<p>The artists with the best and the worst MAP@R.</p>" if is_cut else ""
    for kind, found in {**judged, "artist": chosen}.items():
        if found:
            metrics = [key for key in found[0] if key in METRIC_NAMES]
            counts = ["paintings"] if kind == "artist" else ["paintings", "artists"]
            rows = [
                [
                    written.get(group["name"], group["name"]),
                    *(str(group[count]) for count in counts),
                    *(f"{group[metric]:.3f}" for metric in metrics),
                ]
                for group in found
            ]
            if kind == "artist" and is_cut:
                rows.insert(BEST_AND_WORST, ["…", *[""] * (len(rows[0]) - 1)])
            text += table([kind, *counts, *(METRIC_NAMES[key] for key in metrics)], rows)
    return text


def triplet_tiles(row_Tx3: np.ndarray, emb_NxD: np.ndarray | None) -> list[list[Tile]]:
    """Returns triplets as rows of tiles; with embeddings, the captions have their distances."""
    rows = []
    for row_3 in row_Tx3:
        captions = ["anchor", "same artist", "another artist"]
        if emb_NxD is not None:
            near, far = np.linalg.norm(emb_NxD[row_3[1:]] - emb_NxD[row_3[0]], axis=1)
            captions = ["correct" if near < far else "wrong", f"{near:.3f}", f"{far:.3f}"]
        rows.append([Tile(*each) for each in zip(row_3, captions, KEY, strict=True)])
    return rows


def neighbor_tiles(emb_NxD: np.ndarray, split: Split) -> list[list[Tile]]:
    """Returns paintings by as many artists as possible, each with its nearest others."""
    rows = []
    for row in np.linspace(0, len(split) - 1, QUERIES).astype(int):
        distance_N = np.linalg.norm(emb_NxD - emb_NxD[row], axis=1)
        distance_N[row] = np.inf
        tiles = [Tile(row, "query")]
        for other in np.argsort(distance_N, kind="stable")[: min(NEIGHBORS, len(split) - 1)]:
            kind = "same" if split.artist_N[other] == split.artist_N[row] else "other"
            tiles.append(Tile(other, f"{distance_N[other]:.3f}", kind))
        rows.append(tiles)
    return rows


def confused_table(emb_NxD: np.ndarray, split: Split, query_Q: np.ndarray) -> str:
    """Returns the pairs of artists where most paintings by one are nearest to one by the other.

    Only the paintings in the rows `query_Q` are counted.
    """
    counts = collections.Counter()
    for row_Q, nearest_Qx1 in retrieval.nearest(emb_NxD, 1, query_Q=query_Q):
        pairs = zip(split.artist_N[row_Q], split.artist_N[nearest_Qx1[:, 0]], strict=True)
        counts.update((int(a), int(b)) for a, b in pairs if a != b)
    paintings_A = np.bincount(split.artist_N[query_Q])
    shares = {pair: count / paintings_A[pair[0]] for pair, count in counts.items() if count > 1}
    if not shares:
        return "<p>No artist has two paintings whose nearest ones are by the same other artist.</p>"
    most = sorted(shares, key=lambda pair: (-shares[pair], pair))[:CONFUSED]
    names = list(split.written.values())
    rows = [
        [names[a], names[b], f"{100 * shares[a, b]:.0f} %", str(paintings_A[a])] for a, b in most
    ]
    note = "<p>The share of an artist’s paintings whose nearest one is by the other artist.</p>"
    return note + table(["artist", "confused with", "share", "paintings"], rows)


def tile_rows(split: Split, rows: Iterable[Sequence[Tile]], *, layout: str) -> str:
    """Returns rows of tiles below the key to their borders; `layout` is a class of report.css."""
    key = "".join(f'<span class="{kind}">{text}</span>' for kind, text in KEY.items())
    text = "".join(
        f'<div class="row">{"".join(tile(split, each) for each in row)}</div>\n' for row in rows
    )
    return f'<p class="key">{key}</p>\n<div class="{layout}">{text}</div>\n'


def table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a table; an interval in brackets is in small print."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{_cell(cell)}</td>" for cell in row) for row in rows]
    text = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="scroll"><table>\n{text}</table></div>\n'


def _cell(text: str) -> str:
    return INTERVAL.sub(r" <small>\1</small>", escape(text))


def _with_interval(figure: dict[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def tile(split: Split, shown: Tile) -> str:
    """Returns a painting with its caption."""
    artist = split.written[split.paintings[shown.row].artist]
    image_HxWxC = raster.reduced(split.picture(shown.row), THUMBNAIL)
    height, width, _ = image_HxWxC.shape
    seen = "" if height == width else " seen"
    text = escape(f"{artist}, {split.written_title(shown.row)}".strip(", "))
    return (
        f'<figure class="{shown.kind}"><strong>{escape(shown.caption)}</strong>'
        f'<div class="frame"><div class="whole{seen}" style="--ratio: {width / height:.4f}">'
        f'<img src="{raster.jpeg_url(image_HxWxC)}" alt="{text}"/></div></div>'
        f"<figcaption>{text}</figcaption></figure>"
    )
