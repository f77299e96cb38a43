"""The web page's server: questions about a run's paintings, answered as JSON and pictures."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from painterjax.common import signals
from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.pages import gallery

PAGE = Path(__file__).parent / "static"
LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")
UPLOAD_BYTES = 32 * 2**20  # of an image
UPLOAD_S = 30.0  # A client that is slower gives way to others.
UPLOADS = 16  # in memory at once
THREADS = 2  # Each may hold a picture of images.MAX_PIXELS, a gigabyte while it is decoded.
SHUTDOWN_S = 3
MOST_FOUND = 100
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self';"
    b" img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    b" frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-cache",
}
KEPT = "private, max-age=31536000, immutable"  # The key in a picture's URL names its store.


class _Server(uvicorn.Server):
    """Ends at a signal; uvicorn's own sends it again then, as if it were a second Ctrl-C."""

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
    """Returns what will serve the page."""
    config = uvicorn.Config(
        app, http="h11", ws="none", loop="asyncio", lifespan="off", log_level="warning",
        access_log=False, server_header=False, timeout_graceful_shutdown=SHUTDOWN_S,
    )  # fmt: skip
    return _Server(config)


def application(shown: gallery.Gallery, *, host: str) -> ASGIApp:
    """Returns the web application that shows a gallery to those who ask for `host`."""
    answers = Answers(shown)
    routes = [
        Route("/api/run", answers.run),
        Route("/api/map", answers.map),
        Route("/api/painting/{number}", answers.painting),
        Route("/api/query", answers.query, methods=["POST"]),
        Route("/api/compare", answers.compare, methods=["POST"]),
        Route("/pictures/{key}/{name}.jpg", answers.picture),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    handlers: dict[Any, Callable[..., Response]] = {
        InputError: lambda _, error: _refusal(400, str(error)),
        images.FormatError: lambda _, error: _refusal(415, str(error)),
        images.ImageError: lambda _, error: _refusal(422, str(error)),
        HTTPException: lambda _, error: _refusal(error.status_code, error.detail, error.headers),
        ClientDisconnect: lambda _, error: _refusal(400, "the upload was broken off"),
        Exception: lambda _, error: _refusal(500, "the server failed, and its log says why"),
    }
    # Another site's page could otherwise ask in the name of a local user (DNS rebinding).
    allowed = LOCAL if _is_local(host) else ("*",)
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=allowed, www_redirect=False)]
    return _with_headers(
        Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)
    )


class Answers:
    """Answers to requests: what computes runs in a few threads, so that the server stays awake."""

    def __init__(self, shown: gallery.Gallery) -> None:
        self._gallery = shown
        self._key = shown.store.info["sha256"]["images.npy"][:16]
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, "explore")
        self._uploads = asyncio.Semaphore(UPLOADS)
        points, sheet_HxWxC = shown.map()
        self._sheet = images.jpeg(sheet_HxWxC)
        columns = gallery.sheet_columns(len(points))
        self._map = {"points": points, "columns": columns, "sheet": self._url("map")}
        self._about = {**shown.about(), "upload_bytes": UPLOAD_BYTES}

    async def run(self, request: Request) -> Response:
        """GET /api/run: what the run has, and what one can filter by."""
        return JSONResponse(self._about)

    async def map(self, request: Request) -> Response:
        """GET /api/map: places of paintings, and the sheet of their thumbnails."""
        return JSONResponse(self._map)

    async def picture(self, request: Request) -> Response:
        """GET /pictures/KEY/NUMBER.jpg, or map.jpg: a painting, or the map's sheet."""
        if request.path_params["key"] != self._key:
            raise HTTPException(404, "there is no such picture: load the page again")
        name = request.path_params["name"]
        data = self._sheet if name == "map" else await self._compute(self._jpeg, name)
        return Response(data, media_type="image/jpeg", headers={"cache-control": KEPT})

    async def painting(self, request: Request) -> Response:
        """GET /api/painting/NUMBER?FILTERS: what hangs near a painting."""
        filters = _filters(request)
        return JSONResponse(
            await self._compute(self._ask, self._stored, request.path_params["number"], filters)
        )

    async def query(self, request: Request) -> Response:
        """POST /api/query?FILTERS, the image as body: what hangs near it, and whose style it is."""
        filters = _filters(request)
        if filters.other_artists:
            raise HTTPException(400, "other_artists: nobody knows whose an uploaded image is")
        async with self._uploads:
            data = await _body(request, limit=UPLOAD_BYTES)
            return JSONResponse(await self._compute(self._ask, self._brought, data, filters))

    async def compare(self, request: Request) -> Response:
        """POST /api/compare: how far two pictures are apart, and are they by one hand?

        ?first=NUMBER and ?second=NUMBER are paintings of the run. A picture without a number is
        in the body; of two, the first one has ?first_bytes=COUNT.
        """
        _check_names(request, ("first", "second", "first_bytes"))
        numbers = [request.query_params.get(name) for name in ("first", "second")]
        async with self._uploads:
            data = await _body(request, limit=max(1, numbers.count(None)) * UPLOAD_BYTES)
            end = len(data)
            if numbers == [None, None]:
                end = _whole(request.query_params.get("first_bytes", ""), "first_bytes", len(data))
            parts = [data[:end], data[end:]] if numbers[0] is None else [b"", data]
            return JSONResponse(await self._compute(self._compare, numbers, parts))

    async def _compute(self, function: Callable[..., Any], *args: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(function, *args))

    def _stored(self, number: str) -> gallery.Query:
        try:
            return self._gallery.stored(_whole(number, "number", len(self._gallery.index) - 1))
        except InputError as error:
            raise HTTPException(404, f"there is no such painting: {error}") from error

    def _brought(self, data: bytes) -> gallery.Query:
        return self._gallery.brought(data)

    def _jpeg(self, number: str) -> bytes:
        return images.jpeg(self._stored(number).image_SxSxC)

    def _ask(
        self, read: Callable[[Any], gallery.Query], what: Any, filters: gallery.Filters
    ) -> dict[str, Any]:
        query = read(what)
        answer = self._gallery.ask(query, filters)
        found = {kind: [self._linked(each) for each in some] for kind, some in answer.items()}
        return {"query": self._shown(query), **found}

    def _compare(self, numbers: list[str | None], parts: list[bytes]) -> dict[str, Any]:
        first, second = (
            self._brought(part) if number is None else self._stored(number)
            for number, part in zip(numbers, parts, strict=True)
        )
        shown = {"first": self._shown(first), "second": self._shown(second)}
        return {**self._gallery.compare(first, second), **shown}

    def _shown(self, query: gallery.Query) -> dict[str, Any]:
        """A query as the network sees it."""
        if query.entry is None:
            return {"image": images.jpeg_url(query.image_SxSxC)}
        return self._linked(gallery.label(query.entry))

    def _linked(self, painting: dict[str, Any]) -> dict[str, Any]:
        return {**painting, "image": self._url(painting["id"])}

    def _url(self, name: int | str) -> str:
        return f"/pictures/{self._key}/{name}.jpg"


async def _body(request: Request, *, limit: int) -> bytes:
    """An upload, which must neither be too large nor take too long."""
    too_large = HTTPException(413, f"the upload is larger than {limit >> 20} MB: shrink it")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > 12 or int(announced) > limit:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise too_large
    except TimeoutError as error:
        reason = f"the upload took more than {UPLOAD_S:.0f} s: shrink it"
        raise HTTPException(408, reason, {"connection": "close"}) from error
    return bytes(data)


def _filters(request: Request) -> gallery.Filters:
    _check_names(request, [field.name for field in dataclasses.fields(gallery.Filters)])
    values: dict[str, Any] = {key: text for key, text in request.query_params.items() if text}
    if "k" in values:
        values["k"] = _whole(values["k"], "k", MOST_FOUND, least=1)
    if "other_artists" in values:
        values["other_artists"] = bool(_whole(values["other_artists"], "other_artists", 1))
    return gallery.Filters(**values)


def _check_names(request: Request, known: Collection[str]) -> None:
    for name in request.query_params:
        if name not in known:
            raise HTTPException(400, f"{name} is none of {', '.join(known)}")


def _whole(text: str, name: str, most: int, *, least: int = 0) -> int:
    if not text.isdecimal() or len(text) > 12 or not least <= int(text) <= most:
        raise InputError(f"{name} is {text[:40]!r}: must be a whole number from {least} to {most}")
    return int(text)


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": reason}, status, headers)


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Adds HEADERS to every answer, where it has not its own."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = {**HEADERS, **dict(message["headers"])}
                message["headers"] = list(headers.items())
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped


def addresses(host: str, port: int) -> list[str]:
    """Where a browser finds the page; a host that stands for all of a machine's is no address."""
    try:
        is_any = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        is_any = False
    names = ["127.0.0.1", socket.gethostname()] if is_any else [host]
    return [f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
            for name in names]  # fmt: skip


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket, taken before any work is done."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        # create_server adds the address to what the system says; no name has a negative number.
        reason = (
            os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)
        )
        raise InputError(
            f"cannot listen on --host {host} --port {port} ({reason.lower()}): choose another"
        ) from error
