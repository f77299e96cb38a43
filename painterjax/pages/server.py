"""The web server: where it listens, and that a signal ends it."""

import contextlib
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from painterjax.common import signals
from painterjax.common.errors import InputError

SHUTDOWN_S = 3


class _Server(uvicorn.Server):
    """A server that ends at a signal; uvicorn's own raises the signal again when it has ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.signal(number, self.handle_exit) for number in signals.SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def server(app: ASGIApp) -> uvicorn.Server:
    """Returns the server of an application; its `run` serves until a signal."""
    config = uvicorn.Config(
        app, http="h11", ws="none", loop="asyncio", lifespan="off", log_level="warning",
        access_log=False, server_header=False, timeout_graceful_shutdown=SHUTDOWN_S,
    )  # fmt: skip
    return _Server(config)


def addresses(host: str, port: int) -> list[str]:
    """Returns the URLs of the page; 0.0.0.0 stands for every address of the machine."""
    try:
        is_any = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        is_any = False
    names = ["127.0.0.1", socket.gethostname()] if is_any else [host]
    return [f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
            for name in names]  # fmt: skip


def is_local(host: str) -> bool:
    """Returns whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket, before any work is done; raises InputError if it cannot."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        # create_server adds the address to its message; failed name lookups have negative numbers.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error.strerror)
        raise InputError(
            f"cannot listen on --host {host} --port {port} ({reason.lower()}): choose another"
        ) from error
