"""What the report says first and last: whether the network works, and how it came about."""

from html import escape
from typing import Any

from painterjax.common.config import changes, default_values
from painterjax.common.progress import counted
from painterjax.pages import html
from painterjax.run import folder as run_folder
from painterjax.run import summary
from painterjax.run.figures import floors_of, judged_paintings
from painterjax.run.load import Run

MEANINGS = {
    "roc_auc": "probability that two paintings by one artist are nearer than two by different"
    " artists, which share one painting; 0.5 by chance",
    "mean_of_two_accuracy": "the same for the mean squared distances of two triplets: easier",
    "pair_roc_auc": "the same for any two pairs; 0.5 by chance",
    "equal_error_rate": "the share of errors at the distance where as many pairs by one artist are"
    " taken for others as the other way round; 0 at best, 0.5 by chance",
    "tpr_at_1_percent_fpr": "the share of pairs by one artist that are found where 1 % of the pairs"
    " by two artists are taken for such",
    "recall_at_1": "the share of paintings whose nearest one is by the same artist; @5: that have"
    " one by the same artist among the five nearest",
    "r_precision": "the share of an artist's paintings among the R nearest, where R is the number"
    " of the artist's other paintings",
    "map_at_r": "the same, where a right painting counts the more the nearer it comes: the mean"
    " over the R places of the share that is right up to each right one; 1 at best",
}


def outcome(judged: dict[str, Any], artists: str) -> str:
    """Returns in a sentence whether the network works, and how its figures compare in others."""
    words = {"untrained": "untrained network", "color_histogram": "color histogram"}
    others = ", ".join(f"{words[floor]} {_recall(of)}" for floor, of in floors_of(judged).items())
    nearest = (
        f"for {_recall(judged)} of {judged_paintings(judged)} by {artists}, the nearest"
        f" other one is by the same artist{f' ({others})' if others else ''}"
    )
    verdicts = ". ".join(summary.verdict(judged, metric) for metric in summary.METRICS)
    return (
        f'<p class="outcome"><strong>{summary.outcome(judged)}</strong>: {escape(nearest)}.</p>\n'
        f"<p>{escape(verdicts)}.</p>\n"
    )


def _recall(figures: dict[str, Any]) -> str:
    return f"{100 * figures['recall_at_1']['value']:.0f} %"


def meanings() -> str:
    """Returns what the figures mean, as a list."""
    items = (
        f"<dt>{escape(html.METRIC_NAMES[metric])}</dt><dd>{escape(text)}</dd>"
        for metric, text in MEANINGS.items()
    )
    return f"<dl>{''.join(items)}</dl>\n"


def about(run: Run) -> str:
    """Returns when, where, with which versions and by which recipe the run was trained."""
    began, dataset = run_folder.read_environment(run.path), run.store.info
    counts = dataset["counts"]["train"]
    rows = [
        ["begun", began.get("begun", "unknown")],
        ["best weights", f"of step {run.step}"],
        ["store", f"{run.config.data.store}, from {dataset['source']}"],
        ["trained on", f"{counted(counts['paintings'], 'painting')} by"
         f" {counted(counts['artists'], 'artist')}"],
        ["Python", str(began.get("python"))],
        *([name, str(version)] for name, version in began.get("packages", {}).items()),
        ["commit", str(began.get("commit"))],
        ["hardware", f"{began.get('devices')} x {began.get('device', {}).get('kind')}, "
         f"{began.get('cores')} cores of {began.get('processor')}"],
    ]  # fmt: skip
    recipe = changes(default_values(), run.config.to_dict())
    keys = [[key, str(value), str(default)] for key, (default, value) in recipe.items()]
    return (
        html.table(["", ""], rows)
        + "<p>The recipe, where it differs from configs/default.py:</p>\n"
        + html.table(["key", "here", "default"], keys)
    )
