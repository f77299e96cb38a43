"""Memory in pages of 2 MB: every command starts so, with its arguments, and gets them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from painterjax.common import huge_pages

SAYING = "import os, sys\nprint(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:], file=sys.stderr)\n"
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="there is no glibc"
)


def _run(*words: str, tunables: str | None = None, path: Path | None = None) -> list[str]:
    """The lines that Python prints, with such tunables and modules of a folder."""
    env = {name: value for name, value in os.environ.items() if name != huge_pages.VARIABLE}
    env |= {} if tunables is None else {huge_pages.VARIABLE: tunables}
    env |= {} if path is None else {"PYTHONPATH": str(path)}
    command = [sys.executable, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("given", "then"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_a_program_starts_anew_once_with_its_arguments(given, then, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        f"from painterjax.common import huge_pages\nhuge_pages.start_with()\n{SAYING}"
    )
    root = Path(huge_pages.__file__).parents[2]
    lines = _run("-X", "utf8", str(program), "a", "b c", tunables=given, path=root)
    assert lines == [f"{then} ['a', 'b c']"]


@pytest.mark.parametrize("start", [["-m", "painterjax.search"], ["-m", "painterjax", "search"]])
def test_commands_start_so(start, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SAYING)  # Python runs it at each start.
    lines = _run(*start, "--top", "x", path=tmp_path)
    assert [line.split()[0] for line in lines[:2]] == ["None", "glibc.malloc.hugetlb=1"]
    assert "required: --run" in lines[-1]


@pytest.mark.skipif(
    not THP.exists() or "[never]" in THP.read_text(), reason="Linux gives no huge pages"
)
def test_memory_comes_in_huge_pages():
    looking = (
        "import re, sys, numpy; x = numpy.ones(2**26)\n"
        "print(re.search(r'AnonHugePages: *(\\d+)', open('/proc/self/smaps_rollup').read())[1],"
        " file=sys.stderr)"
    )
    (kilobytes,) = _run("-c", looking, tunables="glibc.malloc.hugetlb=1")
    assert int(kilobytes) > 2**18  # Half of it, as memory may be in pieces.
