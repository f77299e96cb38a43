"""Ctrl-C (SIGINT) and SIGTERM: a command ends soon, says so in one line, and loses nothing.

The first signal sets one flag, and raises Stopped in the main thread. Within `deferred` it only
sets the flag, for a loop that reads it where it can save. Where Python would ignore the exception,
the next step of any progress raises it. A watching thread ends the process at a second Ctrl-C, and
where the main thread is in C++ for GRACE_S: what is on disk survives a kill.
"""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 5.0  # A compiler may hold the main thread for longer.
# Functions whose exceptions Python prints and ignores. The garbage collector calls JAX's anywhere.
IGNORED_IN = ("__del__", "_xla_gc_callback")
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """The process was told to stop; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    """The first signal, or 0; whether a loop reads it by itself; the name in messages."""

    number = 0
    is_deferred = False
    command = "painterjax"


def received() -> int:
    """Returns the number of the first signal, or 0."""
    return _State.number


def raise_if_received() -> None:
    """Raises Stopped where a signal was received."""
    if _State.number:
        raise Stopped(_State.number)


def raise_unless_deferred() -> None:
    """Raises Stopped where a signal was received and could not be raised at once."""
    if not _State.is_deferred:
        raise_if_received()


def exit_at_signals() -> None:
    """Makes both signals end the process in one line while a command imports what it needs."""
    _State.command = started_module() or "painterjax"
    for number in SIGNALS:
        signal.signal(number, lambda number, _: _exit(number))


def started_module() -> str:
    """Returns the module that `python -m` is about to run, as in painterjax.train, or ""."""
    if sys.argv[0] != "-m":  # What Python puts there until it has found the module.
        return ""
    words = itertools.pairwise(sys.orig_argv)
    return next((name for flag, name in words if flag == "-m"), "")


def watch(command: str) -> None:
    """Handles both signals from here on, in the name of a command."""
    _State.command = command
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    handle()


def handle() -> None:
    """Takes both signals, also where a library has taken one meanwhile."""
    for number in SIGNALS:
        signal.signal(number, _receive)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Lets the block finish: a signal only sets the flag, and raises Stopped at the block's end."""
    before, _State.is_deferred = _State.is_deferred, True
    try:
        yield
    finally:
        _State.is_deferred = before
    raise_if_received()


def say_stopped(number: int) -> None:
    """Prints the line with which a command ends at a signal."""
    word = WORDS[signal.Signals(number)]
    print(f"\n{_State.command}: {word}; run it again to continue", file=sys.stderr, flush=True)


def _exit(number: int) -> NoReturn:
    say_stopped(number)
    os._exit(128 + number)


def _receive(number: int, frame: FrameType | None) -> None:
    if not _State.number:
        _State.number = number
        if not _is_ignored(frame):
            raise_unless_deferred()


def _is_ignored(frame: FrameType | None) -> bool:
    """Whether Python would ignore an exception that is raised here."""
    while frame and frame.f_code.co_name not in IGNORED_IN:
        frame = frame.f_back
    return frame is not None


def _watch(reader: int) -> None:
    """Sees signals at once, also while the main thread is in C++."""
    first = os.read(reader, 1)[0]
    threading.Thread(target=_exit_after_grace, args=(first,), daemon=True).start()
    while os.read(reader, 1)[0] != signal.SIGINT:
        pass
    _exit(signal.SIGINT)


def _exit_after_grace(number: int) -> None:
    since_s = time.monotonic()
    while time.monotonic() - since_s < GRACE_S:
        time.sleep(0.1)
        if _State.is_deferred:
            since_s = time.monotonic()
    _exit(number)
