"""The web server in a thread of the test's own process, and files that it refuses."""

import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from painterjax.pages import app, gallery
from painterjax.pages import server as web_server

PATIENCE_S = 60  # for answers on a busy machine


@contextlib.contextmanager
def serving(web_app: Any) -> Iterator[int]:
    """Serves an application until the block ends; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = web_server.server(web_app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def square(shown: gallery.Gallery, number: int) -> np.ndarray:
    """Returns a painting of a run's store as the network sees it."""
    entry = shown.index.entry(number)
    return shown.run.store.splits[entry.origin["split"]].image_NxSxSxC[entry.position]


def png(image: np.ndarray | Image.Image) -> bytes:
    """Returns a picture as a PNG file."""
    data = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(data, "PNG")
    return data.getvalue()


def bad_files() -> dict[str, tuple[bytes, int, str]]:
    """Returns files by name, with the status of the answer and a part of the reason."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    return {
        "empty.png": (b"", 422, "empty"),
        "text.jpg": (b"no picture", 415, "not an image"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not an image"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "not an image"),
        "cut.png": (png(noise)[:30_000], 422, "damaged"),
        "dot.png": (png(noise[:8, :8]), 422, "8 x 8"),
        "bomb.png": (png(Image.new("1", (20_000, 20_000))), 422, "89478485"),
        "large.png": (png(noise) + bytes(app.UPLOAD_BYTES), 413, "32 MB"),
    }
