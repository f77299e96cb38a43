"""The map over worker processes: its order, and what happens when a process dies."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from painterjax.common import process_pool
from painterjax.common.errors import InputError

HANG_S = 300  # Only ends a test that hangs.


def test_results_come_in_the_order_of_the_items():
    items = range(20)  # More than are submitted ahead.
    results = process_pool.ordered_map(functools.partial(pow, 2), items, workers=2)
    assert list(results) == [2**item for item in items]


@pytest.mark.parametrize(("function", "item"), [(os._exit, 1), (bytes, 2**62)])
def test_a_worker_that_dies_or_has_no_memory_is_an_input_error(function, item):
    with pytest.raises(InputError, match="--workers"):
        list(process_pool.ordered_map(function, [item], workers=1))


def test_a_map_that_is_left_early_leaves_neither_threads_nor_workers_behind():
    threads = set(threading.enumerate())
    results = process_pool.ordered_map(time.sleep, [0, 3600, 3600], workers=2)
    next(results)
    results.close()  # As at an exception, a stop included.
    assert set(threading.enumerate()) <= threads
    assert not multiprocessing.active_children()


WAITING = """
from painterjax.common import process_pool
for _ in process_pool.ordered_map(eval, ["0", "__import__('time').sleep(3600)"], workers=1):
    print("a worker runs", flush=True)
"""


TWICE = (
    """
from painterjax.common import signals
signals.watch("twice")
"""
    + WAITING
)


def test_a_second_interrupt_leaves_one_line_and_no_warning():
    command = [sys.executable, "-c", TWICE]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout and parent.stdout.readline()
        parent.send_signal(signal.SIGINT)
        time.sleep(0.02)  # Within the tenth of a second in which the first is seen.
        parent.send_signal(signal.SIGINT)
        # The pipes end when the last process that inherited them has ended.
        _, said = parent.communicate(timeout=HANG_S)
    assert (parent.returncode, said.strip()) == (
        130,
        "twice: interrupted; run it again to continue",
    )


def test_workers_end_with_a_killed_parent():
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout and parent.stdout.readline()
        parent.kill()
        # The pipe ends when the last process that inherited it has ended.
        assert parent.communicate(timeout=HANG_S)[0] == ""
