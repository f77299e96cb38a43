"""How a command is told to stop: Ctrl-C (SIGINT) and SIGTERM.

The first signal raises Stopped where Python next has a say, or, within `held`, at that block's end:
so a training finishes its dispatch and saves. A command that still computes in C++ seconds later is
left without further ado, as is any at a second Ctrl-C: what is on disk survives a kill.
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
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 5.0  # From when nothing is held any more; compilers take longer.

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """The process was told to stop; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Asked:
    """What the process was told: the first signal, and whether it is to wait."""

    number: int | None = None
    held = False


def asked() -> int:
    """Returns the signal by which the process was told to stop, or 0."""
    return _Asked.number or 0


def ask(number: int) -> None:
    """Tells the process to stop as that signal would at the end of what is `held`."""
    _Asked.number = _Asked.number or number


def raise_if_asked() -> None:
    """Raises Stopped where the process was told to stop."""
    if _Asked.number is not None:
        raise Stopped(_Asked.number)


def leave_at_once() -> None:
    """Makes both signals end the process in one line, until `heed` takes over.

    For the seconds in which a command imports what it needs.
    """
    for number in SIGNALS:
        signal.signal(number, _leave_importing)


def _leave_importing(number: int, _frame: FrameType | None) -> None:
    word = WORDS[signal.Signals(number)]
    print(
        f"\n{started_module() or 'painterjax'}: {word}; run it again to go on",
        file=sys.stderr,
        flush=True,
    )
    os._exit(128 + number)


def started_module() -> str:
    """Returns the module that `python -m` runs, as in painterjax.train; "" where it runs none."""
    words = itertools.pairwise(sys.orig_argv)
    return next((name for flag, name in words if flag == "-m"), "")


def heed(leave: Callable[[int], None]) -> None:
    """Makes both signals raise Stopped from here on.

    Args:
      leave: ends the process at once; called, from another thread, at a second Ctrl-C and where
        GRACE_S pass in vain.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, leave), daemon=True).start()
    sys.unraisablehook = _try_again
    signal.signal(signal.SIGALRM, _receive_again)
    for number in SIGNALS:
        signal.signal(number, _receive)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Lets the block finish: what comes meanwhile raises Stopped at its end, or at `released`."""
    with _holding(True):
        yield
    raise_if_asked()


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Undoes `held` for a part of its block that can be given up."""
    with _holding(False):
        raise_if_asked()
        yield


@contextlib.contextmanager
def _holding(value: bool) -> Iterator[None]:
    held_before, _Asked.held = _Asked.held, value
    # Outside of a command, as in a test, Python's own handlers come back.
    handlers = {number: signal.signal(number, _receive) for number in SIGNALS}
    try:
        yield
    finally:
        _Asked.held = held_before
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _receive(number: int, _frame: FrameType | None) -> None:
    if _Asked.number is None:
        _Asked.number = number
        if not _Asked.held:
            raise Stopped(number)


def _try_again(unraisable: Any) -> None:
    """Takes up a Stopped that was raised where Python drops it: while it collects garbage."""
    if isinstance(unraisable.exc_value, Stopped):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)


def _receive_again(_number: int, _frame: FrameType | None) -> None:
    if not _Asked.held:
        raise_if_asked()


def _watch(reader: int, leave: Callable[[int], None]) -> None:
    """Sees signals at once, also while the main thread is deep in C++."""
    first = os.read(reader, 1)[0]
    threading.Thread(target=_lose_patience, args=(first, leave), daemon=True).start()
    while os.read(reader, 1)[0] != signal.SIGINT:
        pass
    leave(signal.SIGINT)


def _lose_patience(number: int, leave: Callable[[int], None]) -> None:
    since_s = time.monotonic()
    while time.monotonic() - since_s < GRACE_S:
        time.sleep(0.1)
        if _Asked.held:
            since_s = time.monotonic()
    leave(number)
