"""The comparison of recipes: the reference in PyTorch, throughput.py, and its experiments."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import experiments
from painterjax import store, synthetic

ROOT = Path(__file__).parents[1]
SMALL = [
    "--config.batch_size=8",
    "--config.model.widths=(8, 8, 8, 8, 8)",
    "--config.eval.triplets=100",
    "--config.num_epochs=2",  # The last of two equal options wins.
]


@pytest.fixture(scope="module")
def compared(torch, tmp_path_factory) -> Path:
    """What benchmarks.learning leaves behind on few and small paintings."""
    folder = tmp_path_factory.mktemp("learning")
    for artist, painting in np.ndindex(12, 20):
        path = folder / "paintings" / f"Artist {artist}" / f"{painting}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(synthetic.paint(seed=0, artist=artist, painting=painting, size=32)).save(
            path
        )
    _run("learning", "--images", folder / "paintings", "--data", folder, "--seeds", 1,
         "--minutes", 0.01, "--json", folder / "learning.json", *SMALL)  # fmt: skip
    return folder


def _run(module: str, *arguments: object) -> None:
    argv = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_all_systems_are_judged_on_the_same_artists(compared):
    result = json.loads((compared / "learning.json").read_text())
    (row,) = result["seeds"]
    systems = [row[name] for name in ("reference", "throughput", "throughput_fifth")]
    stores = [store.open_store(compared / f"paintings-{size}-1") for size in (64, 80)]
    assert len({tuple(each.splits["test"].artists) for each in stores}) == 1
    assert all(0 < system["roc_auc"]["value"] < 1 for system in systems)
    assert 0.01 < row["reference"]["minutes"] < 1  # A step more than was asked for.
    assert row["throughput"]["epochs"] == row["throughput_fifth"]["epochs"] == 2
    assert result["mean"]["reference"]["roc_auc"] == row["reference"]["roc_auc"]["value"]


def test_what_was_tried_is_what_the_command_tries():
    lines = (ROOT / "docs" / "results" / "throughput-experiments.jsonl").read_text().splitlines()
    assert lines
    for line in map(json.loads, lines):
        assert line["changed"] == json.loads(json.dumps(experiments.EXPERIMENTS[line["name"]]))
        figures = line["artists_never_seen"]
        row = f"| `{line['name']}` | {figures['roc_auc']:.3f} | {figures['recall_at_1']:.3f} |"
        assert row in (ROOT / "docs" / "performance.md").read_text()


def test_an_experiment_is_a_line_of_json(compared):
    lines = compared / "experiments.jsonl"
    _run("experiments", "--names", "short", "--store", compared / "paintings-80-1",
         "--data", compared / "runs", "--json", lines, *SMALL)  # fmt: skip
    (line,) = map(json.loads, lines.read_text().splitlines())
    assert line["changed"] == experiments.EXPERIMENTS["short"]
    assert (line["config"]["num_epochs"], line["config"]["batch_size"]) == (2, 8)
    judged = json.loads((compared / "runs" / "short" / "evaluation.json").read_text())["test"]
    for key, value in line["artists_never_seen"].items():
        assert value == pytest.approx(judged[key]["value"], abs=1e-4)
