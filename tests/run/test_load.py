"""A run stands for the pixels of its store, which an earlier version may have decoded otherwise."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import painterjax
from painterjax import embed, export, search, submit, train
from painterjax.common.errors import InputError
from painterjax.model.backbones import weights_sha256
from painterjax.pages import gallery
from painterjax.run import folder as run_folder
from painterjax.run.load import load_run, network_sha256
from tests.helpers import tiny

REFUSAL = r"is of decoding 1, this version decodes images as 2: prepare the store again"


@pytest.fixture(scope="module")
def earlier_store(tiny_store, tmp_path_factory) -> Path:
    """A store of a version that did not record how it decoded."""
    path = tmp_path_factory.mktemp("earlier") / "store"
    shutil.copytree(tiny_store, path)
    info = json.loads((path / "dataset.json").read_text())
    assert info.pop("decoding") == 2
    (path / "dataset.json").write_text(json.dumps(info))
    return path


@pytest.fixture(scope="module")
def earlier_run(run, earlier_store) -> Path:
    """A run on that store."""
    path = earlier_store.with_name("run")
    shutil.copytree(run, path, ignore=shutil.ignore_patterns("index", "embeddings"))
    shutil.copy(earlier_store / "dataset.json", path)
    config = json.loads((run / "config.json").read_text())
    config["data"]["store"] = str(earlier_store)
    (path / "config.json").write_text(json.dumps(config))
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["network_sha256"] = load_run(path).origin["network_sha256"]
    (path / "evaluation.json").write_text(json.dumps(evaluation))
    return path


def test_vectors_of_another_decoding_are_of_another_network(run, earlier_run, tmp_path):
    """The weights are the same, the pixels that they were trained on are not."""
    now, before = load_run(run), load_run(earlier_run)
    assert before.origin["network_sha256"] != now.origin["network_sha256"]
    embed.main(["--run", str(earlier_run), "--split", "val", "--output", str(tmp_path / "v.npz")])
    with pytest.raises(InputError, match=r"v\.npz is of another network"):
        search.main(
            ["--run", str(run), "--index", str(tmp_path / "x"), "--add", str(tmp_path / "v.npz")]
        )


def test_a_file_of_weights_may_move_and_its_name_is_no_part_of_the_network(run, tmp_path):
    """It is looked for from here, and from where training began."""
    embedder, config = load_run(run).embedder, run_folder.read_config(run)
    before = network_sha256(config, embedder, 2)
    config.model.weights = "weights/model.safetensors"
    assert network_sha256(config, embedder, 2) == before
    began = tmp_path / "began"
    (began / "weights").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    papers = {"directory": str(began)}
    (tmp_path / "run" / "environment.json").write_text(json.dumps(papers))
    found = (run_folder.find_weights(tmp_path / "run", config.model.weights) for _ in range(2))
    assert next(found) == config.model.weights  # It is at neither place.
    (began / config.model.weights).touch()
    assert next(found) == str(began / config.model.weights)
    (tmp_path / "run" / "environment.json").write_text(json.dumps({"directory": 3}))
    assert run_folder.find_weights(tmp_path / "run", "x") == "x"
    config.model.backbone, config.model.weights = "dinov2_small", "x"
    with pytest.raises(InputError, match=r"model\.weights is 'x' \(No such file"):
        weights_sha256(config.model)


def test_a_run_on_pixels_of_another_decoding_takes_no_new_image(earlier_run, tmp_path):
    """Its own paintings are found as before."""
    painting, table = tmp_path / "images" / "1.png", tmp_path / "pairs.csv"
    painting.parent.mkdir()
    Image.new("RGB", (40, 40)).save(painting)
    table.write_text("index,image1,image2\n1,1.png,1.png\n")
    images, output = ["--images", str(painting.parent)], str(tmp_path / "x.npz")
    for command, flags in (
        (embed, [*images, "--output", output]),
        (search, ["--query", str(painting)]),
        (submit, [*images, "--pairs", str(table), "--output", output]),
    ):
        with pytest.raises(InputError, match=f"run {REFUSAL}"):
            command.main(["--run", str(earlier_run), *flags])
    search.main(["--run", str(earlier_run), "--query", "0", "--k", "1"])
    with pytest.raises(InputError, match=f"run {REFUSAL}"):
        gallery.open_gallery(load_run(earlier_run)).query_from_upload(painting.read_bytes())
    export.main(["--run", str(earlier_run), "--output", str(tmp_path / "exported")])
    image_NxSxSxC = np.zeros((1, 32, 32, 3), np.uint8)
    for folder in (earlier_run, tmp_path / "exported"):
        style = painterjax.load(folder)
        assert style.embed(image_NxSxSxC).shape == (1, 16)
        for given in ([painting], list(image_NxSxSxC)):
            with pytest.raises(InputError, match=f"{folder.name} {REFUSAL}"):
                style.embed(given)


def test_no_new_run_trains_on_a_store_of_another_decoding(earlier_store, tmp_path):
    with pytest.raises(InputError, match=f"store {REFUSAL}"):
        train.main(tiny.argv(earlier_store, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_run_that_was_begun_on_a_store_of_another_decoding_goes_on(
    earlier_store, earlier_run, tmp_path, capsys
):
    shutil.copytree(earlier_run, tmp_path / "begun")
    train.main(tiny.argv(earlier_store, tmp_path / "begun"))
    assert f"run: {tmp_path / 'begun'}" in capsys.readouterr().out
