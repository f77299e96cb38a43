"""Images as JPEG files in an ArrayRecord file, read as an array of their pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painterjax import prepare
from painterjax.common import signals
from painterjax.common.errors import InputError
from painterjax.data import encoded, records, store, synthetic
from painterjax.training import trainer
from tests.helpers import tiny

COUNT, SIZE = 70, 32  # ArrayRecord files have blocks of 64 KB.


@pytest.fixture(scope="module")
def paintings() -> np.ndarray:
    """Paintings by one painter."""
    paint = (synthetic.paint(seed=0, artist=0, painting=i, size=SIZE) for i in range(COUNT))
    return np.stack(list(paint))


@pytest.fixture(scope="module")
def path(paintings, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("encoded") / encoded.NAME
    encoded.write(path, map(encoded.encode, paintings))
    return path


def _as_pillow_has_it(image_SxSxC: np.ndarray) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(image_SxSxC).save(data, "JPEG", quality=90, subsampling=0)
    return np.asarray(Image.open(data))


def test_rows_are_read_as_those_of_an_array(path, paintings):
    expected = np.stack([_as_pillow_has_it(image_SxSxC) for image_SxSxC in paintings])
    images = encoded.EncodedImages(path, range(encoded.count(path)), size=SIZE)
    assert (images.shape, images.dtype, len(images)) == (expected.shape, expected.dtype, COUNT)
    assert (images.ndim, images.nbytes) == (expected.ndim, expected.nbytes)
    np.testing.assert_array_equal(np.asarray(images), expected)
    np.testing.assert_array_equal(np.stack(list(images)), expected)
    np.testing.assert_array_equal(images[3], expected[3])
    rows = np.array([[5, -1, 5], [0, 69, 7]])
    np.testing.assert_array_equal(images[rows], expected[rows])
    np.testing.assert_array_equal(np.asarray(images[10:20][2:]), expected[12:20])
    np.testing.assert_array_equal(images[10:20][[0, 9]], expected[[10, 19]])
    with pytest.raises(IndexError):
        images[10:20][10]


def test_a_file_that_was_cut_or_changed_is_refused(path, tmp_path):
    data = path.read_bytes()
    (cut := tmp_path / "cut").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut cannot be read .*prepare it again"):
        encoded.count(cut)
    start = data.index(b"\xff\xd8\xff")
    changed = tmp_path / "changed"
    changed.write_bytes(data[:start] + bytes(64) + data[start + 64 :])
    images = encoded.EncodedImages(changed, range(COUNT), size=SIZE)
    with pytest.raises(InputError, match=r"changed is damaged .*prepare it again"):
        np.asarray(images)


def _prepare(output: Path, *more: str) -> store.Store:
    prepare.main([*tiny.STORE, "--output", str(output), *more])
    return store.open_store(output)


def test_a_store_of_jpeg_files_has_the_rows_of_any_other(tiny_store, tmp_path, no_workers):
    plain, encoded_store = store.open_store(tiny_store), _prepare(tmp_path / "store", "--jpeg")
    assert not (encoded_store.path / "images.npy").exists()
    assert (encoded_store.info["jpeg"], plain.info.get("jpeg")) == (90, None)
    for name, split in plain.splits.items():
        own = encoded_store.splits[name]
        assert list(own.paintings) == list(split.paintings)
        np.testing.assert_array_equal(own.artist_N, split.artist_N)
        expected = np.stack([_as_pillow_has_it(image) for image in split.image_NxSxSxC])
        np.testing.assert_array_equal(np.asarray(own.image_NxSxSxC), expected)
    with pytest.raises(InputError, match="jpeg is 90, asked for None"):
        _prepare(tmp_path / "store")
    data = bytearray((encoded_store.path / encoded.NAME).read_bytes())
    data[len(data) // 2] ^= 1
    (encoded_store.path / encoded.NAME).write_bytes(data)
    with pytest.raises(InputError, match=r"images\.array_record is not what prepare wrote"):
        store.verify(encoded_store.path)


def test_no_pixels_are_written_and_interrupted_or_in_shards_it_ends_with_the_same_bytes(
    tmp_path, monkeypatch, no_workers
):
    whole = _prepare(tmp_path / "whole", "--jpeg")
    sync, written = records._sync, []

    def stop(file):
        sync(file)
        written.append(file.tell())
        if len(written) == 3:
            file.write(b"of the next image")
            raise signals.Stopped(15)

    with monkeypatch.context() as stopping, pytest.raises(signals.Stopped):
        stopping.setattr(records, "_sync", stop)
        _prepare(tmp_path / "stopped", "--jpeg")
    assert 0 < max(written) < 3 * records.MAX_CHUNK * 32 * 32 * 3 / 2
    for shard in ("1/2", "2/2"):
        command = [*tiny.STORE, "--output", str(tmp_path / "sharded"), "--jpeg"]
        prepare.main([*command, "--shard", shard])
    for name in ("stopped", "sharded"):
        assert _prepare(tmp_path / name, "--jpeg").info["sha256"] == whole.info["sha256"]


def test_training_takes_the_same_tuples_of_either_store(tiny_store, tmp_path, no_workers, config):
    config.model.widths, config.model.depths = (8, 16), (1, 1)
    encoded_store, batches = _prepare(tmp_path / "store", "--jpeg"), {}
    for name, opened in (("plain", store.open_store(tiny_store)), ("jpeg", encoded_store)):
        for config.data.residency in ("host", "device"):
            training = trainer.build(config, opened.splits["train"])
            batch = next(training.batches)
            _, scalars = training.run(training.state, batch, 1)
            training.batches.close()
            batches[name, config.data.residency] = (
                np.asarray(batch["row"]),
                float(scalars["loss"][0]),
            )
    rows, losses = zip(*batches.values(), strict=True)
    np.testing.assert_array_equal(rows, [rows[0]] * 4)
    assert losses[0] == losses[1] != losses[2] == losses[3]  # JPEG changes pixels.
