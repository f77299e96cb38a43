"""Real paintings: a recipe learns, the reference starts, and all commands serve it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import painterjax
from painterjax import embed, evaluate, export, prepare, report, search, submit, train
from painterjax.pages import gallery, paintings_map
from painterjax.run.load import load_run
from tests.helpers.runs import records

pytestmark = [pytest.mark.paintings, pytest.mark.slow]


@pytest.fixture(scope="module")
def few_paintings(shared, tmp_path_factory) -> Path:
    """A folder of some 300 paintings by 8 artists, and a store of them."""
    path = tmp_path_factory.mktemp("few")
    (path / "paintings").mkdir()
    for artist in sorted((shared / "paintings" / "images").iterdir())[:8]:
        (path / "paintings" / artist.name).symlink_to(artist)
    source = ["folder", "--input", str(path / "paintings"), "--image-size", "64"]
    prepare.main([*source, "--output", str(path / "store")])
    return path


def _train(few_paintings: Path, run: Path, config: str, **overrides: object) -> Path:
    argv = [f"--config={config}", "--workdir", str(run)]
    overrides = {"data.store": few_paintings / "store", "eval.triplets": 2000, **overrides}
    train.main([*argv, *(f"--config.{key}={value}" for key, value in overrides.items())])
    return run


@pytest.fixture(scope="module")
def reference(few_paintings, tmp_path_factory) -> Path:
    """A run of the whole recipe, but for the size of the images and the number of epochs."""
    run = tmp_path_factory.mktemp("reference") / "run"
    return _train(few_paintings, run, "painter_by_numbers", num_epochs=1)


def test_a_recipe_learns(few_paintings, tmp_path):
    small = {"num_epochs": 4, "batch_size": 6, "augmentation.crop": 48,
             "model.widths": (16, 32, 64), "model.depths": (1, 1, 1)}  # fmt: skip
    run = _train(few_paintings, tmp_path / "run", "scratch", **small)
    (*_, last) = [record for record in records(run) if record["split"] == "train"]
    assert last["loss"] < math.log(6)  # What is lost by who guesses among the six artists.


def test_every_command_serves_the_reference(reference, few_paintings, tmp_path, capsys):
    run = ["--run", str(reference)]
    evaluate.main([*run, "--split", "test", "--json", str(tmp_path / "figures.json")])
    assert json.loads((tmp_path / "figures.json").read_text())["test"]
    report.main(run)
    assert (reference / "report.html").stat().st_size > 100_000
    embed.main([*run, "--split", "test", "--output", str(tmp_path / "vectors.npz")])
    search.main([*run, "--query", "0", "--k", "3", "--json", str(tmp_path / "found.json")])
    assert len(json.loads((tmp_path / "found.json").read_text())) == 3
    assert paintings_map.of(gallery.open_gallery(load_run(reference)))[0]
    export.main([*run, "--output", str(tmp_path / "exported")])
    folder = next((few_paintings / "paintings").iterdir())
    paintings = sorted(folder.iterdir())[:3]
    emb_NxD = painterjax.load(reference).embed(paintings)
    np.testing.assert_array_equal(painterjax.load(tmp_path / "exported").embed(paintings), emb_NxD)
    pairs = [f"{i},{paintings[0].name},{path.name}" for i, path in enumerate(paintings)]
    (tmp_path / "pairs.csv").write_text("\n".join(["index,image1,image2", *pairs]) + "\n")
    files = ["--pairs", str(tmp_path / "pairs.csv"), "--output", str(tmp_path / "submission.csv")]
    submit.main([*run, "--images", str(folder), "--allow-trained-on", *files])
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == 4
    assert "Traceback" not in capsys.readouterr().err
