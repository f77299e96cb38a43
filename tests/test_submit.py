"""Kaggle's pairs: scores, their order, missing images, and tables that are none."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from painterjax import submit, synthetic, vectors
from painterjax.catalog import Painting
from painterjax.errors import InputError
from painterjax.verification import Calibration


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(6):
        pixels = synthetic.paint(seed=1, artist=i // 3, painting=i % 3, size=40)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    return folder


def test_pairs_are_scored_in_their_order_and_missing_images_named(run, images, tmp_path):
    lines = ["index,image1,image2", "7,0.jpg,0.jpg", "3,5.jpg,0.jpg", "9,0.jpg,none.jpg"]
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    output = tmp_path / "submission.csv"
    argv = ["--run", run, "--pairs", tmp_path / "pairs.csv", "--images", images]
    submit.main([*map(str, argv), "--output", str(output), "--workers", "1"])
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["7", "3", "9"]
    calibration = Calibration(**json.loads((run / "evaluation.json").read_text())["calibration"])
    emb_NxD = vectors.load(tmp_path / "submission.csv.npz").emb_NxD
    distances = np.array([0.0, np.linalg.norm(emb_NxD[5] - emb_NxD[0])])
    scores = [float(row["sameArtist"]) for row in rows]
    np.testing.assert_allclose(scores[:2], calibration.probability(distances), atol=1e-5)
    assert scores[2] == 0.5
    assert (tmp_path / "submission.csv.missing.csv").read_text() == "image\nnone.jpg\n"
    with pytest.raises(InputError, match="exists: delete it or choose another"):
        submit.main([*map(str, argv), "--output", str(output)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has the columns \[\], needs index, image1, image2"),
        ("index,image1\n1,0.jpg\n", "needs index, image1, image2"),
        ("index,image1,image2\n1,0.jpg\n", "up to line 2: a line has not 3 values"),
        ("index,image1,image2\n1,\xff,0.jpg\n".encode("latin-1"), "cannot read"),
    ],
)
def test_a_table_that_is_none_is_refused_and_nothing_is_written(text, message, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    embedded = vectors.Vectors(np.zeros((1, 2), np.float32), [Painting("0.jpg", "")], {})
    with pytest.raises(InputError, match=message):
        submit.write_scores(path, tmp_path / "x.csv", embedded, Calibration(0.0, 1.0))
    assert not (tmp_path / "x.csv").exists()


def test_many_blocks_are_those_of_a_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(submit, "BLOCK", 7)
    rng = np.random.default_rng(0)
    emb_NxD = rng.normal(size=(50, 16)).astype(np.float32)
    paintings = [Painting(f"test/{i}.jpg", "") for i in range(50)]
    pair_Px2 = rng.integers(50, size=(100, 2))
    text = "".join(f"{i},{a}.jpg,{b}.jpg\n" for i, (a, b) in enumerate(pair_Px2))
    (tmp_path / "pairs.csv").write_text("index,image1,image2\n" + text)
    calibration = Calibration(offset=4.0, slope=1.0)
    embedded = vectors.Vectors(emb_NxD, paintings, {})
    missing = submit.write_scores(
        tmp_path / "pairs.csv", tmp_path / "out.csv", embedded, calibration
    )
    assert not missing
    lines = (tmp_path / "out.csv").read_text().splitlines()[1:]
    for line, (a, b) in zip(lines, pair_Px2, strict=True):
        expected = calibration.probability(np.linalg.norm(emb_NxD[a] - emb_NxD[b]))
        assert float(line.split(",")[1]) == pytest.approx(float(expected), abs=1e-5)
