"""A store is checked by parts, once on a machine; what changed is read again."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from painterjax import prepare
from painterjax.common.errors import InputError
from painterjax.data import store, verification
from tests.helpers.tiny import STORE

PART_BYTES = 50_000  # images.npy has 190 kB.


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    """A store of several parts, written an hour ago; nothing of it is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verification, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(verification, "READ_BYTES", 10_000)
    prepare.main([*STORE, "--no-pictures", "--output", str(tmp_path / "store")])
    for path in (tmp_path / "store").iterdir():
        _age(path, hours=1)
    return tmp_path / "store"


@pytest.fixture
def read(monkeypatch) -> list[tuple[str, int]]:
    """The parts that were read since, each with its number; parts.json is always read."""
    parts, sha256 = [], verification._sha256

    def watched(part, folder):
        if part.name != verification.NAME:
            parts.append((part.name, part.number))
        return sha256(part, folder)

    monkeypatch.setattr(verification, "_sha256", watched)
    return parts


def _age(path: Path, *, hours: float) -> None:
    changed_ns = path.stat().st_mtime_ns - int(hours * 3600 * 10**9)
    os.utime(path, ns=(changed_ns, changed_ns))


def _flip(path: Path, at: int) -> None:
    """Changes a bit; the file keeps its size and gets another time."""
    data, changed_ns = bytearray(path.read_bytes()), path.stat().st_mtime_ns
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(changed_ns + 10**9, changed_ns + 10**9))


def test_the_hashes_of_parts_are_those_of_sha256sum(made):
    info = json.loads((made / "dataset.json").read_text())
    data = (made / "images.npy").read_bytes()
    parts = json.loads((made / verification.NAME).read_text())
    assert parts["part_bytes"] == PART_BYTES
    expected = [
        hashlib.sha256(data[start : start + PART_BYTES]).hexdigest()
        for start in range(0, len(data), PART_BYTES)
    ]
    assert len(expected) == 4 and parts["sha256"] == {"images.npy": expected}
    assert info["sha256"]["images.npy"] == hashlib.sha256(data).hexdigest()


def test_what_was_found_intact_is_not_read_again(made, read):
    store.verify(made)
    first = sorted(read)
    assert [number for name, number in first if name == "images.npy"] == [0, 1, 2, 3]
    read.clear()
    store.verify(made)
    assert not read
    store.verify(made, anew=True)
    assert sorted(read) == first


@pytest.mark.parametrize("at", [0, 60_000, -1])
def test_a_file_that_changed_is_read_again_and_refused(made, at):
    store.verify(made)
    _flip(made / "images.npy", at)
    with pytest.raises(InputError, match=r"images\.npy is not what prepare wrote: delete it"):
        store.verify(made)


def test_a_file_that_grew_is_refused(made):
    with open(made / "images.npy", "ab") as file:
        file.write(b"x" * 3 * PART_BYTES)
    with pytest.raises(InputError, match=r"images\.npy is not what prepare wrote"):
        store.verify(made)


def test_other_hashes_of_parts_are_refused(made):
    data = json.loads((made / verification.NAME).read_text())
    data["sha256"]["images.npy"][0] = "0"
    (made / verification.NAME).write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"parts\.json is not what prepare wrote"):
        store.verify(made)


def test_damage_that_keeps_size_and_time_is_found_when_checked_anew(made, tmp_path):
    store.verify(made)
    path = made / "images.npy"
    changed_ns = path.stat().st_mtime_ns
    _flip(path, 60_000)
    os.utime(path, ns=(changed_ns, changed_ns))
    store.verify(made)
    with pytest.raises(InputError, match=r"images\.npy is not what prepare wrote"):
        prepare.main([*STORE, "--no-pictures", "--output", str(made)])


def test_processes_check_a_share_each_and_together_all(made, read):
    for place in range(3):
        store.verify(made, share=(place, 3))
    parts = sorted(read)
    assert len(parts) == len(set(parts)) == 4 + 4  # Those of images.npy, and four tables.
    read.clear()
    store.verify(made)
    assert not read
    _flip(made / "images.npy", 60_000)
    refused = []
    for place in range(3):
        try:
            store.verify(made, share=(place, 3))
        except InputError:
            refused.append(place)
    assert len(refused) == 1


def test_a_file_that_was_just_written_is_not_remembered(made, read):
    """Its next change may have the same time."""
    (made / "images.npy").touch()
    for _ in range(2):
        read.clear()
        store.verify(made)
        assert len([name for name, _ in read if name == "images.npy"]) == 4


def test_another_copy_is_read_and_a_cache_that_cannot_be_written_is_done_without(
    made, read, tmp_path, monkeypatch
):
    store.verify(made)
    shutil.copytree(made, tmp_path / "copy")
    read.clear()
    store.verify(tmp_path / "copy")
    assert len(read) == 8
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    read.clear()
    store.verify(made)
    assert len(read) == 8


def test_a_store_without_parts_is_checked_whole(made, read):
    """As those of earlier versions are; it is the same store."""
    before = store.open_store(made)
    info = json.loads((made / "dataset.json").read_text())
    del info["sha256"][verification.NAME]
    (made / "dataset.json").write_text(json.dumps(info))
    (made / verification.NAME).unlink()
    assert store.open_store(made).sha256 == before.sha256
    store.verify(made)
    assert sorted(read) == [(name, 0) for name in sorted(info["sha256"]) if name != store.ROWS]
    _flip(made / "images.npy", -1)
    with pytest.raises(InputError, match=r"images\.npy is not what prepare wrote"):
        store.verify(made)
