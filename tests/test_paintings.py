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


@pytest.mark.parametrize(("recipe", "epochs"), [("painter_by_numbers", 5), ("contrastive", 8)])
def test_the_reference_and_its_pair_variant_learn(recipe, epochs, few_paintings, tmp_path):
    """Whole, but for the size of the images and the number of epochs."""
    overrides = {"data.store": few_paintings, "num_epochs": epochs, "eval.triplets": 2000}
    argv = [f"--config=configs/{recipe}.py", "--workdir", str(tmp_path / "run")]
    train.main([*argv, *(f"--config.{key}={value}" for key, value in overrides.items())])
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    figures = evaluation["val"]
    # Measured: 0.71 and 0.67 of 0.53; the pairs with a margin of 2 did not pass 0.58 in 45 epochs.
    assert figures["untrained"]["roc_auc"]["value"] < 0.57
    assert figures["roc_auc"]["value"] > 0.6
