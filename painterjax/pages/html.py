"""The report's sections as HTML, from figures and from paintings with their embeddings."""

import collections
import dataclasses
import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from painterjax.data import images
from painterjax.data.store import Split
from painterjax.metrics import retrieval

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
QUERIES, NEIGHBORS = 8, 7
CONFUSED = 15
BEST_AND_WORST = 5  # artists
# The borders of paintings, and what they mean.
KEY = {"": "anchor or query", "same": "the same artist", "other": "another artist"}
THUMBNAIL = 160  # pixels at most
INTERVAL = re.compile(r" (\[\d\.\d+, \d\.\d+\])$")
# https://www.kaggle.com/c/painter-by-numbers, and the solution that painterjax starts from.
PUBLISHED = {"roc_auc": 0.7465, "mean_of_two_accuracy": 0.79045}


@dataclasses.dataclass(frozen=True)
class Shown:
    """A painting of a split as it is shown: its row, what is said of it, and a word of KEY."""

    row: int
    caption: str
    kind: str = ""


def figures_table(judged: dict[str, Any]) -> str:
    """Returns the figures beside their floors, and what was published."""
    columns = {"trained": judged, **{key: judged[key] for key in ("untrained", "color_histogram")}}
    rows = [
        [NAMES[metric], *(_with_interval(column[metric]) for column in columns.values())]
        for metric in judged["color_histogram"]
    ]
    intervals = "In brackets 95 % intervals by bootstrap over artists."
    if judged["pair_roc_auc"]["low"] is None:
        intervals = "No intervals: there are two artists."
    published = ", ".join(f"{NAMES[metric]} {value:.3f}" for metric, value in PUBLISHED.items())
    note = (
        f"<p>{intervals} The reference solution published, of other paintings, those of Painter by"
        f" Numbers: {published}.</p>"
    )
    head = [column.replace("_", " ") for column in columns]
    return table(["", *head], rows) + note


def verdict(judged: dict[str, Any]) -> str:
    """Returns how what validation found fares here: the threshold, and the probabilities."""
    if "at_threshold" not in judged:
        return "<p>Validation had too few paintings to find a threshold and probabilities.</p>"
    at = judged["at_threshold"]
    return (
        f"<p>Within {at['distance']:.3f}, the threshold that validation found, lie"
        f" {100 * at['true_positive_rate']:.0f} % of the pairs by one artist and"
        f" {100 * at['false_positive_rate']:.0f} % of the others: a balanced accuracy of"
        f" {at['balanced_accuracy']:.3f}. Probabilities are off by"
        f" {judged['calibration_error']:.3f} on average.</p>"
    )


def groups(judged: dict[str, list[dict[str, Any]]]) -> str:
    """Returns the figures of the best and the worst artists, and of styles and centuries."""
    artists = sorted(judged["artist"], key=lambda group: (-group["map_at_r"], group["name"]))
    text = "<p>The best and the worst artists by MAP@R.</p>"
    if len(artists) <= 2 * BEST_AND_WORST:
        text, chosen = "", artists
    else:
        chosen = [*artists[:BEST_AND_WORST], *artists[-BEST_AND_WORST:]]
    for kind, found in {**judged, "artist": chosen}.items():
        if found:
            metrics = [key for key in found[0] if key in NAMES]
            rows = [
                [group["name"], str(group["paintings"]), *(f"{group[m]:.3f}" for m in metrics)]
                for group in found
            ]
            if kind == "artist" and len(found) < len(artists):
                rows.insert(BEST_AND_WORST, ["…", *[""] * (len(rows[0]) - 1)])
            text += table([kind, "paintings", *(NAMES[metric] for metric in metrics)], rows)
    return text


def triplets(row_Tx3: np.ndarray, emb_NxD: np.ndarray | None) -> list[list[Shown]]:
    """Returns triplets as rows of paintings; with embeddings, their distances and who is right."""
    rows = []
    for row_3 in row_Tx3:
        captions = ["anchor", "same artist", "another"]
        if emb_NxD is not None:
            near, far = np.linalg.norm(emb_NxD[row_3[1:]] - emb_NxD[row_3[0]], axis=1)
            captions = ["right" if near < far else "wrong"]
            captions += [f"{near:.3f}", f"{far:.3f}"]
        rows.append([Shown(*each) for each in zip(row_3, captions, KEY, strict=True)])
    return rows


def neighbors(emb_NxD: np.ndarray, split: Split) -> list[list[Shown]]:
    """Returns some paintings, by as many artists as possible, each with its nearest others."""
    rows = []
    for row in np.linspace(0, len(split) - 1, QUERIES).astype(int):
        distance_N = np.linalg.norm(emb_NxD - emb_NxD[row], axis=1)
        distance_N[row] = np.inf
        shown = [Shown(row, "query")]
        for other in np.argsort(distance_N, kind="stable")[: min(NEIGHBORS, len(split) - 1)]:
            kind = "same" if split.artist_N[other] == split.artist_N[row] else "other"
            shown.append(Shown(other, f"{distance_N[other]:.3f}", kind))
        rows.append(shown)
    return rows


def confused_table(emb_NxD: np.ndarray, split: Split) -> str:
    """Returns whose paintings most often hang nearest to another artist's."""
    counts = collections.Counter()
    for row_Q, nearest_Qx1 in retrieval.nearest(emb_NxD, 1):
        pairs = zip(split.artist_N[row_Q], split.artist_N[nearest_Qx1[:, 0]], strict=True)
        counts.update((int(a), int(b)) for a, b in pairs if a != b)
    paintings_A = np.bincount(split.artist_N)
    shares = {pair: count / paintings_A[pair[0]] for pair, count in counts.items() if count > 1}
    if not shares:
        return "<p>No artist has two paintings that hang nearest to one and the same other's.</p>\n"
    most = sorted(shares, key=lambda pair: (-shares[pair], pair))[:CONFUSED]
    rows = [
        [split.artists[a], split.artists[b], f"{100 * shares[a, b]:.0f} %", str(paintings_A[a])]
        for a, b in most
    ]
    return table(["paintings by", "hang nearest to one by", "of them", "paintings"], rows)


def pictures(split: Split, rows: Iterable[Sequence[Shown]], *, kind: str) -> str:
    """Returns rows of paintings below a key to their borders; `kind` is a class of the page."""
    key = "".join(f'<span class="{word}">{text}</span>' for word, text in KEY.items())
    text = "".join(
        f'<div class="row">{"".join(_picture(split, shown) for shown in row)}</div>\n'
        for row in rows
    )
    return f'<p class="key">{key}</p>\n<div class="{kind}">{text}</div>\n'


def table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a table; an interval in brackets is in small print."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{_cell(cell)}</td>" for cell in row) for row in rows]
    text = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="scroll"><table>\n{text}</table></div>\n'


def _cell(text: str) -> str:
    return INTERVAL.sub(r" <small>\1</small>", html.escape(text))


def _with_interval(figure: dict[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def _picture(split: Split, shown: Shown) -> str:
    painting = split.paintings[shown.row]
    source = images.jpeg_url(images.thumbnail(split.image_NxSxSxC[shown.row], THUMBNAIL))
    text = html.escape(f"{painting.artist}, {painting.title}".strip(", "))
    return (
        f'<figure class="{shown.kind}"><strong>{html.escape(shown.caption)}</strong>'
        f'<img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'
    )
