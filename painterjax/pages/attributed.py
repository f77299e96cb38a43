"""The report on attribution: who painted test paintings, and whether the probabilities hold."""

from html import escape

import numpy as np
from matplotlib.figure import Figure

from painterjax.common.progress import counted
from painterjax.data.store import Split
from painterjax.metrics import attribution, calibration
from painterjax.metrics.attribution import SOMEONE_ELSE, Attribution
from painterjax.pages import html, plots
from painterjax.run.attribution import Answer, answers

LIKELIEST = 4  # artists of a painting that are shown


def section(model: Attribution, emb_NxD: np.ndarray, split: Split) -> tuple[str, Figure]:
    """Returns the HTML of the section, and the plot of stated against true shares.

    Each painting is asked about in view of all others of the split, and again without its artist.

    Args:
      model: the run's.
      emb_NxD: the embeddings of the split's paintings.
      split: one with an artist who has two paintings.
    """
    found_MxB, right_M = attribution.ask(model, emb_NxD, split.artist_N)
    is_right_M = (found_MxB.argmax(1) == right_M).astype(float)
    diagram = calibration.reliability(found_MxB.max(1), is_right_M, np.ones(len(right_M)))
    known, unknown = is_right_M.reshape(2, -1).mean(1)
    named = (found_MxB[:, :-1].argmax(1) == right_M)[: len(right_M) // 2].mean()
    text = (
        f"<p>In view of all other paintings here, the likeliest artist is the right one for"
        f" {100 * named:.0f} % of {counted(len(right_M) // 2, 'painting')}. Someone else has"
        f" {100 * SOMEONE_ELSE:.0f} % beforehand, and may be the likeliest answer of all: then"
        f" {100 * known:.0f} % of the answers are right, and {100 * unknown:.0f} % where all"
        " paintings by the right artist are left out. Stated probabilities are off by"
        f" {calibration.calibration_error(*diagram):.3f} on average.</p>\n"
    )
    figure = plots.reliability(
        *diagram, stated="probability of the likeliest answer", share="share of right answers"
    )
    return text + plots.svg(figure) + _examples(model, emb_NxD, split), figure


def _examples(model: Attribution, emb_NxD: np.ndarray, split: Split) -> str:
    """A few paintings with their likeliest artists."""
    rows = np.flatnonzero(np.bincount(split.artist_N)[split.artist_N] > 1)
    rows = rows[np.linspace(0, len(rows) - 1, html.QUERIES).astype(int)]
    names = [split.artists[artist] for artist in split.artist_N]
    own = [[names[row]] for row in rows]
    of = attribution.collect(emb_NxD, names)
    found = answers(model, emb_NxD[rows], of, own, someone_else=SOMEONE_ELSE)
    lines = (
        f'<div class="row">{html.tile(split, html.Tile(row, "query"))}'
        f"{_answer(answer, names[row], split.written)}</div>\n"
        for row, answer in zip(rows.tolist(), found, strict=True)
    )
    key = '<p class="key"><span class="same">the right artist</span></p>'
    return f'{key}<div class="triplets">{"".join(lines)}</div>\n'


def _answer(answer: Answer, right: str, written: dict[str, str]) -> str:
    items = [
        (each.probability, written[each.artist], "same" if each.artist == right else "")
        for each in answer.candidates[:LIKELIEST]
    ]
    others = sum(each.probability for each in answer.candidates[LIKELIEST:])
    items += [(answer.someone_else, "someone else", "")]
    items += [(others, "other artists, together", "")] if answer.candidates[LIKELIEST:] else []
    items.sort(key=lambda item: -item[0])
    text = "".join(
        f'<li class="{kind}">{escape(name)} {100 * probability:.0f} %</li>'
        for probability, name, kind in items
    )
    return f'<ol class="answer">{text}</ol>'
