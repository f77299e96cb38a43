"""The gallery of a tiny run, its web application and its server."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from painterjax.pages import app, gallery
from painterjax.run.load import load_run
from tests.helpers.pages import png, serving, square


@pytest.fixture(scope="module")
def opened(run) -> gallery.Gallery:
    return gallery.open_gallery(load_run(run))


@pytest.fixture(scope="module")
def web_app(opened) -> Any:
    return app.application(opened, host="127.0.0.1")


@pytest.fixture(scope="module")
def client(web_app) -> Iterator[TestClient]:
    with TestClient(web_app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def address(web_app) -> Iterator[str]:
    with serving(web_app) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def painting(opened) -> bytes:
    """The store's painting 50, in test, as a file."""
    return png(square(opened, 50))
