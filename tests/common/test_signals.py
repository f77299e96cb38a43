"""Signals: what an import leaves alone, and what a command does at Ctrl-C and SIGTERM."""

import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from painterjax.common import signals
from tests.helpers import tiny

TOOL = """
import signal
import painterjax
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
print(painterjax.load.__name__)
"""


def _run(words: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_import_leaves_the_handlers_alone(tmp_path):
    """Also in a tool that `python -m` starts, and whatever the tool's arguments are."""
    (tmp_path / "tool.py").write_text(TOOL)
    path = {"PYTHONPATH": f"{tiny.ROOT}"}
    for tool in (["tool.py"], ["-m", "tool"]):
        for arguments in ([], ["-m", "painterjax.train"]):
            assert _run([*tool, *arguments], tmp_path, path) == "load\n"


def test_a_folder_of_its_name_does_not_hide_the_installed_package(tmp_path):
    """As above a clone: Python would take the folder for a namespace package."""
    try:
        metadata.distribution("painterjax")
    except metadata.PackageNotFoundError:
        pytest.skip("painterjax is not installed: pip install -e .")
    (tmp_path / "painterjax").mkdir()
    program = "import painterjax; print(painterjax.load.__name__)"
    assert _run(["-c", program], tmp_path) == "load\n"


@pytest.fixture
def handled(monkeypatch):
    """Handles signals as a command does."""
    monkeypatch.setattr(signals._State, "number", 0)
    handlers = {number: signal.getsignal(number) for number in signals.SIGNALS}
    signals.handle()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_raises_at_once_or_at_the_end_of_what_is_deferred(handled, monkeypatch, number):
    with pytest.raises(signals.Stopped) as stopped:
        signal.raise_signal(number)
    assert stopped.value.number == signals.received() == number
    monkeypatch.setattr(signals._State, "number", 0)
    reached = False
    with pytest.raises(signals.Stopped), signals.deferred():
        signal.raise_signal(number)
        reached = signals.received() == number
    assert reached


IGNORED = """
import gc, os, signal
from painterjax.common import cli, progress

def _xla_gc_callback(*_):
    gc.callbacks.remove(_xla_gc_callback)
    os.kill(os.getpid(), signal.SIGTERM)

def main(argv):
    gc.callbacks.append(_xla_gc_callback)
    with progress.Progress("count", total=2, unit="number") as counted:
        gc.collect()
        counted.advance(2)

cli.run(main, "count")
"""


def test_a_signal_that_python_would_ignore_ends_the_command_at_its_next_step():
    done = subprocess.run(
        [sys.executable, "-c", IGNORED], cwd=tiny.ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "ignored" not in done.stderr
    assert "2 of 2" not in done.stderr
    assert done.stderr.endswith("painterjax.count: terminated; run it again to continue\n")
