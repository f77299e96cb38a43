"""The web server in a thread of the test's own process."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from painterjax.pages import app


@contextlib.contextmanager
def serving(web_app: Any) -> Iterator[int]:
    """Serves an application until the block ends; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = app.server(web_app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
