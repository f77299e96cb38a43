"""Pictures for people: whole, no larger than 512 pixels, beside squares that they leave alone."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageOps

from painterjax import prepare
from painterjax.common import signals
from painterjax.common.errors import InputError
from painterjax.data import raster, records, store, synthetic
from tests.helpers.pages import png

# A JPEG of 1,600 pixels is decoded at a quarter for a square of 32 and at a half for a picture.
SIDES = {"wide": (1600, 900), "tall": (300, 700), "small": (100, 64)}


@pytest.fixture(scope="module")
def paintings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paintings")
    for artist in range(3):
        for number, (name, (width, height)) in enumerate(SIDES.items()):
            side = max(width, height)
            image_SxSxC = synthetic.paint(seed=0, artist=artist, painting=number, size=256)
            image = ImageOps.fit(Image.fromarray(image_SxSxC).resize((side, side)), (width, height))
            path = folder / f"{artist}" / f"{name}.jpg"
            path.parent.mkdir(exist_ok=True)
            image.save(path, quality=95)
    return folder


def _prepare(paintings, output, *flags):
    command = ["folder", "--input", str(paintings), "--output", str(output), "--image-size", "32"]
    prepare.main([*command, "--workers", "1", "--val-fraction", "0.34", *flags])
    return store.open_store(output)


@pytest.fixture(scope="module")
def opened(paintings, tmp_path_factory):
    return _prepare(paintings, tmp_path_factory.mktemp("stores") / "store")


def test_pictures_show_whole_paintings_and_leave_the_squares_alone(opened, paintings, tmp_path):
    without = _prepare(paintings, tmp_path / "without", "--no-pictures")
    names = ("images.npy", "paintings.csv", "rejected.csv", "duplicates.csv")
    digests = [each.info["sha256"] for each in (opened, without)]
    assert [digests[0][name] for name in names] == [digests[1][name] for name in names]
    assert opened.sha256 == without.sha256  # What a run was trained on.
    assert store.identity(opened.info) == store.identity(without.info) != opened.info
    assert sum(map(len, opened.splits.values())) == 9
    for split in opened.splits.values():
        for row, painting in enumerate(split.paintings):
            image = Image.open(io.BytesIO(split.picture(row)))
            whole = Image.open(paintings / painting.file)
            scale = min(1, 512 / max(whole.size))
            assert image.format == "JPEG"
            assert image.size == tuple(round(scale * side) for side in whole.size)
            resized = np.asarray(whole.resize(image.size, Image.Resampling.BICUBIC))
            expected = np.asarray(Image.open(io.BytesIO(raster.jpeg(resized))), float)
            assert np.abs(np.asarray(image) - expected).mean() < 4
    shown = Image.open(io.BytesIO(without.splits["test"].picture(0)))
    assert shown.size == (32, 32)


def test_the_center_square_of_a_picture_is_what_the_network_sees(opened):
    train = opened.splits["train"]
    for row in range(len(train)):
        image_HxWxC = raster.reduced(train.picture(row), 512)
        left, top, side = raster.center_square(*image_HxWxC.shape[:2])
        square = Image.fromarray(image_HxWxC[top : top + side, left : left + side])
        seen = np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC)).astype(float)
        assert np.abs(seen - train.image_NxSxSxC[row]).mean() < 6


def test_a_framed_picture_has_the_square_marked(opened):
    split = opened.splits["train"]
    (row,) = [r for r, p in enumerate(split.paintings) if "wide" in p.file][:1]
    image_SxSxC = raster.framed(split.picture(row), 64)
    assert image_SxSxC.shape == (64, 64, 3)
    white_SxS = (image_SxSxC == 255).all(axis=2)
    assert white_SxS[[0, 63]].all()
    assert white_SxS[32, [14, 49]].all() and not white_SxS[32, [0, 63]].any()


def test_any_program_reads_the_pictures_and_a_changed_one_is_found(opened, tmp_path):
    with zipfile.ZipFile(opened.path / "pictures.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{row}.jpg" for row in range(9)]
    copy = tmp_path / "copy"
    shutil.copytree(opened.path, copy)
    data = bytearray((copy / "pictures.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "pictures.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"pictures\.zip is not what prepare wrote"):
        store.verify(copy)
    (copy / "pictures.zip").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"pictures\.zip is damaged"):
        store.open_store(copy).splits["test"].picture(0)
    (copy / "pictures.zip").unlink()
    with pytest.raises(InputError, match=r"lacks pictures\.zip"):
        store.open_store(copy)


def test_pictures_are_the_same_after_an_interruption_and_from_shards(
    opened, paintings, tmp_path, monkeypatch, no_workers
):
    monkeypatch.setattr(records, "MAX_CHUNK", 2)
    write = records._sync

    def stop(file):
        write(file)
        if file.name.endswith(records.PICTURES) and file.tell() > 60_000:
            raise signals.Stopped(15)

    with monkeypatch.context() as stopping, pytest.raises(signals.Stopped):
        stopping.setattr(records, "_sync", stop)
        _prepare(paintings, tmp_path / "stopped")
    done = tmp_path / "stopped.partial" / "decoded.jsonl"
    assert 0 < len(done.read_text().splitlines()) < 9
    for shard in ("1/2", "2/2"):
        command = ["folder", "--input", str(paintings), "--output", str(tmp_path / "sharded")]
        prepare.main([*command, "--image-size", "32", "--workers", "1", "--val-fraction", "0.34",
                      "--shard", shard])  # fmt: skip
    for name in ("stopped", "sharded"):
        again = _prepare(paintings, tmp_path / name)
        assert again.info["sha256"] == opened.info["sha256"]


def test_a_store_without_pictures_stays_as_it_is(paintings, tmp_path, capsys):
    output = tmp_path / "store"
    _prepare(paintings, output, "--no-pictures")
    assert "picture_side" not in json.loads((output / "dataset.json").read_text())
    _prepare(paintings, output)
    assert "no pictures of whole paintings" in capsys.readouterr().out
    assert not (output / "pictures.zip").exists()


def test_what_cannot_be_read_has_no_picture(tmp_path):
    folder = tmp_path / "paintings"
    for artist in "ab":
        for number in range(3):
            path = folder / artist / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = synthetic.paint(seed=0, artist=ord(artist) - 97, painting=number, size=64)
            path.write_bytes(png(shade)[: 500 if number == 1 else None])
    opened = _prepare(folder, tmp_path / "store")
    assert opened.info["counts"]["rejected"] == 2
    with zipfile.ZipFile(opened.path / "pictures.zip") as archive:
        assert len(archive.namelist()) == 4
