"""The store: what was written comes back, and a damaged store is refused by its file."""

import io
import json
import shutil

import numpy as np
import pytest

from painterjax import prepare
from painterjax.common.errors import InputError
from painterjax.data import catalog, store, tables

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
    "another version": ("dataset.json", _with_info(format_version=99), "99, expected 1 or 2"),
    "no image size": ("dataset.json", _with_info(image_size="big"), "expected uint8 .*'big'"),
    "no counts": ("dataset.json", _with_info(counts=None), "dataset.json counts"),
    "no table": ("paintings.parquet", None, "lacks paintings.parquet"),
    "table was edited": (
        "paintings.parquet",
        lambda data: data + b"x\n",
        "paintings.parquet was changed",
    ),
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


def test_a_store_without_parquet_opens_alike_and_keeps_its_identity(whole_store, tmp_path):
    """Format version 1 had paintings.csv alone; a run's copy of its dataset.json still fits."""
    old = tmp_path / "old"
    shutil.copytree(whole_store, old)
    (old / "paintings.parquet").unlink()
    info = json.loads((old / "dataset.json").read_text())
    info["format_version"], digests = 1, info["sha256"]
    del digests["paintings.parquet"], digests["rows"]
    (old / "dataset.json").write_text(json.dumps(info))
    opened, new = store.open_store(old), store.open_store(whole_store)
    assert store.identity(opened.info) == info and opened.sha256 == digests
    assert {"images.npy", "paintings.csv", "rejected.csv"} < digests.keys()
    for name in catalog.SPLITS:
        assert opened.splits[name].paintings == new.splits[name].paintings
        assert opened.splits[name].artists == new.splits[name].artists
        np.testing.assert_array_equal(opened.splits[name].artist_N, new.splits[name].artist_N)
    store.verify(old)
    with pytest.raises(InputError, match=r"is a store of format version 1.*another --output"):
        prepare.main([*SYNTHETIC, "--output", str(old), "--workers", "1"])
    (old / "paintings.csv").write_text((old / "paintings.csv").read_text() + "\n")
    with pytest.raises(InputError, match=r"paintings\.csv was changed"):
        store.open_store(old)


def test_the_identity_is_of_the_rows_and_not_of_arrow_s_bytes(whole_store):
    info = store.open_store(whole_store).info
    digests = {**info["sha256"], "paintings.parquet": "as another version writes it"}
    assert store.identity({**info, "sha256": digests}) == store.identity(info)
    digests["rows"] = "others"
    assert store.identity({**info, "sha256": digests}) != store.identity(info)


@pytest.mark.usefixtures("no_workers")
def test_a_large_store_has_no_csv(whole_store, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CSV_ROWS", 19)
    argv = [*SYNTHETIC, "--workers", "1", "--val-fraction", "0.25"]
    prepare.main([*argv, "--output", str(tmp_path / "store")])
    assert not (tmp_path / "store" / "paintings.csv").exists()
    opened, other = store.open_store(tmp_path / "store"), store.open_store(whole_store)
    assert opened.splits["train"].paintings == other.splits["train"].paintings
    assert "paintings.csv" not in opened.sha256 and "paintings.csv" in other.sha256


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
