"""Kaggle's pairs: scores, their order, missing images, and malformed tables."""

import csv
import json
import shutil
from pathlib import Path

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
from painterjax.run.load import load_run

HEAD = b"index,image1,image2\n"


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(6):
        pixels = synthetic.paint(seed=1, artist=i // 3, painting=i % 3, size=40)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    return folder


def _submit(run: Path, folder: Path, table: bytes, *flags: str) -> list[tuple[str, float]]:
    """Scores the pairs of a table with the pictures of a folder."""
    output = folder / "submission.csv"
    output.unlink(missing_ok=True)
    (folder / "pairs.csv").write_bytes(table)
    argv = ["--run", run, "--pairs", folder / "pairs.csv", "--images", folder / "images"]
    submit.main([*map(str, argv), "--output", str(output), "--workers", "1", *flags])
    with open(output, newline="") as file:
        return [(row["index"], float(row["sameArtist"])) for row in csv.DictReader(file)]


def test_pairs_are_scored_in_their_order_and_missing_images_named(run, images, tmp_path):
    scored = _submit(run, tmp_path, HEAD + b"7,0.jpg,0.jpg\n3,5.jpg,0.jpg\n9,0.jpg,none.jpg\n")
    before = embeddings.load(tmp_path / "submission.csv.npz")
    distances = np.array([0.0, np.linalg.norm(before.emb_NxD[5] - before.emb_NxD[0])])
    index, scores = zip(*scored, strict=True)
    assert index == ("7", "3", "9")
    probability_2 = load_run(run).needed_calibration().probability(distances)
    # Distances are float32, and scores are written with six decimals.
    np.testing.assert_allclose(scores, [*probability_2, 0.5], atol=1e-5)
    missing = tmp_path / "submission.csv.missing.csv"
    assert missing.read_text() == "image,reason\nnone.jpg,no such file\n"
    # Only images that were added or changed are embedded, and the folder may have another path.
    pixels = synthetic.paint(seed=1, artist=9, painting=0, size=40)
    for name in ("none.jpg", "1.jpg"):
        Image.fromarray(pixels).save(images / name)
    (images / "2.jpg").unlink()
    (images / "3.jpg").write_bytes(b"broken")
    embedded, real = [], Embedder.embed
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(Embedder, "embed", lambda self, images, *_: embedded.append(len(images))
                      or real(self, images))  # fmt: skip
        table = HEAD + b"7,0.jpg,none.jpg\n8,3.jpg,2.jpg\n9,none.jpg,1.jpg\n\n\n"
        (_, different), (_, unknown), (_, same) = _submit(run, Path(), table)
    assert sum(embedded) == 2
    assert unknown == 0.5
    assert different != 0.5
    assert same == pytest.approx(probability_2[0], abs=1e-5)
    assert missing.read_text().splitlines() == [
        "image,reason", "2.jpg,no such file", "3.jpg,not an image that can be read"
    ]  # fmt: skip
    after = embeddings.load(tmp_path / "submission.csv.npz")
    assert [p.file for p in after.paintings] == ["0.jpg", "1.jpg", "4.jpg", "5.jpg", "none.jpg"]
    np.testing.assert_array_equal(after.emb_NxD[[0, 2, 3]], before.emb_NxD[[0, 4, 5]])
    assert abs(after.emb_NxD[1] - before.emb_NxD[1]).max() > 1e-3
    with pytest.raises(InputError, match=r"pairs\.csv can be read: see .*rejected"):
        _submit(run, tmp_path, HEAD + b"1,3.jpg,2.jpg\n")
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_images_that_training_has_used_are_scored_on_request_alone(
    run, images, name, tmp_path, capsys
):
    """Known by their pixels, which another decoder may change by a little, and not by names."""
    split = load_run(run).store.splits[name]
    used, other = "water-lilies.JPG", Path(split.paintings[1].file).name
    pixels = np.clip(split.image_NxSxSxC[0].astype(int) + 2, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(images / used, "PNG")
    far = np.roll(split.image_NxSxSxC[1], 8, axis=1)
    Image.fromarray(far).save(images / other, "PNG")
    table = HEAD + f"1,{used},{other}\n2,0.jpg,{used}\n".encode()
    listed = tmp_path / "submission.csv.trained_on.csv"
    if name == "test":
        assert len(_submit(run, tmp_path, table)) == 2
        assert "trained_on: 0 of 3 images\n" in capsys.readouterr().out
        assert not listed.exists()
        return
    with pytest.raises(InputError, match=r"trained on 1 of the 3 images .*split-by kaggle") as said:
        _submit(run, tmp_path, table)
    assert "\n" not in str(said.value)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "pairs.csv"}
    assert len(_submit(run, tmp_path, table, "--allow-trained-on")) == 2
    assert "trained_on: 1 of 3 images\n" in capsys.readouterr().out
    assert listed.read_text() == f"image\n{used}\n"


def test_without_its_store_a_run_scores_on_request_alone(run, images, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    config["data"]["store"] = str(tmp_path / "gone")
    (copy / "config.json").write_text(json.dumps(config))
    table = HEAD + b"1,0.jpg,1.jpg\n"
    with pytest.raises(InputError, match=r"no store at .*gone.*--allow-trained-on"):
        _submit(copy, tmp_path, table)
    assert len(_submit(copy, tmp_path, table, "--allow-trained-on")) == 1
    assert "trained_on: unknown, no store at " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", r"columns \[\], .* index, image1, image2"),
        (b"index,image1\n1,0.jpg\n", "index, image1, image2"),
        (b"index,image1,image2,image2\n", "index, image1, image2 once"),
        (HEAD + b"\n", "no pairs"),
        (HEAD + b"1,0.jpg\n", "line 2: .* 3 values"),
        (HEAD + b"1,\xff,0.jpg\n", "cannot be read"),
        (HEAD + b"1,x.jpg,y.jpg\n", r"none of the 2 images of --pairs, .* x\.jpg"),
        (HEAD + b"1,0.jpg,0.jpg\n2,1.jpg,0.jpg\n", r"1 names of --pairs, .* 1\.jpg"),
    ],
)
def test_what_is_cheap_is_checked_before_anything_is_embedded(
    run, images, table, message, tmp_path
):
    (images / "again").mkdir()
    for name in ("1.jpg", "9.jpg"):  # No pair has 9.jpg, which may be there twice.
        (images / "again" / name).write_bytes((images / "1.jpg").read_bytes())
    with pytest.raises(InputError, match=message):
        _submit(run, tmp_path, table)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "pairs.csv"}
    (tmp_path / "submission.csv").touch()
    argv = ["--run", run, "--pairs", tmp_path / "pairs.csv", "--images", images, "--output"]
    with pytest.raises(InputError, match=r"--output .* exists"):
        submit.main([*map(str, argv), str(tmp_path / "submission.csv")])


@pytest.mark.parametrize("index", ["0,5", 'a "b"', "a\nb", "a\rb", "é", ""])
def test_an_index_with_any_characters_is_kept(index, tmp_path):
    table, output = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    rows = [submission.COLUMNS, (index, "0.jpg", "0.jpg"), ("7", "0.jpg", "none.jpg")]
    table.write_text(catalog.csv_text(rows), encoding="utf-8", newline="\n")
    embedded = embeddings.Vectors(np.zeros((1, 2), np.float32), [Painting("0.jpg", "")], {})
    submission.write_scores(table, output, embedded, Calibration(0.0, 1.0))
    with open(output, encoding="utf-8", newline="") as file:
        read = list(csv.reader(file))
    assert read == [["index", "sameArtist"], [index, "0.500000"], ["7", "0.500000"]]
    with open(table, "a") as file:
        file.write("8\n")
    with pytest.raises(InputError, match="3 values"):
        submission.write_scores(table, tmp_path / "x.csv", embedded, Calibration(0.0, 1.0))
    assert {path.name for path in tmp_path.iterdir()} == {"pairs.csv", "scores.csv"}


@pytest.mark.parametrize("pairs", [6, 7, 8, 13, 14, 15, 100])
def test_pairs_around_the_ends_of_blocks_are_those_of_a_loop(pairs, monkeypatch):
    """`python -m benchmarks.judging` at a small size: lines, their order, and scores."""
    monkeypatch.setattr(submission, "BLOCK", 7)
    monkeypatch.setattr(judging, "WRITTEN_AT_ONCE", 9)
    scored = judging.submitted(pairs, images=50, dim=16)
    assert scored["checked"]["lines"] == scored["checked"]["scores"] == pairs
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
