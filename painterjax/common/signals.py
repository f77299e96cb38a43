"""Ctrl-C (SIGINT) and SIGTERM: a command ends soon, says so in one line, and loses nothing.

The first signal sets one flag, and raises Stopped in the main thread. Within `deferred` it only
sets the flag, for a loop that reads it where it can save. A watching thread ends the process at a
second Ctrl-C, and where the main thread is in C++ for GRACE_S: what is on disk survives a kill.
"""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 5.0  # A compiler may hold the main thread for longer.
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """The process was told to stop; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Received:
    """The first signal, or 0, and whether a loop reads it by itself."""

    number = 0
    is_deferred = False


def received() -> int:
    """Returns the number of the first signal, or 0."""
    return _Received.number


def raise_if_received() -> None:
    """Raises Stopped where a signal was received."""
    if _Received.number:
        raise Stopped(_Received.number)


def exit_at_signals() -> None:
    """Makes both signals end the process in one line, until `watch` takes over.

    For the seconds in which a command imports what it needs.
    """
    for number in SIGNALS:
        signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    word = WORDS[signal.Signals(number)]
    print(f"\n{started_module()}: {word}; run it again to continue", file=sys.stderr, flush=True)
    os._exit(128 + number)


def started_module() -> str:
    """Returns the module that `python -m` runs, as in painterjax.train; else "painterjax"."""
    words = itertools.pairwise(sys.orig_argv)
    return next((name for flag, name in words if flag == "-m"), "painterjax")


def watch(leave: Callable[[int], None]) -> None:
    """Handles both signals from here on.

    Args:
      leave: ends the process at once; called from another thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, leave), daemon=True).start()
    handle()


def handle() -> None:
    """Takes both signals, also where a library has taken one meanwhile."""
    for number in SIGNALS:
        signal.signal(number, _receive)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Lets the block finish: a signal only sets the flag, and raises Stopped at the block's end."""
    before, _Received.is_deferred = _Received.is_deferred, True
    try:
        yield
    finally:
        _Received.is_deferred = before
    raise_if_received()


def _receive(number: int, _frame: FrameType | None) -> None:
    if not _Received.number:
        _Received.number = number
        if not _Received.is_deferred:
            raise Stopped(number)


def _watch(reader: int, leave: Callable[[int], None]) -> None:
    """Sees signals at once, also while the main thread is in C++."""
    first = os.read(reader, 1)[0]
    threading.Thread(target=_leave_after_grace, args=(first, leave), daemon=True).start()
    while os.read(reader, 1)[0] != signal.SIGINT:
        pass
    leave(signal.SIGINT)


def _leave_after_grace(number: int, leave: Callable[[int], None]) -> None:
    since_s = time.monotonic()
    while time.monotonic() - since_s < GRACE_S:
        time.sleep(0.1)
        if _Received.is_deferred:
            since_s = time.monotonic()
    leave(number)
