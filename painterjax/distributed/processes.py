"""The processes that train together, on JAX's distributed runtime.

All take the same steps; the first one, the writer, also keeps the run folder. What they agree on
goes through the runtime's coordinator, which needs no device. What one refuses ends all alike, with
status 2. A process that dies ends the others within HEARTBEAT_S, and some seconds for the message.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from painterjax.common import cli, signals
from painterjax.common.config import changes
from painterjax.common.errors import InputError, PeerError
from painterjax.distributed import sharding

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
REMEDY = (
    "Slurm, Open MPI and, with pip install kubernetes, Kubernetes say it to JAX; elsewhere set"
    f" {', '.join(VARIABLES)} for each process, as in 10.0.0.1:1234, 2 and 0"
)
HEARTBEAT_S = 30  # Who is silent for as long is dead.
JOIN_S = 300
FOREVER_S = 7 * 24 * 3600  # Validation may take what it takes: the dead do not keep others waiting.
HEED_S = 1  # Who waits for others heeds a signal as often.
# What errors say where another process is gone: Gloo's on CPUs, NCCL's, and the coordinator's.
GONE = ("Gloo", "NCCL", "Barrier failed", "heartbeat", "oordination service", "Socket closed")
DIED = (
    "another process of the training died: run the same command again in all of them,"
    " it goes on from the last checkpoint"
)
LATE = f"not all processes came within {JOIN_S} s: start them together; {REMEDY}"


class _Now:
    """What a process that trains with others is in the middle of."""

    # Said, with an exit status, where JAX ends the process by abort().
    last_words: tuple[str, int] = ("", 1)
    meetings = 0  # so far; every process counts alike


def join() -> None:
    """Joins the other processes; to be called before JAX looks for devices.

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
    _Now.last_words = (LATE, cli.PEER_DIED)
    _libc().signal(signal.SIGABRT, _say_last_words)
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
    _Now.last_words = (DIED, cli.PEER_DIED)


def _check_port(address: str) -> None:
    """Refuses a port where the first process cannot listen; JAX may crash there."""
    try:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("", int(address.rpartition(":")[2])))
    except (OSError, OverflowError) as error:
        raise InputError(
            f"JAX_COORDINATOR_ADDRESS is {address!r}: the first process cannot listen at that port"
            f" ({error}): choose another"
        ) from error


def part() -> None:
    """Leaves the other processes once all of them are here."""
    if _is_joined():
        jax.distributed.shutdown()
        _libc().signal(signal.SIGABRT, None)


def leave(status: int) -> NoReturn:
    """Ends the process: at once if others train on, for whom JAX would wait."""
    if not _is_joined():
        sys.exit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def deaths_explained() -> Iterator[None]:
    """Turns what fails for want of another process into a PeerError, or into Stopped where told."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if not _is_joined() or not any(word in str(error) for word in GONE):
            raise
        signals.raise_if_asked()
        raise PeerError(DIED) from error


def is_writer() -> bool:
    """Returns whether this process is the one that keeps the run folder."""
    return distributed.global_state.process_id == 0


def share(value: Any) -> Any:
    """Returns the writer's value, which JSON can hold, when all processes have come to ask for it.

    However long that takes; at a device, Gloo gives up after half a minute.
    """
    if not _is_joined():
        return value
    client, key = _client(), _next_meeting()
    if is_writer():
        client.key_value_set(key, json.dumps(value))
    client.wait_at_barrier(key, 1000 * FOREVER_S)
    return json.loads(client.key_value_try_get(key))


@contextlib.contextmanager
def together() -> Iterator[dict[str, Any]]:
    """Ends a block alike in all processes, when all have come to its end.

    It is given a dict for what a process is about to do, which must be the same in all.

    Raises:
      InputError: a process, perhaps another, refused its input, or is about to do something else.
      Stopped: a process, perhaps another, was told to stop.
    """
    mine: dict[str, Any] = {}
    refusal, told = "", 0
    try:
        yield mine
    except (InputError, OSError, signals.Stopped) as error:
        if not _is_joined():  # Alone, or all have parted in a block within this one.
            raise
        if isinstance(error, signals.Stopped):
            told = error.number
        else:
            refusal = cli.reason(error) if isinstance(error, OSError) else str(error)
    if not _is_joined():
        return
    meeting, post = _next_meeting(), {"mine": mine, "refusal": refusal, "told": told}
    try:
        refusal, told = _verdict(meeting, post)
    except signals.Stopped as stopped:  # While it waited: the others may be about to hear of it.
        refusal, told = _verdict(meeting, {**post, "told": stopped.number})
    if refusal or told:
        part()
    if refusal:
        raise InputError(refusal)
    if told:
        signals.ask(told)
    signals.raise_if_asked()


def _verdict(meeting: str, post: dict[str, Any]) -> tuple[str, int]:
    """Posts how a process ended a block; returns what the writer makes of all posts."""
    state, client = distributed.global_state, _client()
    client.key_value_set(f"{meeting}/{state.process_id}", json.dumps(post), allow_overwrite=True)
    if is_writer():
        posts = [_wait_for(f"{meeting}/{place}") for place in range(state.num_processes)]
        client.key_value_set(f"{meeting}/verdict", json.dumps(_judge(posts)), allow_overwrite=True)
    return _wait_for(f"{meeting}/verdict")


def _judge(posts: list[dict[str, Any]]) -> tuple[str, int]:
    """Returns the refusal, or "", and the signal, or 0, that end all processes."""
    refusals = [post["refusal"] for post in posts]
    for place, refusal in enumerate(refusals):
        if refusal:
            alike = set(refusals) == {refusal}
            return refusal if alike else f"process {place}: {refusal}", 0
    if told := max(post["told"] for post in posts):
        return "", told
    for place, post in enumerate(posts):
        changed = changes(posts[0]["mine"], post["mine"])
        if changed:
            pairs = [f"{key} is {its}, not {first}" for key, (first, its) in changed.items()]
            return (
                f"process {place} would train otherwise than process 0 ({', '.join(pairs)}):"
                " give all processes the same recipe and store"
            ), 0
    return "", 0


def _wait_for(key: str) -> Any:
    """Returns what a process sets, however long that takes; a signal is heeded meanwhile."""
    while True:
        try:
            return json.loads(_client().blocking_key_value_get(key, 1000 * HEED_S))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _next_meeting() -> str:
    _Now.meetings += 1
    return f"painterjax/{_Now.meetings}"


def _client() -> Any:
    return distributed.global_state.client


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Gives every device of all processes the writer's arrays, bit for bit."""
    arrays = jax.tree.map(np.asarray, tree)
    if jax.process_count() > 1:
        raw = jax.tree.map(lambda x: np.frombuffer(x.tobytes(), np.uint8), arrays)
        raw = multihost_utils.broadcast_one_to_all(raw)
        arrays = jax.tree.map(
            lambda x, like: np.frombuffer(x.tobytes(), like.dtype).reshape(like.shape), raw, arrays
        )
    return sharding.replicate(mesh, arrays)


class Agreement:
    """By which signal a process was told to stop, as all processes learn it at the same step."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._strongest = jax.jit(jnp.max, out_shardings=sharding.replicated(mesh))
        self._asked: jax.Array | None = None

    def stop(self) -> int:
        """Returns the signal, or 0; with several processes what they knew a call ago.

        So nobody waits: the device has that answer when it has the step before.
        """
        if jax.process_count() == 1:
            return signals.asked()
        before, self._asked = self._asked, self._ask()
        return self._heed(before)

    def stop_now(self) -> int:
        """Returns the signal, or 0, when all processes, and so the writer, are here."""
        if jax.process_count() == 1:
            return signals.asked()
        share(None)
        self._asked = None
        return self._heed(self._ask())

    def _ask(self) -> jax.Array:
        mine = np.full(jax.local_device_count(), signals.asked(), np.int32)
        everyone = sharding.split_along(self._mesh, 0)
        return self._strongest(jax.make_array_from_process_local_data(everyone, mine))

    def _heed(self, asked: jax.Array | None) -> int:
        number = 0 if asked is None else int(asked)
        if number:
            signals.ask(number)
        return number


def _is_joined() -> bool:
    return jax.distributed.is_initialized()


def _libc() -> Any:
    return ctypes.CDLL(None)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _say_last_words(_number: int) -> None:
    """JAX's client ends the process by abort(), below what Python can catch."""
    words, status = _Now.last_words
    if number := signals.asked():  # As was the one that has left.
        words = f"{signals.WORDS[signal.Signals(number)]}; run it again to go on"
        status = cli.SIGNALED + number
    print(f"\n{signals.started_module()}: {words}", file=sys.stderr, flush=True)
    os._exit(status)
