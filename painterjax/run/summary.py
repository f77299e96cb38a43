"""What a training says at its end: the outcome in words, where the files are, what to run next."""

import shlex
from typing import Any

from painterjax.data.catalog import JUDGED
from painterjax.run.figures import artists_of, floors_of, judged_paintings
from painterjax.run.load import Run

METRICS = {"roc_auc": "ROC AUC", "recall_at_1": "recall@1"}
COMPARED = ("is not above", "is above, by less than its uncertainty,", "is above")
OUTCOMES = ("It does not work", "It may work", "It works")
UNKNOWN = "Nothing to compare it with"
FLOOR_NAMES = {"untrained": "the untrained network's", "color_histogram": "the color histogram's"}


def of_run(run: Run, evaluation: dict[str, Any]) -> str:
    """Returns the summary of a run that was just evaluated; its figures are of test, or of val."""
    name = next(name for name in reversed(JUDGED) if name in evaluation)
    split, figures = run.store.splits[name], evaluation[name]
    artists = artists_of(split, run.artists_trained_on)
    columns = {"trained": figures, **floors_of(figures)}
    lines = [
        f"{name}: {judged_paintings(figures)} by {artists}",
        f"  {'':10}" + "".join(f"{column.replace('_', ' '):>17}" for column in columns),
    ]
    for metric, words in METRICS.items():
        cells = [f"{column[metric]['value']:.3f}" for column in columns.values()]
        lines.append(f"  {words:10}" + "".join(f"{cell:>17}" for cell in cells))
    lines += [f"  {verdict(figures, metric)}" for metric in METRICS]
    path = shlex.quote(str(run.path))
    return "\n".join(
        [
            *lines,
            f"run: {run.path}",
            f"  all figures with intervals: {run.path / 'evaluation.json'}",
            f"  the best weights, of step {run.step}: {run.path / 'checkpoints' / str(run.step)}",
            "next:",
            f"  painterjax report --run {path}",
            f"  painterjax explore --run {path}",
            f"  painterjax search --run {path} --query IMAGE",
        ]
    )


def outcome(figures: dict[str, Any]) -> str:
    """Returns in a few words whether a network works: whether all METRICS are above both floors."""
    floors = floors_of(figures).values()
    pairs = [(figures[metric], floor[metric]) for metric in METRICS for floor in floors]
    return OUTCOMES[min(_above(*pair) for pair in pairs)] if pairs else UNKNOWN


def _above(figure: dict[str, Any], floor: dict[str, Any]) -> int:
    """Whether a figure is above a floor: 0 not, 1 within its interval, 2 clearly."""
    least, low = floor["value"], figure["low"]
    if figure["value"] <= least:
        return 0
    return 1 if low is None or low <= least else 2


def verdict(figures: dict[str, Any], metric: str) -> str:
    """Returns in a sentence whether a figure is above those of both floors.

    It is clearly above a floor that its whole interval is above.
    """
    groups: dict[str, list[str]] = {}
    for floor, of_floor in floors_of(figures).items():
        words = COMPARED[_above(figures[metric], of_floor[metric])]
        groups.setdefault(words, []).append(FLOOR_NAMES[floor])
    compared = [f"{words} {' and '.join(floors)}" for words, floors in groups.items()]
    compared = compared or ["was judged without floors, which eval.floors leaves out"]
    return f"{METRICS[metric]} {', and '.join(compared)}"
