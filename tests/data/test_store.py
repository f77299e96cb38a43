"""The store: what was written comes back, and a damaged store is refused by its file."""

import io
import json
import shutil

import numpy as np
import pytest

from painterjax import prepare
from painterjax.common.errors import InputError
from painterjax.data import catalog, store

SYNTHETIC = ["synthetic", "--artists", "5", "--paintings", "4", "--image-size", "32"]


@pytest.fixture(scope="session")
def whole_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "store"
    prepare.main([*SYNTHETIC, "--output", str(path), "--workers", "1", "--val-fraction", "0.25"])
    return path


def test_splits_are_ranges_of_one_file(whole_store):
    opened = store.open_store(whole_store)
    image_NxSxSxC = np.load(whole_store / "images.npy")
    assert image_NxSxSxC.shape == (20, 32, 32, 3)
    parts = [opened.splits[name].image_NxSxSxC for name in catalog.SPLITS]
    assert [*map(len, parts)] == [12, 4, 4]
    np.testing.assert_array_equal(np.concatenate(parts), image_NxSxSxC)
    for split in opened.splits.values():
        assert [split.artists[a] for a in split.artist_N] == [p.artist for p in split.paintings]
        assert (np.diff(split.artist_N) >= 0).all()


def _with_info(**changes):
    return lambda data: json.dumps({**json.loads(data), **changes}).encode()


def _array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


# A file, its new contents by the old ones, or None without it; and what the message says.
DAMAGES = {
    "no dataset.json": ("dataset.json", None, "no store at .*painterjax.prepare"),
    "dataset.json is cut": ("dataset.json", lambda data: data[:30], "dataset.json is damaged"),
    "another version": ("dataset.json", _with_info(format_version=99), "99, expected 1"),
    "no image size": ("dataset.json", _with_info(image_size="big"), "expected uint8 .*'big'"),
    "no counts": ("dataset.json", _with_info(counts=None), "dataset.json counts"),
    "no table": ("paintings.csv", None, "lacks paintings.csv"),
    "table was edited": ("paintings.csv", lambda data: data + b"x\n", "paintings.csv was changed"),
    "images are cut": ("images.npy", lambda data: data[:-1], "images.npy cannot be read"),
    "other images": (
        "images.npy",
        lambda _: _array(np.zeros((2, 32, 32, 3), np.uint8)),
        r"images.npy is uint8 \(2, 32, 32, 3\), expected uint8 \(20, 32, 32, 3\)",
    ),
    "a bracket too many": (
        "images.npy",
        lambda data: data.replace(b"(20,", b"((0,", 1),
        "images.npy cannot be read",
    ),
    "objects": ("images.npy", lambda _: _array(np.array([{}])), "images.npy cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_refused(whole_store, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(whole_store, copy)
    name, change, message = DAMAGES[damage]
    if change is None:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(change((copy / name).read_bytes()))
    with pytest.raises(InputError, match=message):
        store.open_store(copy)


def test_a_store_of_an_earlier_version_lacks_the_duplicates(whole_store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole_store, copy)
    (copy / "duplicates.csv").unlink()
    with pytest.raises(InputError, match=r"lacks duplicates\.csv"):
        store.open_store(copy)
    info = json.loads((copy / "dataset.json").read_text())
    del info["sha256"]["duplicates.csv"], info["counts"]["duplicates"], info["duplicates"]
    (copy / "dataset.json").write_text(json.dumps(info))
    assert len(store.open_store(copy).splits["train"]) == 12
    store.verify(copy)


def test_verify_sees_one_changed_pixel(whole_store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole_store, copy)
    store.verify(copy)
    data = bytearray((copy / "images.npy").read_bytes())
    data[-1] ^= 1
    (copy / "images.npy").write_bytes(data)
    store.open_store(copy)
    with pytest.raises(InputError, match=r"images.npy is not what prepare wrote"):
        store.verify(copy)
