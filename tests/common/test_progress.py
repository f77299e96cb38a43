"""Progress as plain lines: the time left, nouns, and no line twice."""

import re

from painterjax.common import progress
from painterjax.common.progress import Progress


def test_lines_tell_the_time_left_and_none_is_said_twice(monkeypatch, capsys):
    now_s = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    with Progress("read", total=1 + 40, unit="page") as shown:
        for _ in range(41):
            now_s += 11.0
            shown.advance()
    lines = capsys.readouterr().err.splitlines()
    # The first page may have taken a compiler's time: the pace is that of the others.
    assert lines[2] == "read: 2 of 41 pages (4 %), 07:09 left"
    assert lines[-2:] == [
        "read: 40 of 41 pages (97 %), 00:11 left", "read: 41 of 41 pages (100 %)",
    ]  # fmt: skip
    assert len(set(lines)) == len(lines) == 42


def test_work_of_one_unit_or_none(capsys):
    with Progress("read", total=1, unit="page") as shown:
        shown.advance()
    with Progress("read", total=0, unit="page"):
        pass
    assert re.findall("page.*", capsys.readouterr().err) == ["page", "page (100 %)"]
