"""Atomic writes, plans to resume by, and locks."""

import os

import pytest

from painterjax.common import files
from painterjax.common.errors import InputError


def test_two_writers_of_one_file_do_not_collide(tmp_path):
    path = tmp_path / "result.json"
    with files.replacing(path) as first, files.replacing(path) as second:
        assert first != second
        second.write_text("two")
        first.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"  # The outer block renames last.
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path, failure):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(failure), files.replacing(path) as temporary:
        temporary.write_text("a part of the new")
        raise failure
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_file_is_synced_before_its_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    calls = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    with files.replacing(tmp_path / "result.json") as temporary:
        temporary.write_text("new")
    assert calls == [str(temporary), "rename", str(tmp_path)]


def test_what_is_appended_replaces_bytes_of_a_killed_append_and_is_synced(tmp_path, monkeypatch):
    path, synced, fsync = tmp_path / "x", [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    for data, behind, expected in ((b"one", 0, b"one"), (b"2", 3, b"one2"), (b"4", 3, b"one4")):
        files.append(path, data, behind=behind)
        assert path.read_bytes() == expected
    assert synced == 3 * [str(path), str(tmp_path)]


def test_what_is_no_plain_file_is_written_into_and_not_replaced(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    files.write_text(link, "text\n")
    assert link.is_symlink() and target.read_text() == "text\n"
    assert not files.is_replaced(link) and not files.is_replaced(tmp_path)
    assert files.is_replaced(target) and files.is_replaced(tmp_path / "new")


@pytest.mark.parametrize("data", [b"", b"[1]", b"\xff", b"[" * 100_000])
def test_json_that_is_no_object_is_a_value_error(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError):
        files.read_json(tmp_path / "x.json")


def test_work_goes_on_under_the_same_plan_only(tmp_path):
    partial = tmp_path / "work"
    files.begin_work(partial, {"seed": 0})
    (partial / "records.bin").touch()
    files.begin_work(partial, {"seed": 0})
    with pytest.raises(InputError, match="seed was 0, is 1"):
        files.begin_work(partial, {"seed": 1})
    (partial / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json .*delete"):
        files.begin_work(partial, {"seed": 0})
    (partial / "plan.json").unlink()
    with pytest.raises(InputError, match=r"work .*other files"):
        files.begin_work(partial, {"seed": 0})


def test_a_kill_in_the_first_moment_is_no_obstacle(tmp_path):
    """Neither a plan that was not yet renamed nor a lock counts as another's file."""
    (tmp_path / "plan.json.0123abcd.tmp").touch()
    (tmp_path / "lock").touch()
    files.begin_work(tmp_path, {"seed": 0})
    assert files.read_plan(tmp_path) == {"seed": 0}


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [(False, False, True), (False, True, True), (True, False, True), (True, True, False)],
)
def test_only_shared_locks_go_together(tmp_path, first, second, refused):
    with files.claimed(tmp_path, shared=first):
        if refused:
            with pytest.raises(InputError, match="another process"):
                files.claimed(tmp_path, shared=second).__enter__()
        else:
            files.claimed(tmp_path, shared=second).__enter__()
    with files.claimed(tmp_path):
        pass
