"""The cores of a Ray cluster in place of local processes; what a dying node was at is done again.

Every node needs painterjax, the same versions of what decodes, and the images under the same path.
"""

import collections
import functools
import importlib.metadata
import logging
import socket
from collections.abc import Callable, Generator, Iterable
from typing import Any

from painterjax.common import signals
from painterjax.common.errors import InputError, words_of

REMEDY = "give HOST:PORT at which `ray start --head` listens, as in 10.0.0.1:6379"
ANSWER_S = 5  # In which a cluster must answer.
AHEAD = 4  # Items submitted ahead per core; this bounds the memory.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"  # HTTP/2's, and no settings.
PACKAGES = ("painterjax", "pillow", "pillow-heif", "numpy", "imagehash")  # What makes the bytes.


class Cluster:
    """A Ray cluster to which this process is connected until it ends."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._task = ray.remote(_run_on_node)

    def ordered_map(
        self, function: Callable[[Any], Any], items: Iterable[Any]
    ) -> Generator[Any, None, None]:
        """Yields function(item) for each item, in order, computed by the cluster.

        Ray repeats a task whose node died, up to three times.

        Raises:
          InputError: a task failed, or a node has no painterjax or other versions.
          Stopped: the process got SIGINT or SIGTERM; its end ends the tasks.
        """
        flight = collections.deque()
        with signals.deferred():
            for item in items:
                flight.append(self._task.remote(_versions(), function, item))
                if len(flight) >= AHEAD * self._cores():
                    yield self._result(flight.popleft())
            while flight:
                yield self._result(flight.popleft())

    def _cores(self) -> int:
        """Of all nodes at this moment: clusters grow."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def _result(self, task: Any) -> Any:
        while not self._ray.wait([task], timeout=0.1)[0]:
            signals.raise_if_received()
        signals.raise_if_received()
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from error
            raise InputError(f"--ray: {words_of(error.cause)} on a node") from error
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"--ray: {reason}: run it again to continue") from error


def connect(address: str) -> Cluster:
    """Connects this process to a Ray cluster.

    Raises:
      InputError: Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray.exceptions  # Here, since it is an extra, and takes its time.
    except ImportError as error:
        raise InputError("--ray needs Ray: pip install 'painterjax[ray]'") from error
    try:
        _check_answer(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = words_of(error)[:300].rstrip(".") or "does not answer"
        raise InputError(f"--ray {address}: {reason}: {REMEDY}") from error
    signals.handle()
    return Cluster(ray)


def _check_answer(address: str) -> None:
    """Raises OSError or ValueError unless HTTP/2 is spoken there; Ray would try for a minute."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as connection:
        connection.sendall(HELLO)
        if connection.recv(9)[3:4] != b"\4":  # A server's first frame has its settings.
            raise ConnectionError("what listens there is not Ray")


def _run_on_node(versions: dict[str, str | None], function: Callable[[Any], Any], item: Any) -> Any:
    for name, found in _versions().items():
        if found != versions[name]:
            raise InputError(
                f"{socket.gethostname()} has {name} {found}, this machine has {versions[name]}:"
                " install the same on all nodes"
            )
    return function(item)


@functools.cache
def _versions() -> dict[str, str | None]:
    """The installed version of each package, or None."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = None
    return installed
