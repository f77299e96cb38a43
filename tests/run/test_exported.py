"""What export writes loads in a fresh process and embeds alike; load() takes images of any kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.export
import numpy as np
import pytest
from PIL import Image

import painterjax
from configs import default
from painterjax import export
from painterjax.common.config import as_config
from painterjax.common.errors import InputError
from painterjax.data import store
from painterjax.model.embedder import untrained
from painterjax.run import embed as run_embed
from painterjax.run import exported
from painterjax.run import folder as run_folder
from tests.helpers.tiny import ROOT

COUNTS = (1, 64, 70)  # The last is more than a batch of painterjax's.
# Without painterjax: what embedder.json says, on that many of the images in a .npy.
STABLEHLO = """
import json, sys
import numpy as np
image_NxSxSxC = np.load(sys.argv[1])
exec("\\n".join(json.load(open("embedder.json"))["loading"]["embedder.stablehlo"][:3]))
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
    embedder, _ = run_embed.of_run(run)
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
    config.model.update(
        widths=(8, 16), depths=(1, 2), embedding_dim=16, head=head, dtype=dtype
    )  # fmt: skip
    embedder = untrained(config, image_size=48)  # Judging sees the whole image, not a crop.
    lowered = jax.export.deserialize(exported.stablehlo(embedder).serialize())
    assert lowered.platforms == ("cpu", "cuda")
    emb_NxD = np.asarray(lowered.call(_pixels(3, 48)))
    assert emb_NxD.dtype == np.float32
    np.testing.assert_allclose(emb_NxD, embedder.embed(_pixels(3, 48)), atol=atol)


def test_the_paper_says_what_was_exported(run, folder_of_export):
    assert {path.name for path in folder_of_export.iterdir()} == {
        exported.STABLEHLO, exported.WEIGHTS, exported.PAPER,
    }  # fmt: skip
    assert not folder_of_export.with_name("style.partial").exists()
    paper = json.loads((folder_of_export / exported.PAPER).read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert (paper["step"], paper["calibration"]) == (evaluation["step"], evaluation["calibration"])
    assert (paper["image_size"], paper["embedding_dim"]) == (32, 16)
    assert as_config(paper["config"]) == run_folder.read_config(run)


def test_a_damaged_export_is_refused(folder_of_export, tmp_path):
    for name in (exported.PAPER, exported.WEIGHTS):
        folder = tmp_path / name
        folder.mkdir()
        for path in folder_of_export.iterdir():
            (folder / path.name).write_bytes(path.read_bytes()[: -9 if path.name == name else None])
        with pytest.raises(InputError, match=r"is no whole export .*: export again"):
            painterjax.load(folder)
    paper = json.loads((folder_of_export / exported.PAPER).read_text())
    (folder / exported.WEIGHTS).write_bytes((folder_of_export / exported.WEIGHTS).read_bytes())
    for change, message in (
        ({"format_version": 2}, "has format version 2, expected 1: export again"),
        ({"image_size": 48}, "does not fit the config in embedder.json"),
    ):
        (folder / exported.PAPER).write_text(json.dumps({**paper, **change}))
        with pytest.raises(InputError, match=message):
            painterjax.load(folder)


def test_export_refuses_in_one_line(run, folder_of_export, tmp_path):
    with pytest.raises(InputError, match="exists: delete it or choose another"):
        export.main(["--run", str(run), "--output", str(folder_of_export)])
    with pytest.raises(InputError, match="no run at"):
        export.main(["--run", str(tmp_path), "--output", str(tmp_path / "x")])
    assert not list(tmp_path.iterdir())


def test_paths_pictures_and_pixels_embed_alike(run, tmp_path):
    opened = store.open_store(run_folder.read_config(run).data.store)
    image_NxSxSxC = opened.splits["test"].image_NxSxSxC[:3]
    pictures = [Image.fromarray(image_SxSxC) for image_SxSxC in image_NxSxSxC]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    style = painterjax.load(run)
    expected_NxD = style.embed(image_NxSxSxC)
    opened_lazily = Image.open(tmp_path / "2.png")
    mixed = [str(tmp_path / "0.png"), tmp_path / "1.png", opened_lazily]
    np.testing.assert_array_equal(style.embed(mixed), expected_NxD)
    np.testing.assert_array_equal(style.embed(pictures), expected_NxD)
    np.testing.assert_array_equal(style.embed(list(image_NxSxSxC)), expected_NxD)
    many = (picture for _ in range(30) for picture in pictures)  # More than a batch.
    np.testing.assert_array_equal(style.embed(many), np.tile(expected_NxD, (30, 1)))
    larger_HxWxC = np.asarray(pictures[0].resize((90, 70)))
    larger = Image.fromarray(larger_HxWxC)
    np.testing.assert_array_equal(style.embed([larger_HxWxC]), style.embed([larger]))
    distance_N = np.linalg.norm(expected_NxD - expected_NxD[0], axis=1)
    probability_N = style.probability(distance_N)
    assert (np.argsort(-probability_N) == np.argsort(distance_N)).all()
    assert ((probability_N > 0) & (probability_N < 1)).all()


@pytest.mark.parametrize(
    ("paintings", "message"),
    [
        ("a.png", r"embed takes several paintings, as \[a.png\]"),
        ([], "there is no painting to embed"),
        (iter([]), "there is no painting to embed"),
        (np.zeros((0, 32, 32, 3), np.uint8), "there is no painting to embed"),
        (7, r"embed takes several paintings, as \[7\]"),
        (["nowhere.jpg"], "nowhere.jpg: file is missing"),
        ([ROOT], "not a file"),
        ([b"bytes"], "a painting is of type bytes: must be a path, a PIL image or an array"),
        ([np.zeros((32, 32, 3))], r"an array: float64 \(32, 32, 3\), not uint8 \(H, W, 3\)"),
        ([np.zeros((8, 8, 3), np.uint8)], "an array: 8 x 8 pixels: a side is below 32"),
        ([ROOT / "README.md"], "README.md: not an image that can be read"),
        ([Image.new("RGB", (9, 9))], "9 x 9 pixels: a side is below 32"),
        (np.zeros((2, 16, 16, 3), np.uint8), r"uint8 \(2, 16, 16, 3\), expected uint8 \(N, 32,"),
        (np.zeros((2, 32, 32, 3)), r"images are float64"),
    ],
)
def test_what_cannot_be_embedded_is_refused(run, paintings, message):
    with pytest.raises(InputError, match=message):
        painterjax.load(str(run)).embed(paintings)
