"""The processes that train together, on JAX's distributed runtime.

All take the same steps; process 0, the writer, also writes the run folder. A process that dies ends
the others with JAX's own error and a non-zero status within a minute; the launcher restarts them.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from painterjax.common import cli, signals
from painterjax.common.config import changes
from painterjax.common.errors import InputError, words_of

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
REMEDY = (
    "Slurm, Open MPI and, with pip install kubernetes, Kubernetes tell JAX; elsewhere set"
    f" {', '.join(VARIABLES)} for each process, as in 10.0.0.1:1234, 2 and 0"
)
HEARTBEAT_S = 30  # A process that is silent for as long is dead.
JOIN_S = 300
FOREVER_MS = 7 * 24 * 3600 * 1000  # Heartbeats tell who is dead; all others may take their time.

Terms = dict[str, Any]
T = TypeVar("T")


def join() -> None:
    """Joins the other processes; call it before JAX looks for devices.

    Raises:
      InputError: the environment does not say which processes there are.
    """
    address, count, place = (os.environ.get(name) for name in VARIABLES)
    if count is not None and not (count.isdecimal() and int(count)):
        raise InputError(f"JAX_NUM_PROCESSES is {count!r}: must be a whole number above 0")
    if place is not None and not (place.isdecimal() and int(place) < int(count or 2**31)):
        raise InputError(f"JAX_PROCESS_ID is {place!r}: must be below JAX_NUM_PROCESSES, {count}")
    if address is not None and not address.rpartition(":")[2].isdecimal():
        raise InputError(f"JAX_COORDINATOR_ADDRESS is {address!r}: must end in a port, as in :1234")
    if address is not None and place == "0":
        _check_port(address)
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count),
            process_id=None if place is None else int(place),
            initialization_timeout=JOIN_S,
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except (ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--distributed: {reason[:300].rstrip('.')}: {REMEDY}") from error
    if jax.default_backend() == "cpu":
        # As of jax 0.10.2 processes may wait for each other forever in a program of the cache.
        jax.config.update("jax_enable_compilation_cache", False)


def _check_port(address: str) -> None:
    """Refuses a port that process 0 cannot listen at; JAX 0.10.2 may crash there."""
    try:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("", int(address.rpartition(":")[2])))
    except (OSError, OverflowError) as error:
        raise InputError(
            f"JAX_COORDINATOR_ADDRESS is {address!r}: process 0 cannot listen at that port"
            f" ({words_of(error)}): choose another"
        ) from error


def is_writer() -> bool:
    """Returns whether this process writes the run folder."""
    return distributed.global_state.process_id == 0


def share() -> tuple[int, int]:
    """Returns which of how many processes this one is."""
    return distributed.global_state.process_id, distributed.global_state.num_processes


def agree(prepare: Callable[[], tuple[T, Terms]]) -> tuple[T, Terms]:
    """Prepares in every process: what one refuses, all refuse.

    Args:
      prepare: returns what this process continues with, and its terms, which JSON can hold. A term
        is the same in every process, or None where process 0 decides.

    Returns:
      What `prepare` returned here, and the terms of process 0.

    Raises:
      InputError: a process, perhaps another, refused its input or has other terms.
    """
    value, terms, refusal = None, {}, ""
    try:
        value, terms = prepare()
    except (InputError, OSError) as error:
        if not _is_joined():
            raise
        refusal = cli.reason(error) if isinstance(error, OSError) else str(error)
    if _is_joined():
        posts = _gather({"terms": terms, "refusal": refusal})
        if refusal := _first_refusal(posts):
            jax.distributed.shutdown()
            raise InputError(refusal)
        terms = posts[0]["terms"]
    return value, terms  # pyright: ignore[reportReturnType]


def of_writer(number: int) -> int:
    """Returns the writer's number in every process; all call it together."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def _gather(post: Any) -> list[Any]:
    """Every process's post, in their order."""
    state = distributed.global_state
    client: Any = state.client
    client.key_value_set(f"painterjax/{state.process_id}", json.dumps(post))
    keys = [f"painterjax/{place}" for place in range(state.num_processes)]
    return [json.loads(client.blocking_key_value_get(key, FOREVER_MS)) for key in keys]


def _first_refusal(posts: list[dict[str, Any]]) -> str:
    """Why the processes cannot train together, or ""."""
    refusals = [post["refusal"] for post in posts]
    if all(refusals) and len(set(refusals)) == 1:
        return refusals[0]
    for place, refusal in enumerate(refusals):
        if refusal:
            return f"process {place}: {refusal}"
    first = posts[0]["terms"]
    for place, post in enumerate(posts):
        own = {key: value for key, value in post["terms"].items() if value is not None}
        changed = changes({key: first[key] for key in own}, own)
        if changed:
            pairs = [f"{key} is {its}, not {was}" for key, (was, its) in changed.items()]
            return (
                f"process {place} and process 0 differ ({', '.join(pairs)}):"
                " give all processes the same recipe, store and --init-from"
            )
    return ""


class StopSignal:
    """Whether to stop: all processes get the same answer at the same call.

    Several processes ask JAX's preemption service, which hears of a SIGTERM to any of them. It
    answered 0.9 s after the signal, and a call takes 14 microseconds (two processes on two cores).
    """

    def __init__(self) -> None:
        self.is_set = False
        self._calls = 0
        self._is_passed_on = False

    def check(self) -> bool:
        """Returns whether to stop; every process calls it equally often."""
        if not _is_joined():
            self.is_set = bool(signals.received())
            return self.is_set
        if signals.received() and not self._is_passed_on:  # Ctrl-C: JAX hears of SIGTERM alone.
            self._is_passed_on = True
            signal.raise_signal(signal.SIGTERM)
        self._calls += 1
        self.is_set = multihost_utils.reached_preemption_sync_point(self._calls)
        return self.is_set


def take_back_sigterm() -> None:
    """Handles SIGTERM here again, after training, in which JAX passes it on."""
    if _is_joined():
        signals.handle()


def wait_for_all() -> None:
    """Waits until every process has come here, then parts from them."""
    if _is_joined():
        client: Any = distributed.global_state.client
        client.wait_at_barrier("painterjax/end", FOREVER_MS)
        jax.distributed.shutdown()


def leave(status: int) -> NoReturn:
    """Ends the process: at once if others train on, for whom JAX would wait."""
    if not _is_joined():
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _is_joined() -> bool:
    return jax.distributed.is_initialized()
