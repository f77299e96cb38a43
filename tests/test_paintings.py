"""The recipes on real paintings: they start, and they learn."""

import json

import pytest

from painterjax import prepare, train

pytestmark = pytest.mark.paintings


@pytest.fixture(scope="module")
def few_paintings(shared, tmp_path_factory):
    """A store of some 300 paintings by 8 artists."""
    path = tmp_path_factory.mktemp("few")
    (path / "paintings").mkdir()
    for artist in sorted((shared / "paintings" / "images").iterdir())[:8]:
        (path / "paintings" / artist.name).symlink_to(artist)
    source = ["folder", "--input", str(path / "paintings"), "--image-size", "64"]
    prepare.main([*source, "--output", str(path / "store")])
    return path / "store"


@pytest.mark.parametrize("recipe", ["painter_by_numbers", "contrastive"])
def test_the_reference_and_its_pair_variant_learn(recipe, few_paintings, tmp_path):
    """Whole, but for the size of the images and the number of epochs."""
    overrides = {"data.store": few_paintings, "num_epochs": 3, "eval.triplets": 2000}
    argv = [f"--config=configs/{recipe}.py", "--workdir", str(tmp_path / "run")]
    train.main([*argv, *(f"--config.{key}={value}" for key, value in overrides.items())])
    records = list(map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()))
    losses = [r["loss"] for r in records if r["split"] == "train"]
    assert losses[-1] < 0.9 * losses[0]
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["val"]["roc_auc"]["value"] > 0.6
