"""A map over worker processes: ordered, in bounded memory, safe to interrupt."""

import collections
import concurrent.futures.process
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from multiprocessing.process import BaseProcess
from typing import Any

from painterjax.common import ray_pool, signals
from painterjax.common.errors import InputError

QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"
AHEAD = 4  # Items submitted ahead per worker; this bounds the memory.

Workers = int | ray_pool.Cluster  # That many processes of this machine, or the cores of a cluster.


def ordered_map(
    function: Callable[[Any], Any], items: Iterable[Any], workers: Workers
) -> Generator[Any, None, None]:
    """Yields function(item) for each item, in order, computed by `workers`.

    Raises:
      InputError: a worker died, or ran out of memory.
      Stopped: the process got SIGINT or SIGTERM.
    """
    if isinstance(workers, ray_pool.Cluster):
        yield from workers.ordered_map(function, items)
        return
    # A forked worker would inherit locks held by this process's other threads; a spawned one does
    # not.
    context = multiprocessing.get_context("spawn")
    # After a second Ctrl-C Python's resource tracker removes what is left, and would warn of it.
    sys.warnoptions[:] = dict.fromkeys([*sys.warnoptions, QUIET_TRACKER])
    flight = collections.deque()
    others = multiprocessing.active_children()
    # An exception that a signal raises inside the executor can deadlock it. The executor ends
    # outside, where a second signal and the time limit of a stop count.
    with (
        concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker) as pool,
        signals.deferred(),
    ):
        try:
            for item in items:
                flight.append(_submit(pool, function, item))
                if len(flight) >= AHEAD * workers:
                    yield _result(flight.popleft())
            while flight:
                yield _result(flight.popleft())
        except concurrent.futures.process.BrokenProcessPool as error:
            signals.raise_if_received()  # Some supervisors send SIGTERM to workers as well.
            raise InputError("a worker died, perhaps of memory: use fewer --workers") from error
        except MemoryError as error:
            _kill_workers(others)
            raise InputError("a worker ran out of memory: use fewer --workers") from error
        except BaseException:
            _kill_workers(others)
            raise


def _submit(
    pool: concurrent.futures.Executor, function: Callable[[Any], Any], item: Any
) -> concurrent.futures.Future:
    # A terminal sends Ctrl-C to the workers too; one that starts here inherits the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, item)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _result(future: concurrent.futures.Future) -> Any:
    while not concurrent.futures.wait([future], timeout=0.1).done:
        signals.raise_if_received()
    signals.raise_if_received()
    return future.result()


def _kill_workers(others: list[BaseProcess]) -> None:
    """Kills the workers but no other child: one that still imports takes seconds to end itself."""
    for process in multiprocessing.active_children():
        if process not in others:
            process.kill()


def _start_worker() -> None:
    """Makes a worker exit when its parent is killed; otherwise it would wait for work forever."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a worker"
    parent.join()
    os._exit(1)
