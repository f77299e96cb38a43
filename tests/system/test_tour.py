"""The tour runs as it stands, and what it keeps is small and of no machine."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers.tiny import ROOT

NOTEBOOK = ROOT / "docs" / "tour.ipynb"


def _code(path: Any) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def _text(cell: dict[str, Any]) -> str:
    return "".join("".join(output.get("text", [])) for output in cell["outputs"])


def _pictures(cell: dict[str, Any]) -> int:
    return sum("image/jpeg" in output.get("data", {}) for output in cell["outputs"])


@pytest.mark.slow
def test_the_tour_runs_and_shows_what_it_keeps(tmp_path):
    pytest.importorskip("nbclient", reason="needs nbclient: pip install -e '.[docs]'")
    tour = ["-m", "benchmarks.tour", "--output", str(tmp_path / "tour.ipynb")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *tour], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept, shown = _code(NOTEBOOK), _code(tmp_path / "tour.ipynb")
    pictures = [_pictures(cell) for cell in shown]
    assert sum(pictures) == 3
    assert pictures == [_pictures(cell) for cell in kept]
    said = "".join(map(_text, shown))
    assert "artists never seen in training" in said
    assert "near new.png" in said and "attribution: attribution.csv" in said
    assert "report: run/report.html" in said


def test_what_the_tour_keeps_is_small_and_names_no_folder_of_a_machine():
    assert NOTEBOOK.stat().st_size < 150_000
    texts = [_text(cell) for cell in _code(NOTEBOOK)]
    assert "store: store" in "".join(texts)
    assert not [text for text in texts if re.search(r"(?<![\w.])/(tmp|home|root|work)\b", text)]
