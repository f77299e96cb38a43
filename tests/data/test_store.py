"""The store: what was written comes back, and a damaged one is refused by name."""

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
    assert [len(part) for part in parts] == [12, 4, 4]
    np.testing.assert_array_equal(np.concatenate(parts), image_NxSxSxC)
    for split in opened.splits.values():
        assert [split.artists[a] for a in split.artist_N] == [p.artist for p in split.paintings]
        assert (np.diff(split.artist_N) >= 0).all()


def _edit_info(path, **changes):
    info = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps({**info, **changes}))


def _append(path, data: bytes):
    with open(path, "ab") as file:
        file.write(data)


DAMAGES = {
    "not there": (lambda path: shutil.rmtree(path), "no store at .*: make one with python -m"),
    "no dataset.json": (lambda path: (path / "dataset.json").unlink(), "no store at"),
    "dataset.json is cut": (
        lambda path: (path / "dataset.json").write_text('{"format_version": 1'),
        "dataset.json is damaged",
    ),
    "another version": (
        lambda path: _edit_info(path, format_version=99),
        "has format version 99, expected 1",
    ),
    "no image size": (lambda path: _edit_info(path, image_size="big"), "expected uint8"),
    "no tables": (lambda path: (path / "paintings.csv").unlink(), "lacks paintings.csv"),
    "table was edited": (
        lambda path: _append(path / "paintings.csv", b"20,test,x,y,,,,\n"),
        "paintings.csv was changed after prepare",
    ),
    "images are cut": (
        lambda path: (path / "images.npy").write_bytes((path / "images.npy").read_bytes()[:-1]),
        "images.npy cannot be read",
    ),
    "images are others": (
        lambda path: np.save(path / "images.npy", np.zeros((2, 32, 32, 3), np.uint8)),
        r"images.npy is uint8 \(2, 32, 32, 3\), expected uint8 \(20, 32, 32, 3\)",
    ),
    "images have an open bracket in their header": (
        lambda path: (path / "images.npy").write_bytes(
            (path / "images.npy").read_bytes().replace(b"(20,", b"((0,", 1)
        ),
        "images.npy cannot be read",
    ),
    "images hold objects": (
        lambda path: np.save(path / "images.npy", np.array([{}]), allow_pickle=True),
        "images.npy cannot be read",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_refused(whole_store, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(whole_store, copy)
    do_damage, message = DAMAGES[damage]
    do_damage(copy)
    with pytest.raises(InputError, match=message):
        store.open_store(copy)


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
