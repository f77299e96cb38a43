"""The words at the end of a training: what is above which floor, and what to run next."""

import shlex
from pathlib import Path

import pytest

from painterjax.__main__ import COMMANDS
from painterjax.run import summary
from painterjax.run.figures import FLOORS
from painterjax.run.folder import read_evaluation
from painterjax.run.load import load_run


def _figures(value: float, low: float | None, untrained: float, histogram: float):
    return {
        "recall_at_1": {"value": value, "low": low, "high": low and 1.0},
        "untrained": {"recall_at_1": {"value": untrained}},
        "color_histogram": {"recall_at_1": {"value": histogram}},
    }


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((0.7, 0.6, 0.5, 0.4), "is above the untrained network's and the color histogram's"),
        (
            (0.5, 0.4, 0.5, 0.3),
            "is not above the untrained network's, and is above the color histogram's",
        ),
        (
            (0.6, 0.4, 0.5, 0.6),
            "is above, by less than its uncertainty, the untrained network's, and is not above the"
            " color histogram's",
        ),
        (
            (0.6, None, 0.5, 0.5),
            "is above, by less than its uncertainty, the untrained network's and the color"
            " histogram's",
        ),
    ],
)
def test_a_figure_is_judged_by_both_floors(figures, words):
    assert summary.verdict(_figures(*figures), "recall_at_1") == f"recall@1 {words}"


@pytest.mark.parametrize(
    ("auc", "recall", "words"),
    [
        ((0.7, 0.6, 0.5, 0.4), (0.7, 0.6, 0.5, 0.4), "It works"),
        ((0.7, 0.6, 0.5, 0.4), (0.7, 0.45, 0.5, 0.4), "It may work"),
        ((0.7, None, 0.5, 0.4), (0.7, 0.6, 0.5, 0.4), "It may work"),
        ((0.7, 0.6, 0.5, 0.4), (0.7, 0.6, 0.5, 0.7), "It does not work"),
    ],
)
def test_a_network_works_where_all_figures_are_clearly_above_both_floors(auc, recall, words):
    figures = _figures(*recall)
    of_auc = _figures(*auc)
    for column, other in ((figures, of_auc), *((figures[f], of_auc[f]) for f in FLOORS)):
        column["roc_auc"] = other["recall_at_1"]
    assert summary.outcome(figures) == words


def test_without_floors_it_says_that_there_is_nothing_to_compare_with():
    figures = {key: of for key, of in _figures(0.7, 0.6, 0.5, 0.4).items() if key not in FLOORS}
    words = "recall@1 was judged without floors, which eval.floors leaves out"
    assert summary.verdict(figures, "recall_at_1") == words
    assert summary.outcome({**figures, "roc_auc": figures["recall_at_1"]}) == summary.UNKNOWN


def test_the_end_is_short_and_names_files_and_commands_that_are_there(run):
    opened = load_run(run)
    text = summary.of_run(opened, read_evaluation(run, opened.origin["network_sha256"]))
    lines = text.splitlines()
    assert lines[0].startswith("test: ") and len(lines) <= 13
    files = [
        Path(line.rpartition(": ")[2]) for line in lines if line.startswith(("run: ", "  all"))
    ]
    assert len(files) == 2 and all(path.exists() for path in files)
    following = [shlex.split(line) for line in lines[lines.index("next:") + 1 :]]
    assert {words[1] for words in following} == {"report", "explore", "search"} <= COMMANDS.keys()
    assert all(words[2:4] == ["--run", str(run)] for words in following)
