"""docs/extending.md: its edits, made in a copy of the package, prepare a store and train."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from painterjax.data import synthetic
from tests.helpers import tiny
from tests.helpers.runs import records

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EDIT = r"^In `([^`]+)`, (before|after) `([^`]+)`\n\n```python\n(.*?)^```$"
EDITS = re.findall(EDIT, PAGE, re.DOTALL | re.MULTILINE)
NEW = r"^In a new file, `([^`]+)`\n\n```python\n(.*?)^```$"
FILES = re.findall(NEW, PAGE, re.DOTALL | re.MULTILINE)


def _copy_with_edits(folder: Path) -> None:
    for name in ("painterjax", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    for file, code in FILES:
        (folder / file).write_text(code, encoding="utf-8")
    for file, where, anchor, code in EDITS:
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count(anchor) == 1, (file, anchor)
        replaced = f"{code}\n\n{anchor}" if where == "before" else f"{anchor}\n{code}"
        (folder / file).write_text(text.replace(anchor, replaced), encoding="utf-8")


def _run(folder: Path, command: str, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"painterjax.{command}", *words], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_each_edit_is_short():
    assert len(FILES) + len(EDITS) == PAGE.count("```python") == 9
    assert max(code.count("\n") for *_, code in FILES + EDITS) <= 20


@pytest.mark.slow
def test_the_edits_prepare_a_store_and_train(tmp_path):
    _copy_with_edits(tmp_path)
    paintings = tmp_path / "paintings"
    paintings.mkdir()
    for artist in range(8):
        for number in range(8):
            image = synthetic.paint(seed=0, artist=artist, painting=number, size=32)
            Image.fromarray(image).save(paintings / f"artist {artist}_{number}.png")
    store, run = tmp_path / "store", tmp_path / "run"
    small = ["--image-size", "32", "--val-fraction", "0.25", "--workers", "1"]
    _run(tmp_path, "prepare", "flat", "--input", str(paintings), "--output", str(store), *small)
    assert json.loads((store / "dataset.json").read_text())["counts"]["train"]["artists"] == 6
    names = {"loss.name": "neighborhood", "model.backbone": "patches", "model.head": "gram"}
    chosen = [f"--config.{key}={name}" for key, name in names.items()]
    _run(tmp_path, "train", *tiny.argv(store, run, *chosen, "--config.batch_size=4"))
    probabilities = [each["own_artist"] for each in records(run) if each["split"] == "train"]
    assert all(0 < probability < 1 for probability in probabilities)
