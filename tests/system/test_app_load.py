"""The web server under abuse: no leaks, no leftovers and no way out, whatever clients send."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from painterjax.data import images
from painterjax.pages import app, gallery
from painterjax.run.load import load_run
from tests.helpers import corpus, pages
from tests.helpers.pages import PATIENCE_S

CLIENTS, SECONDS = 64, 2.5
PATHS = (
    "/../explore.py", "/%2e%2e/explore.py", "/..%2fexplore.py", "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "//etc/passwd", "/pictures/../../etc/passwd", "/pictures/x/..%2f..%2fetc%2fpasswd.jpg",
    "/explore.js/../../explore.py", "/....//explore.py", "/..\\app.py", "/%00", "/a%00.js",
    "/api/painting/%2e%2e%2f0", "/api/painting/-1", "/api/painting/0x1", "/api/painting/\u0663",
    "/" + "a" * 5000, "/?" + "k=1&" * 2000, "/api/painting/0?k=1&k=2&artist=%00",
)  # fmt: skip
TYPES = ("text/plain", "application/json", "multipart/form-data; boundary=x", "image/png", "\xff",
         "application/x-python-pickle", "")  # fmt: skip


@contextlib.contextmanager
def serving(run: Path) -> Iterator[int]:
    """Serves a run's page; yields the port."""
    opened = gallery.open_gallery(load_run(run))
    with pages.serving(app.application(opened, host="127.0.0.1")) as port:
        yield port


@pytest.fixture(scope="module")
def port(run) -> Iterator[int]:
    with serving(run) as port:
        yield port


def _send(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """The server's answer until it closes the connection; may be empty."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(2**16):
                answer += part
        except TimeoutError:
            raise
        except OSError:
            pass  # The server has closed or reset the connection.
    return answer


def _request(line: str, body: bytes = b"", **headers: str) -> bytes:
    given = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": str(len(body))}
    given |= {key.replace("_", "-"): value for key, value in headers.items()}
    head = "".join(f"{key}: {value}\r\n" for key, value in given.items())
    return f"{line} HTTP/1.1\r\n{head}\r\n".encode("utf-8", "surrogateescape") + body


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_page(port, path):
    answer = _send(port, _request(f"GET {path}"))
    assert _status(answer) in (200, 400, 404, 414, 431)
    assert b"root:" not in answer
    assert b"import" not in answer  # of Python, in app.py
    assert b"Traceback" not in answer


@pytest.mark.parametrize("kind", TYPES)
def test_an_upload_is_what_its_bytes_are_whatever_its_type_says(port, kind):
    for name, status in (("png", 200), ("closed EPS", 415)):
        data = _request("POST /api/query", corpus.pictures()[name], Content_Type=kind)
        assert _status(_send(port, data)) in ((status, 400) if kind == "\xff" else (status,))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01" + bytes(200), b"G" * 200_000,
        b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_harms_nobody(port, data):
    answer = _send(port, data, half_close=True)
    assert answer == b"" or _status(answer) in range(200, 500)
    assert _status(_send(port, _request("GET /api/run"))) == 200


def _held() -> tuple[int, int]:
    """Threads and open files, without the threads of two pools that start them when needed.

    AnyIO's pool has at most 40, the page's app.THREADS.
    """
    names = [thread.name for thread in threading.enumerate()]
    threads = sum(not name.startswith(("AnyIO", "explore")) for name in names)
    return threads, len(os.listdir("/proc/self/fd"))


def _resident_bytes() -> int:
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


def _abuse(port: int, until: float, client: int) -> list[int]:
    """One client: good requests, malformed images, and uploads that it interrupts."""
    rng, whole, statuses = np.random.default_rng(client), corpus.pictures(), []
    while time.monotonic() < until or len(statuses) < 2:
        kind = rng.integers(4)
        if kind == 0:
            data = _request(f"GET /api/painting/{rng.integers(80)}")
        elif kind == 1:
            data = _request("POST /api/query", whole["png"])
        elif kind == 2:
            _, image = corpus.mutated(whole, seed=client, index=int(rng.integers(1000)))
            data = _request("POST /api/query", image)
        else:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
                connection.sendall(_request("POST /api/query", whole["png"])[:-100])
            continue
        statuses.append(_status(_send(port, data)))
    return statuses


def abuse(port: int, *, seconds: float) -> dict[str, float]:
    """Starts CLIENTS; returns the number of answers, and the threads and files left behind."""
    _abuse(port, time.monotonic() + 0.5, 0)  # warms up
    before, resident = _held(), _resident_bytes()
    with ThreadPoolExecutor(CLIENTS) as clients:
        until = time.monotonic() + seconds
        answers = list(clients.map(lambda c: _abuse(port, until, c), range(CLIENTS)))
    statuses = [status for some in answers for status in some]
    assert set(statuses) <= {200, 404, 415, 422}, set(statuses)
    deadline = time.monotonic() + PATIENCE_S
    while max(np.subtract(_held(), before)) > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    threads, files = np.subtract(_held(), before).tolist()
    grown = _resident_bytes() - resident
    return {"answers": len(statuses), "threads": threads, "files": files, "grown_bytes": grown}


@pytest.mark.slow
def test_sixty_four_abusive_clients_leave_nothing_behind(port):
    left = abuse(port, seconds=SECONDS)
    assert left["answers"] > CLIENTS
    assert max(left["threads"], left["files"]) <= 0
    # The allocator may keep the memory of one decoded image of the largest size.
    assert left["grown_bytes"] < 3 * images.MAX_PIXELS
    assert _status(_send(port, _request("GET /api/run"))) == 200
