"""The web application: answers requests about a run's paintings with JSON and pictures."""

import asyncio
import concurrent.futures
import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from painterjax.common.errors import InputError
from painterjax.data import images, raster
from painterjax.index import lookup
from painterjax.index.filters import Filters
from painterjax.pages import gallery, paintings_map
from painterjax.pages.server import is_local

PAGE = Path(__file__).parent / "static"
LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")
UPLOAD_BYTES = 32 * 2**20  # the largest image
UPLOAD_S = 30.0  # the longest upload
UPLOADS = 16  # in memory at once
THREADS = 2  # Each may need a gigabyte to decode an image of images.MAX_PIXELS.
K, MAX_K = 12, 100  # paintings to find
FILTERS = ("k", *(field.name for field in dataclasses.fields(Filters)))
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self';"
    b" img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    b" frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-cache",
}
# The key in a picture's URL changes with the store.
CACHED = "private, max-age=31536000, immutable"


def application(shown: gallery.Gallery, *, host: str) -> ASGIApp:
    """Returns the web application of a gallery, for requests to `host` only."""
    answers = Answers(shown)
    routes = [
        Route("/api/run", answers.run),
        Route("/api/map", answers.map),
        Route("/api/painting/{number}", answers.painting),
        Route("/api/doubtful", answers.doubtful),
        Route("/api/nearest", answers.nearest, methods=["POST"]),
        Route("/api/query", answers.query, methods=["POST"]),
        Route("/api/compare", answers.compare, methods=["POST"]),
        Route("/api/likeness", answers.likeness, methods=["POST"]),
        Route("/pictures/{key}/{name}.jpg", answers.picture),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    handlers: dict[Any, Callable[..., Response]] = {
        InputError: lambda _, error: _refusal(400, str(error)),
        images.FormatError: lambda _, error: _refusal(415, str(error)),
        images.ImageError: lambda _, error: _refusal(422, str(error)),
        HTTPException: lambda _, error: _refusal(error.status_code, error.detail, error.headers),
        ClientDisconnect: lambda _, error: _refusal(400, "the upload was interrupted"),
        Exception: lambda _, error: _refusal(500, "the server failed: see its log"),
    }
    # Otherwise another site's page could send requests from a local browser (DNS rebinding).
    allowed = LOCAL if is_local(host) else ("*",)
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=allowed, www_redirect=False)]
    return _with_headers(
        Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)
    )


class Answers:
    """The handlers of requests; computations run in a few threads, so that the server responds."""

    def __init__(self, shown: gallery.Gallery) -> None:
        self._gallery = shown
        self._key = shown.key()
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, "explore")
        self._uploads = asyncio.Semaphore(UPLOADS)
        points, self._sheet = paintings_map.of(shown)
        self._map = JSONResponse({**points, "sheet": self._url("map"), "key": self._key})
        self._summary = {**shown.summary(), "upload_bytes": UPLOAD_BYTES}

    async def run(self, request: Request) -> Response:
        """GET /api/run: the counts of the run's paintings, and the values to filter by."""
        return JSONResponse(self._summary)

    async def map(self, request: Request) -> Response:
        """GET /api/map: the places of paintings, and the sheet of their thumbnails."""
        return self._map

    async def picture(self, request: Request) -> Response:
        """GET /pictures/KEY/NUMBER.jpg or map.jpg: a painting, or the sheet of the map."""
        if request.path_params["key"] != self._key:
            raise HTTPException(404, "no such picture: load the page again")
        name = request.path_params["name"]
        data = self._sheet if name == "map" else await self._compute(lambda: self._jpeg(name))
        return Response(data, media_type="image/jpeg", headers={"cache-control": CACHED})

    async def painting(self, request: Request) -> Response:
        """GET /api/painting/NUMBER?FILTERS: the paintings nearest to a painting."""
        k, filters = _filters(request)
        number = request.path_params["number"]
        return JSONResponse(
            await self._compute(lambda: self._answer(self._from_index(number), k, filters))
        )

    async def doubtful(self, request: Request) -> Response:
        """GET /api/doubtful: the paintings that are likelier by others than catalogued."""
        count, found = await self._compute(lambda: self._gallery.doubtful)
        shown = [self._with_url(painting) for painting in found]
        return JSONResponse({"count": count, "doubtful": shown})

    async def query(self, request: Request) -> Response:
        """POST /api/query?FILTERS, with an image as body: the nearest paintings and artists."""
        k, filters = _filters(request)
        if filters.other_artists:
            raise HTTPException(400, "other_artists: the artist of an upload is unknown")
        async with self._uploads:
            data = await _body(request, limit=UPLOAD_BYTES)
            read = self._gallery.query_from_upload
            return JSONResponse(await self._compute(lambda: self._answer(read(data), k, filters)))

    async def nearest(self, request: Request) -> Response:
        """POST /api/nearest?first=COUNT&FILTERS: the paintings that come after the first ones.

        They are nearest to the painting ?number=NUMBER, or to the image in the body.
        """
        k, filters = _filters(request, ("number", "first"))
        first = _whole(request.query_params.get("first", "0"), "first", len(self._gallery.index))
        number = request.query_params.get("number")
        async with self._uploads:
            data = await _body(request, limit=UPLOAD_BYTES)

            def found() -> list[dict[str, Any]]:
                shown = self._gallery
                query = (
                    shown.query_from_upload(data) if number is None else self._from_index(number)
                )
                paintings = self._gallery.nearest(query, k, filters, first=first)
                return [self._with_url(painting) for painting in paintings]

            return JSONResponse({"nearest": await self._compute(found)})

    async def compare(self, request: Request) -> Response:
        """POST /api/compare: the distance of two pictures, and the probability of one artist.

        ?first=NUMBER and ?second=NUMBER are paintings of the run. A picture without a number is
        in the body; if both are, the first takes ?first_bytes=COUNT of it.
        """
        return await self._of_two(request, self._compare)

    async def likeness(self, request: Request) -> Response:
        """POST /api/likeness: where two pictures, given as to /api/compare, are alike.

        For each rows of shares from 0 to 255 over what the network sees.
        """
        return await self._of_two(request, self._likeness)

    async def _of_two(
        self, request: Request, answer: Callable[[lookup.Query, lookup.Query], dict[str, Any]]
    ) -> Response:
        _check_names(request, ("first", "second", "first_bytes"))
        numbers = [request.query_params.get(name) for name in ("first", "second")]
        async with self._uploads:
            data = await _body(request, limit=max(1, numbers.count(None)) * UPLOAD_BYTES)
            end = len(data)
            if numbers == [None, None]:
                end = _whole(request.query_params.get("first_bytes", ""), "first_bytes", len(data))
            parts = [data[:end], data[end:]] if numbers[0] is None else [b"", data]

            def answered() -> dict[str, Any]:
                read = self._gallery.query_from_upload
                first, second = (
                    read(part) if number is None else self._from_index(number)
                    for number, part in zip(numbers, parts, strict=True)
                )
                return answer(first, second)

            return JSONResponse(await self._compute(answered))

    async def _compute(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def _from_index(self, number: str) -> lookup.Query:
        return self._gallery.query_from_index(self._number(number))

    def _number(self, text: str) -> int:
        try:
            return _whole(text, "number", len(self._gallery.index) - 1)
        except InputError as error:
            raise HTTPException(404, f"no such painting: {error}") from error

    def _jpeg(self, number: str) -> bytes:
        return self._gallery.picture(self._number(number))

    def _answer(self, query: lookup.Query, k: int, filters: Filters) -> dict[str, Any]:
        answer = self._gallery.answer(query, k, filters)
        shown = {
            key: [self._with_url(each) for each in answer[key]] for key in ("nearest", "artists")
        }
        return {**answer, **shown, "query": self._describe(query)}

    def _likeness(self, first: lookup.Query, second: lookup.Query) -> dict[str, Any]:
        share_2xMxM = self._gallery.likeness(first, second)
        first_MxM, second_MxM = np.rint(255 * share_2xMxM).astype(int).tolist()
        return {"first": first_MxM, "second": second_MxM}

    def _compare(self, first: lookup.Query, second: lookup.Query) -> dict[str, Any]:
        pictures = {"first": self._describe(first), "second": self._describe(second)}
        return {**self._gallery.compare(first, second), **pictures}

    def _describe(self, query: lookup.Query) -> dict[str, Any]:
        """A query as the page shows it."""
        if query.entry is None:
            return {"image": raster.url_of_jpeg(query.picture)}
        return self._with_url(self._gallery.label(query.entry))

    def _with_url(self, painting: dict[str, Any]) -> dict[str, Any]:
        return {**painting, "image": self._url(painting["id"])}

    def _url(self, name: int | str) -> str:
        return f"/pictures/{self._key}/{name}.jpg"


async def _body(request: Request, *, limit: int) -> bytes:
    """The body of a request; refused if it is too large or too slow."""
    too_large = HTTPException(
        413, f"the upload is larger than {limit >> 20} MB: use a smaller image"
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 12 or int(declared) > limit:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise too_large
    except TimeoutError as error:
        reason = f"the upload took more than {UPLOAD_S:.0f} s: use a smaller image"
        raise HTTPException(408, reason, {"connection": "close"}) from error
    return bytes(data)


def _filters(request: Request, others: Collection[str] = ()) -> tuple[int, Filters]:
    """The number of paintings to find and what they must be; `others` are other parameters."""
    _check_names(request, [*FILTERS, *others])
    given = {key: text for key, text in request.query_params.items() if key not in others}
    values: dict[str, Any] = {key: text for key, text in given.items() if text}
    k = _whole(values.pop("k", str(K)), "k", MAX_K, least=1)
    if "other_artists" in values:
        values["other_artists"] = bool(_whole(values["other_artists"], "other_artists", 1))
    return k, Filters(**values)


def _check_names(request: Request, known: Collection[str]) -> None:
    for name in request.query_params:
        if name not in known:
            raise HTTPException(400, f"unknown parameter {name}: must be one of {', '.join(known)}")


def _whole(text: str, name: str, most: int, *, least: int = 0) -> int:
    if not text.isdecimal() or len(text) > 12 or not least <= int(text) <= most:
        raise InputError(f"{name} is {text[:40]!r}: must be a whole number from {least} to {most}")
    return int(text)


def _refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": reason}, status, headers)


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Adds HEADERS to every response that has no headers of these names."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = {**HEADERS, **dict(message["headers"])}
                message["headers"] = list(headers.items())
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped
