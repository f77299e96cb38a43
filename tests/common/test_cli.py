"""Failing files: what the one line says."""

import os
from pathlib import Path

import pytest

from painterjax.common import cli


def _open_missing(folder: Path) -> None:
    (folder / "missing" / "file").write_text("")


def _make_twice(folder: Path) -> None:
    for _ in range(2):
        (folder / "same").mkdir()


def _list_file(folder: Path) -> None:
    (folder / "file").touch()
    os.listdir(folder / "file")


def _read_folder(folder: Path) -> None:
    folder.read_text()


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (_open_missing, "missing/file: there is no such file or folder: check the name"),
        (_make_twice, "same: exists already: delete it"),
        (_list_file, "file: a part of this path is a file"),
        (_read_folder, ": is a folder: give a file"),
    ],
)
def test_the_system_s_numbers_are_said_in_words(fail, words, tmp_path):
    with pytest.raises(OSError) as error:
        fail(tmp_path)
    said = cli.reason(error.value)
    assert said.startswith(str(tmp_path)) and words in said
    assert "Errno" not in said
