"""Exported networks embed alike in a fresh process; painterjax.load takes images of any kind."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.export
import numpy as np
import pytest
import yaml
from PIL import Image

import painterjax
from configs import default
from painterjax import export
from painterjax.common.config import as_config
from painterjax.common.errors import InputError
from painterjax.metrics import bootstrap
from painterjax.model.embedder import untrained
from painterjax.run import exported, model_card
from painterjax.run.load import load_run
from tests.helpers import corpus
from tests.helpers.tiny import ROOT

COUNTS = (1, 64, 70)  # The last is more than a batch.
# Without painterjax, as embedder.json says, on the first images of a .npy.
STABLEHLO = """
import json, sys
import numpy as np
image_NxSxSxC = np.load(sys.argv[1])
exec("\\n".join(json.load(open("embedder.json"))["loading"]["embedder.stablehlo"][:5]))
np.save(sys.argv[2], np.concatenate([embed(image_NxSxSxC[:n]) for n in COUNTS]))
assert "painterjax" not in sys.modules
"""
SAFETENSORS = """
import sys
import painterjax
assert "jax" not in sys.modules
import numpy as np
style, image_NxSxSxC = painterjax.load("."), np.load(sys.argv[1])
np.save(sys.argv[2], np.concatenate([style.embed(image_NxSxSxC[:n]) for n in COUNTS]))
"""


def _pixels(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder_of_export(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "style"
    export.main(["--run", str(run), "--output", str(folder)])
    return folder


@pytest.mark.parametrize("program", [STABLEHLO, SAFETENSORS], ids=["stablehlo", "safetensors"])
def test_another_process_embeds_alike(run, folder_of_export, program, tmp_path):
    image_NxSxSxC = _pixels(max(COUNTS))
    np.save(tmp_path / "in.npy", image_NxSxSxC)
    program = program.replace("COUNTS", repr(COUNTS))
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "in.npy"), str(tmp_path / "out.npy")],
        cwd=folder_of_export, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    embedder = load_run(run).embedder
    expected_NxD = np.concatenate([embedder.embed(image_NxSxSxC[:n]) for n in COUNTS])
    emb_NxD = np.load(tmp_path / "out.npy")
    assert emb_NxD.dtype == np.float32
    assert expected_NxD.std(axis=0).max() > 0.1
    # Float32, as RTOL in test_network.py; numbers are below 10.
    np.testing.assert_allclose(emb_NxD, expected_NxD, rtol=0, atol=1e-3)


# Sums of 2,500 terms in all layers, as RTOL in test_network.py; in bfloat16 five roundings to
# 1 / 512 of numbers below 4.
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-4), ("bfloat16", 0.04)])
@pytest.mark.parametrize("head", ["dense", "statistics"])
def test_every_head_and_type_of_computation_is_exported(head, dtype, atol):
    config = default.get_config()
    config.model.update(widths=(8, 16), depths=(1, 2), embedding_dim=16, head=head, dtype=dtype)
    embedder = untrained(config, image_size=48)  # the whole image: only training crops
    lowered = jax.export.deserialize(exported.stablehlo(embedder).serialize())
    assert lowered.platforms == ("cpu", "cuda")
    emb_NxD = np.asarray(lowered.call(_pixels(3, 48)))
    assert emb_NxD.dtype == np.float32
    np.testing.assert_allclose(emb_NxD, embedder.embed(_pixels(3, 48)), atol=atol)


def test_the_manifest_says_what_was_exported(run, folder_of_export):
    assert {path.name for path in folder_of_export.iterdir()} == {
        exported.STABLEHLO, exported.WEIGHTS, exported.MANIFEST, exported.CARD,
    }  # fmt: skip
    assert not folder_of_export.with_name("style.partial").exists()
    manifest = json.loads((folder_of_export / exported.MANIFEST).read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    for key in ("step", "calibration"):
        assert manifest[key] == evaluation[key]
    assert (manifest["image_size"], manifest["embedding_dim"]) == (32, 16)
    config = load_run(run).config
    config.data.store = Path(config.data.store).name
    assert as_config(manifest["config"]) == config


def test_an_export_embeds_bit_for_bit_as_its_run(run, folder_of_export):
    image_NxSxSxC = _pixels(70)
    emb_NxD = painterjax.load(folder_of_export).embed(image_NxSxSxC)
    np.testing.assert_array_equal(emb_NxD, load_run(run).embedder.embed(image_NxSxSxC))


def _header(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_has_the_data_and_the_figures_of_the_run(run, folder_of_export):
    card = (folder_of_export / exported.CARD).read_text()
    evaluation = json.loads((run / "evaluation.json").read_text())
    counts = json.loads((run / "dataset.json").read_text())["counts"]
    for split in ("train", "val", "test"):
        assert f"| {split} | {counts[split]['paintings']} | {counts[split]['artists']} |" in card
    for figures in (evaluation["val"], evaluation["test"], evaluation["test"]["untrained"]):
        assert bootstrap.as_text(figures["recall_at_1"]) in card
    assert "artists never seen in training" in card
    (result,) = _header(card)["model-index"][0]["results"]
    assert result["dataset"]["split"] == "test"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {name: evaluation["test"][name]["value"] for name in values}
    assert "recall_at_1" in values


def test_what_is_shared_names_no_folder_of_this_machine(run, folder_of_export):
    places = {str(path.parent) for path in (run, folder_of_export, ROOT)}
    for name in (exported.CARD, exported.MANIFEST):
        text = (folder_of_export / name).read_text()
        assert [place for place in places if place in text] == []


def test_hugging_face_reads_the_card(folder_of_export):
    hub = pytest.importorskip("huggingface_hub", reason="needs pip install -e '.[compare]'")
    card = hub.ModelCard.load(folder_of_export / exported.CARD)
    assert (card.data.library_name, card.data.model_name) == ("painterjax", "style")
    assert {each.dataset_split for each in card.data.eval_results} == {"test"}
    assert len(card.data.eval_results) == len(model_card.METRICS)


@pytest.mark.parametrize(
    ("backbone", "license_id"),
    [("efficientnet_lite0", "apache-2.0"), ("clip_base_32", "mit"), ("conv_blocks", None)],
)
def test_the_card_has_the_license_of_the_backbone(run, backbone, license_id, tmp_path):
    opened = load_run(run)
    (tmp_path / "evaluation.json").write_text("damaged")
    for name in ("dataset.json", "config.json"):
        shutil.copy(run / name, tmp_path)
    opened.config.model.backbone = backbone
    of_backbone = dataclasses.replace(opened, path=tmp_path, calibration=None)
    card = model_card.text(of_backbone, name="style", dim=16)
    assert _header(card).get("license") == license_id
    assert "was not evaluated" in card
    assert ("no license is stated" in card) == (license_id is None)


def test_a_damaged_export_is_refused(folder_of_export, tmp_path):
    whole = {path.name: path.read_bytes() for path in folder_of_export.iterdir()}
    manifest = json.loads(whole[exported.MANIFEST])
    for damage, message in (
        ({exported.MANIFEST: whole[exported.MANIFEST][:-9]}, "not a whole export"),
        ({exported.MANIFEST: b"\xff"}, "not a whole export"),
        ({exported.WEIGHTS: whole[exported.WEIGHTS][:-9]}, "not what export wrote"),
        ({exported.MANIFEST: json.dumps({**manifest, "format_version": 1}).encode()},
         "format version 1, expected 2"),
        ({exported.MANIFEST: json.dumps({**manifest, "image_size": 48}).encode()},
         "does not fit the config"),
    ):  # fmt: skip
        for name, data in {**whole, **damage}.items():
            (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{message}.*: export again"):
            painterjax.load(tmp_path)


def test_export_refuses_in_one_line(run, folder_of_export, tmp_path):
    with pytest.raises(InputError, match=r"--output .* exists"):
        export.main(["--run", str(run), "--output", str(folder_of_export)])
    with pytest.raises(InputError, match="no run at"):
        export.main(["--run", str(tmp_path), "--output", str(tmp_path / "x")])
    assert not list(tmp_path.iterdir())


def test_paths_pictures_and_pixels_embed_alike(run, tmp_path):
    image_NxSxSxC = load_run(run).store.splits["test"].image_NxSxSxC[:3]
    pictures = [Image.fromarray(image_SxSxC) for image_SxSxC in image_NxSxSxC]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    style = painterjax.load(run)
    expected_NxD = style.embed(image_NxSxSxC)
    mixed = [str(tmp_path / "0.png"), tmp_path / "1.png", Image.open(tmp_path / "2.png")]
    np.testing.assert_array_equal(style.embed(mixed), expected_NxD)
    np.testing.assert_array_equal(style.embed(pictures), expected_NxD)
    np.testing.assert_array_equal(style.embed(list(image_NxSxSxC)), expected_NxD)
    many = (picture for _ in range(30) for picture in pictures)  # more than a batch
    np.testing.assert_array_equal(style.embed(many), np.tile(expected_NxD, (30, 1)))
    larger_HxWxC = np.asarray(pictures[0].resize((90, 70)))
    larger = Image.fromarray(larger_HxWxC)
    np.testing.assert_array_equal(style.embed([larger_HxWxC]), style.embed([larger]))
    distance_N = np.linalg.norm(expected_NxD - expected_NxD[0], axis=1)
    probability_N = style.probability(distance_N)
    assert (np.argsort(-probability_N) == np.argsort(distance_N)).all()
    assert ((probability_N > 0) & (probability_N < 1)).all()


def test_a_likeness_is_explained_for_paths_and_pixels_alike(run, tmp_path):
    image_2xSxSxC = load_run(run).store.splits["test"].image_NxSxSxC[:2]
    Image.fromarray(image_2xSxSxC[0]).save(tmp_path / "0.png")
    style = painterjax.load(run)
    emb_2xD = style.embed(image_2xSxSxC)
    cosine, map_2xMxM = style.explain(tmp_path / "0.png", image_2xSxSxC[1])
    expected = emb_2xD[0] @ emb_2xD[1] / np.prod(np.linalg.norm(emb_2xD, axis=1))
    assert cosine == pytest.approx(expected, abs=1e-5)
    swapped, other_2xMxM = style.explain(image_2xSxSxC[1], image_2xSxSxC[0])
    assert swapped == pytest.approx(cosine, abs=1e-5)
    np.testing.assert_allclose(other_2xMxM[::-1], map_2xMxM, atol=1e-5 * np.abs(map_2xMxM).max())
    with pytest.raises(InputError, match=r"missing\.png"):
        style.explain(tmp_path / "missing.png", image_2xSxSxC[0])


def test_an_opened_picture_embeds_as_its_file_and_stays_as_it_is(run, tmp_path):
    (tmp_path / "deep.tif").write_bytes(corpus.tiff(2_600_000_000, 32))
    (tmp_path / "negative.tif").write_bytes(corpus.tiff(10_000, 16, photometric=0))
    Image.fromarray(_pixels(1, 400)[0]).save(tmp_path / "large.jpg")
    style = painterjax.load(run)
    for path in tmp_path.iterdir():
        opened = Image.open(path)
        emb_1xD = style.embed([opened])
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(Image.open(path)))
        if path.suffix == ".tif":  # A JPEG file is decoded at a reduced size.
            np.testing.assert_array_equal(emb_1xD, style.embed([path]))
    with pytest.raises(InputError, match="pixels beyond 65535: their white is unknown"):
        style.embed([Image.open(tmp_path / "deep.tif").copy()])  # It lacks the file's tags.


@pytest.mark.parametrize(
    ("paintings", "message"),
    [
        ("a.png", r"\[a.png\]"),
        (7, r"\[7\]"),
        ([], "no painting"),
        (iter([]), "no painting"),
        (np.zeros((0, 32, 32, 3), np.uint8), "no painting"),
        (["nowhere.jpg"], "nowhere.jpg: file is missing"),
        ([ROOT], "not a file"),
        ([ROOT / "README.md"], "README.md: not an image"),
        ([b"bytes"], "type bytes"),
        ([Image.new("RGB", (9, 9))], "9 x 9 pixels"),
        ([np.zeros((8, 8, 3), np.uint8)], "an array: 8 x 8 pixels"),
        ([np.zeros((32, 32, 3))], r"an array: float64 \(32, 32, 3\)"),
        (np.zeros((2, 16, 16, 3), np.uint8), r"uint8 \(2, 16, 16, 3\), expected uint8 \(N, 32,"),
        (np.zeros((2, 32, 32, 3)), "float64"),
    ],
)
def test_what_cannot_be_embedded_is_refused(run, paintings, message):
    with pytest.raises(InputError, match=message):
        painterjax.load(str(run)).embed(paintings)
