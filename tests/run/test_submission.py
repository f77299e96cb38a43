"""Kaggle's pairs: scores, their order, missing images, and tables that are none."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import judging
from painterjax import submit
from painterjax.common.errors import InputError
from painterjax.data import catalog, synthetic
from painterjax.data.catalog import Painting
from painterjax.metrics.calibration import Calibration
from painterjax.model.embedder import Embedder
from painterjax.run import embeddings, submission


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
    emb_NxD = embeddings.load(tmp_path / "submission.csv.npz").emb_NxD
    distances = np.array([0.0, np.linalg.norm(emb_NxD[5] - emb_NxD[0])])
    scores = [float(row["sameArtist"]) for row in rows]
    # They are written with six decimals.
    np.testing.assert_allclose(scores[:2], _calibration(run).probability(distances), atol=1e-5)
    assert scores[2] == 0.5
    missing = tmp_path / "submission.csv.missing.csv"
    assert missing.read_text() == "image,reason\nnone.jpg,no such file\n"
    with pytest.raises(InputError, match="exists: delete it or choose another"):
        submit.main([*map(str, argv), "--output", str(output)])
    _grows(run, images, tmp_path)


def _grows(run, images, tmp_path) -> None:
    """Images that came, changed and went since: only these are embedded, under any path."""
    output = tmp_path / "submission.csv"
    before = embeddings.load(tmp_path / "submission.csv.npz")
    output.unlink()
    pixels = synthetic.paint(seed=1, artist=9, painting=0, size=40)
    for name in ("none.jpg", "1.jpg"):
        Image.fromarray(pixels).save(images / name)
    (images / "2.jpg").unlink()
    (images / "3.jpg").write_bytes(b"broken")
    text = "index,image1,image2\n7,0.jpg,none.jpg\n8,3.jpg,2.jpg\n9,none.jpg,1.jpg\n\n\n"
    (tmp_path / "pairs.csv").write_text(text)
    decoded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        real = Embedder.embed
        patch.setattr(Embedder, "embed", lambda self, images, *_: decoded.append(len(images))
                      or real(self, images))  # fmt: skip
        argv = ["--run", run, "--pairs", "pairs.csv", "--images", "images", "--workers", 1]
        submit.main([*map(str, argv), "--output", "submission.csv"])
    assert sum(decoded) == 2
    scores = [float(line.split(",")[1]) for line in output.read_text().splitlines()[1:]]
    assert scores[1] == 0.5
    assert scores[0] != 0.5
    assert scores[2] == pytest.approx(float(_calibration(run).probability(0.0)), abs=1e-5)
    assert (tmp_path / "submission.csv.missing.csv").read_text().splitlines() == [
        "image,reason", "2.jpg,no such file", "3.jpg,not an image that can be read"
    ]  # fmt: skip
    after = embeddings.load(tmp_path / "submission.csv.npz")
    assert [p.file for p in after.paintings] == ["0.jpg", "1.jpg", "4.jpg", "5.jpg", "none.jpg"]
    np.testing.assert_array_equal(after.emb_NxD[[0, 2, 3]], before.emb_NxD[[0, 4, 5]])
    assert abs(after.emb_NxD[1] - before.emb_NxD[1]).max() > 1e-3
    output.unlink()
    (tmp_path / "pairs.csv").write_text("index,image1,image2\n1,3.jpg,2.jpg\n")
    argv = ["--run", run, "--pairs", tmp_path / "pairs.csv", "--images", images, "--workers", 1]
    with pytest.raises(InputError, match=r"no image of .*pairs\.csv can be read: see .*rejected"):
        submit.main([*map(str, argv), "--output", str(output)])
    assert not output.exists()


def _calibration(run) -> Calibration:
    return Calibration(**json.loads((run / "evaluation.json").read_text())["calibration"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,image1,image2\n\n", "has a header but no pairs"),
        ("index,image1,image2\n1,x.jpg,y.jpg\n", r"has none of the 2 images of --pairs, as x\.jpg"),
        ("index,image1,image2\n1,0.jpg\n", "a line has not 3 values"),
        ("index,image1,image2\n1,0.jpg,0.jpg\n2,1.jpg,0.jpg\n",
         r"1 names of --pairs could mean either of two images below .*, as 1\.jpg: rename one"),
    ],
)  # fmt: skip
def test_what_is_cheap_is_checked_before_anything_is_embedded(run, images, text, message, tmp_path):
    (images / "again").mkdir()
    for name in ("1.jpg", "9.jpg"):  # 9.jpg is no matter: no pair has it.
        (images / "again" / name).write_bytes((images / "1.jpg").read_bytes())
    (tmp_path / "pairs.csv").write_text(text)
    argv = ["--run", run, "--pairs", tmp_path / "pairs.csv", "--images", images]
    with pytest.raises(InputError, match=message):
        submit.main([*map(str, argv), "--output", str(tmp_path / "submission.csv")])
    assert {path.name for path in tmp_path.iterdir()} == {"images", "pairs.csv"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has the columns \[\], needs index, image1, image2"),
        ("index,image1\n1,0.jpg\n", "needs index, image1, image2"),
        ("index,image1,image2,image2\n", "needs index, image1, image2, each once"),
        ("index,image1,image2\n1,0.jpg\n", "up to line 2: a line has not 3 values"),
        ("index,image1,image2\n1,\xff,0.jpg\n".encode("latin-1"), "cannot read"),
    ],
)
def test_a_table_that_is_none_is_refused_and_nothing_is_written(text, message, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    embedded = embeddings.Vectors(np.zeros((1, 2), np.float32), [Painting("0.jpg", "")], {})
    with pytest.raises(InputError, match=message):
        submission.write_scores(path, tmp_path / "x.csv", embedded, Calibration(0.0, 1.0))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("index", ["0,5", 'a "b"', "a\nb", "a\rb", "é", ""])
def test_an_index_of_any_characters_comes_back(index, tmp_path):
    table, output = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    rows = [submission.COLUMNS, (index, "0.jpg", "0.jpg"), ("7", "0.jpg", "none.jpg")]
    table.write_text(catalog.csv_text(rows), encoding="utf-8", newline="\n")
    embedded = embeddings.Vectors(np.zeros((1, 2), np.float32), [Painting("0.jpg", "")], {})
    submission.write_scores(table, output, embedded, Calibration(0.0, 1.0))
    with open(output, encoding="utf-8", newline="") as file:
        read = list(csv.reader(file))
    assert read == [["index", "sameArtist"], [index, "0.500000"], ["7", "0.500000"]]


@pytest.mark.parametrize("pairs", [6, 7, 8, 13, 14, 15, 100])
def test_pairs_around_the_ends_of_blocks_are_those_of_a_loop(pairs, tmp_path, monkeypatch):
    """`python -m benchmarks.judging` in small: lines, their order, and scores."""
    monkeypatch.setattr(submission, "BLOCK", 7)
    monkeypatch.setattr(judging, "WRITTEN_AT_ONCE", 9)
    scored = judging.submitted(pairs, images=50, dim=16)
    assert scored["checked"]["lines"] == pairs
    assert scored["checked"]["scores"] == pairs
    assert scored["images"] <= min(2 * pairs, 50)


def test_a_score_in_a_wrong_place_is_seen(tmp_path):
    emb_NxD = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    embedded = embeddings.Vectors(emb_NxD, [Painting(f"{i}.jpg", "") for i in range(50)], {})
    table, output, calibration = tmp_path / "t.csv", tmp_path / "o.csv", Calibration(9.0, 2.0)
    judging.write_pairs(table, 50, 20)
    submission.write_scores(table, output, embedded, calibration)
    judging.check_scores(table, output, emb_NxD, calibration, 20)
    header, *lines = output.read_text().splitlines()
    for wrong in ([lines[1], lines[0], *lines[2:]], lines[:-1], [*lines, lines[-1]]):
        output.write_text("\n".join([header, *wrong]) + "\n")
        with pytest.raises((AssertionError, ValueError)):
            judging.check_scores(table, output, emb_NxD, calibration, 20)
    with pytest.raises(AssertionError, match="a score is off by"):
        output.write_text("\n".join([header, *lines]) + "\n")
        judging.check_scores(table, output, -np.roll(emb_NxD, 1, axis=0), calibration, 20)
