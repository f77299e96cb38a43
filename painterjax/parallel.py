"""A map over worker processes: in order, in bounded memory, safe to interrupt."""

import collections
import concurrent.futures.process
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from painterjax.errors import InputError

AHEAD = 4  # Items in flight per worker; what bounds the memory.


def ordered_map(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator:
    """Yields function(item) for each item, in order, computed by `workers` processes.

    Raises:
      InputError: a worker died.
      KeyboardInterrupt: the user pressed Ctrl-C; what was yielded is whole.
    """
    # Spawned workers start clean; forked ones would copy the locks of threads that run here.
    context = multiprocessing.get_context("spawn")
    flight = collections.deque()
    with (
        _ctrl_c_held_back() as interrupted,
        concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker) as pool,
    ):
        try:
            for item in items:
                flight.append(_submit(pool, function, item))
                if len(flight) >= AHEAD * workers:
                    yield _result(flight.popleft(), interrupted)
            while flight:
                yield _result(flight.popleft(), interrupted)
        except concurrent.futures.process.BrokenProcessPool as error:
            raise InputError("a worker died, perhaps of memory: use fewer --workers") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def _ctrl_c_held_back() -> Iterator[threading.Event]:
    """Sets an event on Ctrl-C: a KeyboardInterrupt within the executor can lock it for ever."""
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _submit(
    pool: concurrent.futures.Executor, function: Callable[[Any], Any], item: Any
) -> concurrent.futures.Future:
    # A worker that starts here inherits the mask: a terminal sends Ctrl-C to it as well.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, item)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _result(future: concurrent.futures.Future, interrupted: threading.Event) -> Any:
    while not concurrent.futures.wait([future], timeout=0.1).done or interrupted.is_set():
        if interrupted.is_set():
            raise KeyboardInterrupt
    return future.result()


def _start_worker() -> None:
    """Lets a worker end when its parent was killed; it would wait for work for ever."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"
    parent.join()
    os._exit(1)
