"""The web page of a tiny run: its answers, its refusals, and the page itself in a browser."""

import dataclasses
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from starlette.testclient import TestClient

from painterjax import explore, search
from painterjax.common.errors import InputError
from painterjax.data import catalog, store
from painterjax.index import lookup
from painterjax.pages import app, gallery
from painterjax.run import folder as run_folder
from painterjax.run.load import load_run
from tests.helpers.server import serving
from tests.helpers.tiny import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_S = 60  # for answers on a busy machine


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


def _png(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def painting(opened) -> bytes:
    """The store's painting 50, in test, as a file."""
    return _png(opened.picture_from_index(50).image_SxSxC)


def _bad_files() -> dict[str, tuple[bytes, int, str]]:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    return {
        "empty.png": (b"", 422, "empty"),
        "text.jpg": (b"no picture", 415, "not an image"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not an image"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "not an image"),
        "cut.png": (_png(noise)[:30_000], 422, "damaged"),
        "dot.png": (_png(noise[:8, :8]), 422, "8 x 8"),
        "bomb.png": (bomb.getvalue(), 422, "89478485"),
        "large.png": (_png(noise) + bytes(app.UPLOAD_BYTES), 413, "32 MB"),
    }


BAD_FILES = _bad_files()


# Answers


def test_a_painting_s_neighbors_are_those_of_search(run, client, tmp_path):
    for flags, given in (
        ([], ""),
        (["--other-artists"], "&other_artists=1"),
        (["--artist", "painter-001"], "&artist=painter-001"),
    ):
        path = tmp_path / "found.json"
        search.main(["--run", str(run), "--query", "50", "--k", "7", "--json", str(path), *flags])
        expected = json.loads(path.read_text())
        nearest = client.get(f"/api/painting/50?k=7{given}").json()["nearest"]
        assert len(expected) == 7
        for found, wanted in zip(nearest, expected, strict=True):
            shared = wanted.keys() - {"image"}
            assert {key: found[key] for key in shared} == {key: wanted[key] for key in shared}


def test_artists_are_ranked_by_their_nearest_painting(opened, client, monkeypatch):
    answer = client.get("/api/painting/50").json()
    emb_NxD = np.stack([opened.index.embedding(number) for number in range(len(opened.index))])
    distance_N = np.linalg.norm(emb_NxD - emb_NxD[50], axis=1)
    nearest: dict[str, int] = {}
    for number in np.argsort(distance_N)[1:].tolist():
        nearest.setdefault(opened.index.entry(number).painting.artist, number)
    assert len(nearest) == 8
    expected = list(nearest.items())[: gallery.ARTISTS]
    assert [(artist["artist"], artist["id"]) for artist in answer["artists"]] == expected
    probabilities = [artist["probability"] for artist in answer["artists"]]
    assert probabilities == sorted(probabilities, reverse=True)
    # The same where the first neighbors are by fewer artists.
    monkeypatch.setattr(gallery, "FETCHED", 1)
    few = opened.answer(opened.picture_from_index(50), 1, lookup.Filters())
    assert [(artist["artist"], artist["id"]) for artist in few["artists"]] == expected
    assert [painting["id"] for painting in few["nearest"]] == [answer["nearest"][0]["id"]]


def test_an_upload_finds_the_painting_that_it_is(client, painting):
    answer = client.post("/api/query", content=painting).json()
    assert answer["nearest"][0]["id"] == 50
    assert answer["nearest"][0]["distance"] < 1e-2
    assert answer["artists"][0]["id"] == 50
    assert answer["query"]["image"].startswith("data:image/jpeg;base64,")


def test_two_pictures_compare_alike_wherever_they_come_from(client, opened, painting):
    other = _png(opened.picture_from_index(3).image_SxSxC)
    expected = client.post("/api/compare?first=50&second=3").json()
    (found,) = [p for p in client.get("/api/painting/50?k=100").json()["nearest"] if p["id"] == 3]
    assert expected["distance"] == pytest.approx(found["distance"], abs=1e-4)
    for given, body in (
        ("first=50", other),
        ("second=3", painting),
        (f"first_bytes={len(painting)}", painting + other),
    ):
        answer = client.post(f"/api/compare?{given}", content=body).json()
        for key in ("distance", "probability"):
            assert answer[key] == pytest.approx(expected[key], abs=1e-2)
    assert client.post("/api/compare?first=50&second=50").json()["distance"] == 0


def test_pictures_are_the_store_s(client, opened):
    points = client.get("/api/map").json()
    test = opened.run.store.splits["test"]
    assert [point["artist"] for point in points["points"]] == [p.artist for p in test.paintings]
    assert all(0 <= point[axis] <= 1 for point in points["points"] for axis in "xy")
    for url in (points["sheet"], client.get("/api/painting/50").json()["query"]["image"]):
        answer = client.get(url)
        assert answer.headers["content-type"] == "image/jpeg"
        assert "immutable" in answer.headers["cache-control"]
    pixels = np.asarray(Image.open(io.BytesIO(answer.content))).astype(float)
    assert np.abs(pixels - opened.picture_from_index(50).image_SxSxC).mean() < 8
    for missing in ("/pictures/other/50.jpg", url.replace("50.jpg", "9999.jpg")):
        assert client.get(missing).status_code == 404


# Refusals


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_the_reason(client, name):
    data, status, reason = BAD_FILES[name]
    answer = client.post("/api/query", content=data)
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("method", "url", "status", "reason"),
    [
        ("GET", "/api/painting/999", 404, "no such painting"),
        ("GET", "/api/painting/" + 5000 * "9", 404, "no such painting"),
        ("GET", "/api/painting/../../etc/passwd", 404, ""),
        ("GET", "/api/painting/50?k=0", 400, "k is '0'"),
        ("GET", "/api/painting/50?k=many", 400, "k is 'many'"),
        ("GET", "/api/painting/50?sytle=Baroque", 400, "sytle"),
        ("GET", "/api/painting/50?style=nowhere", 400, "style 'nowhere'"),
        ("GET", "/api/painting/50?century=nowhere", 400, "century 'nowhere'"),
        ("POST", "/api/query?other_artists=1", 400, "other_artists"),
        ("POST", "/api/compare?first=50", 422, "empty"),
        ("POST", "/api/compare?first_bytes=9", 400, "first_bytes is '9'"),
        ("DELETE", "/api/run", 405, ""),
        ("GET", "/../explore.py", 404, ""),
        ("GET", "/%2e%2e/explore.py", 404, ""),
    ],
)
def test_wrong_requests_are_refused_with_the_reason(client, method, url, status, reason):
    answer = client.request(method, url)
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True), answer.text


def test_other_sites_get_nothing(client):
    assert client.get("/api/run", headers={"host": "elsewhere.example"}).status_code == 400
    for url in ("/", "/explore.js", "/api/run", "/nowhere"):
        headers = client.get(url).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_a_failure_of_the_server_is_answered_as_well(client, monkeypatch):
    monkeypatch.setattr(gallery.Gallery, "answer", lambda *_: 1 / 0)
    answer = client.get("/api/painting/50")
    assert (answer.status_code, answer.json().keys()) == (500, {"error"})
    assert "division" not in answer.text


def test_a_damaged_map_is_refused_with_what_to_do(opened, run):
    path = run / "index" / "map.npz"
    opened.map()
    whole = path.read_bytes()
    for damaged in (b"no map", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"map\.npz is damaged: delete it"):
            opened.map()
    path.write_bytes(whole)


# The server


@pytest.fixture(scope="module")
def address(web_app) -> Iterator[str]:
    with serving(web_app) as port:
        yield f"http://127.0.0.1:{port}/"


def test_sixty_four_clients_at_once_are_all_answered(address, painting):
    def ask(i: int) -> int:
        urls = (f"api/painting/{i % 64}", "api/query", "api/compare?first=3", "api/map")
        request = urllib.request.Request(address + urls[i % 4])
        if i % 4 in (1, 2):
            request.data = painting
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            json.load(answer)
            return answer.status

    with ThreadPoolExecutor(64) as clients:
        assert set(clients.map(ask, range(256))) == {200}


def test_slow_uploads_give_way(address, painting, monkeypatch):
    monkeypatch.setattr(app, "UPLOAD_S", 1.0)
    port = int(address.rstrip("/").rpartition(":")[2])
    head = b"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc"
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(app.UPLOADS)]
    for connection in slow:
        connection.sendall(head)
    request = urllib.request.Request(f"{address}api/query", painting)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.status == 200
    for connection in slow:
        with connection:
            assert b" 408 " in connection.recv(4096)


def test_an_announced_upload_is_refused_before_it_is_sent(address):
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(
            b"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n"
        )
        assert b" 413 " in connection.recv(4096)


def test_the_command_serves_until_it_is_interrupted(run):
    command = [sys.executable, "-m", "painterjax.explore", "--run", str(run), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line
        with urllib.request.urlopen(f"{address[0]}api/run", timeout=PATIENCE_S) as answer:
            assert json.load(answer)["paintings"] == 64
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, output.strip()) == (0, "explore: stopped")
        assert "Traceback" not in errors
        assert "go on" not in errors


def test_the_address_is_one_that_a_browser_can_open():
    everywhere = ["http://127.0.0.1:80/", f"http://{socket.gethostname()}:80/"]
    assert app.addresses("0.0.0.0", 80) == app.addresses("::", 80) == everywhere
    assert app.addresses("::1", 80) == ["http://[::1]:80/"]
    assert app.addresses("localhost", 80) == ["http://localhost:80/"]


def test_it_refuses_to_start_in_one_line(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("evaluation.json"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for argv, message in (
            (["--run", str(run), "--port", port], rf"--port {port} \(address already in use\)"),
            (["--run", str(tmp_path), "--port", "0"], f"no run at {tmp_path}"),
            (["--run", str(copy), "--port", "0"], r"calibration: .*painterjax\.evaluate --run"),
            (["--run", str(run), "--port", "65536"], "--port is 65536"),
            (["--run", str(run), "--port", "http"], "--port: .*'http'"),
            (["--run", str(run), "--host", "nowhere.invalid"], "--host nowhere.invalid"),
            ([], "--run"),
        ):
            with pytest.raises(InputError, match=message) as refusal:
                explore.main(argv)
            assert "\n" not in str(refusal.value)


# The page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        # Its sandbox refuses to run as root, as continuous integration does.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        expect.set_options(timeout=1000 * PATIENCE_S)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    """The page, which must neither fail nor send requests to anyone but the server."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * PATIENCE_S)
    troubles, requests = [], []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    expect(page.locator("#plane a")).to_have_count(16)
    yield page
    page.close()
    # Chromium reports every answer of 400 and above.
    assert [text for text in troubles if not text.startswith("Failed to load resource")] == []
    assert all(url.startswith((address, "data:")) for url in requests)


def _numbers(page: Page, list_id: str) -> list[int]:
    links = page.locator(f"#{list_id} a").all()
    return [int((link.get_attribute("href") or "").rpartition("-")[2]) for link in links]


def test_the_map_leads_to_a_painting_s_neighbors(page, client):
    page.locator("#plane a[data-id='50']").dispatch_event("click")
    page.locator("#plane a[data-id='50']").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#nearest li")).to_have_count(12)
    answer = client.get("/api/painting/50").json()
    assert _numbers(page, "nearest") == [painting["id"] for painting in answer["nearest"]]
    assert _numbers(page, "artists") == [painting["id"] for painting in answer["artists"]]
    first = answer["nearest"][0]
    text = page.locator("#nearest li").first.inner_text()
    assert f"{first['distance']:.3f}, {100 * first['probability']:.0f} %" in text
    assert first["artist"] in text
    expect(page.locator("#status")).to_contain_text(answer["query"]["artist"])
    expect(page.locator("#plane a.chosen")).to_have_count(1)
    on_map = sum(painting["split"] == "test" for painting in answer["nearest"])
    expect(page.locator("#plane a.near")).to_have_count(on_map)
    for image in page.locator("#found img").all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    page.locator("#nearest a").first.click()
    expect(page.locator("#query")).to_contain_text(first["artist"])
    page.wait_for_url(f"**/#painting-{first['id']}")
    expect(page.locator("#answer")).to_be_focused()  # The focused element was replaced.
    page.go_back()
    expect(page.locator("#query")).to_contain_text(answer["query"]["file"])


def test_the_filters_are_those_of_search(page, address, client):
    page.goto(f"{address}#painting-50")
    page.reload()
    expect(page.locator("#nearest li")).to_have_count(12)
    expect(page.locator("[name=style]")).to_be_hidden()  # No style is known.
    own = client.get("/api/painting/50").json()["query"]["artist"]
    page.locator("[name=other_artists]").check()
    expect(page.locator("#artists")).not_to_contain_text(own)
    expected = client.get("/api/painting/50?other_artists=1").json()["nearest"]
    assert _numbers(page, "nearest") == [painting["id"] for painting in expected]
    page.locator("[name=artist]").select_option(own)
    expect(page.locator("#status")).to_have_text("No painting fits these filters.")
    page.locator("[name=other_artists]").uncheck()
    expect(page.locator("#nearest li")).to_have_count(7)
    expect(page.locator("#artists li")).to_have_count(1)


@pytest.fixture(scope="module")
def styled(run, tmp_path_factory) -> Iterator[str]:
    """The address of a page of the same paintings, most of them with a style and a date."""
    copy, data = (tmp_path_factory.mktemp("styled") / name for name in ("run", "store"))
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("index*", "embeddings"))
    config = run_folder.read_config(run)
    shutil.copytree(config.data.store, data)
    rows = catalog.from_csv((data / "paintings.csv").read_text())
    known = [
        dataclasses.replace(
            row.painting, style=("Rococo", "Cubism", "")[i % 3], date=str(1650 + 5 * i)
        )
        for i, row in enumerate(rows)
    ]
    styled_rows = [catalog.Row(row.split, p) for row, p in zip(rows, known, strict=True)]
    (data / "paintings.csv").write_text(catalog.to_csv(styled_rows))
    info = json.loads((data / "dataset.json").read_text())
    store.write_info(data, {key: value for key, value in info.items() if key != "sha256"})
    shutil.copy(data / "dataset.json", copy)
    config.data.store = str(data)
    (copy / "config.json").write_text(json.dumps(config.to_dict()))
    styled_app = app.application(gallery.open_gallery(load_run(copy)), host="127.0.0.1")
    with serving(styled_app) as port:
        yield f"http://127.0.0.1:{port}/"


def test_styles_and_centuries_filter_where_they_are_known(browser, styled):
    page = browser.new_page()
    page.goto(f"{styled}#painting-50")
    expect(page.locator("#nearest li")).to_have_count(12)
    options = {
        name: page.locator(f"[name={name}] option").all_inner_texts()
        for name in ("style", "century")
    }
    assert options["style"] == ["any", "Cubism", "Rococo"]
    assert options["century"] == ["any", "1601-1700", "1701-1800", "1801-1900", "1901-2000"]
    page.locator("[name=style]").select_option("Cubism")
    expect(page.locator("#nearest .caption span:text-is('Cubism')")).to_have_count(12)
    page.locator("[name=century]").select_option("1601-1700")
    # The dates of paintings 1, 4, 7 and 10.
    expect(page.locator("#nearest li")).to_have_count(4)
    assert sorted(_numbers(page, "nearest")) == [1, 4, 7, 10]
    for number in (1, 4, 7, 10):
        expect(page.locator("#nearest")).to_contain_text(str(1650 + 5 * number))
    page.locator("[name=style]").select_option("")
    expect(page.locator("#nearest li")).to_have_count(11)
    page.close()


def test_an_upload_and_a_drop_are_answered_alike(page, painting, client, tmp_path):
    path = tmp_path / "mine.png"
    path.write_bytes(painting)
    page.get_by_label("Drop an image here").first.set_input_files(path)
    expect(page.locator("#status")).to_contain_text("mine.png")
    expected = client.post("/api/query", content=painting).json()
    assert _numbers(page, "artists") == [artist["id"] for artist in expected["artists"]]
    share = f"{100 * expected['artists'][0]['probability']:.0f} %"
    expect(page.locator("#artists li").first).to_contain_text(share)
    expect(page.locator("[name=other_artists]")).to_be_disabled()
    _drop(page, "#drop", "dropped.png", painting)
    expect(page.locator("#status")).to_contain_text("dropped.png")
    assert _numbers(page, "nearest") == [painting["id"] for painting in expected["nearest"]]


def _drop(page: Page, where: str, name: str, data: bytes) -> None:
    page.evaluate(
        """([where, name, bytes]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([new Uint8Array(bytes)], name));
          document.querySelector(where).dispatchEvent(
            new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
        }""",
        [where, name, list(data)],
    )


def test_every_bad_file_is_explained(page, painting, tmp_path):
    for name, (data, _, reason) in BAD_FILES.items():
        (tmp_path / name).write_bytes(data)
        page.locator("#file").set_input_files(tmp_path / name)
        expect(page.get_by_role("alert").first).to_contain_text(name)
        expect(page.get_by_role("alert").first).to_contain_text(reason)
    page.locator("#first").set_input_files(tmp_path / "text.jpg")
    expect(page.locator("#pair-error")).to_contain_text("text.jpg: not an image")
    _drop(page, "#drop", "good.png", painting)
    expect(page.locator("#status")).to_contain_text("good.png")
    expect(page.locator("#error")).to_be_empty()


def test_two_pictures_are_compared(page, painting, opened, client, tmp_path):
    page.locator("#plane a[data-id='60']").dispatch_event("click")
    expect(page.locator("#nearest li")).to_have_count(12)
    page.get_by_role("button", name="Use the chosen picture as first").click()
    expect(page.locator("[data-side=first] img")).to_have_count(1)
    expect(page.locator("#verdict")).to_be_empty()
    for name, data in (
        ("b.png", painting),
        ("a.png", _png(opened.picture_from_index(3).image_SxSxC)),
    ):
        (tmp_path / name).write_bytes(data)
    page.locator("#second").set_input_files(tmp_path / "b.png")
    for given in ("first=60&second=50", "first=3&second=50"):
        expected = client.post(f"/api/compare?{given}").json()
        words = f"Distance {expected['distance']:.2f}"
        expect(page.locator("#verdict")).to_contain_text(words)
        expect(page.locator("#verdict")).to_contain_text(f"{100 * expected['probability']:.0f} %")
        page.locator("#first").set_input_files(tmp_path / "a.png")


def _reached_by_arrows(page) -> int:
    """The number of paintings that the arrow keys reach from the focused one."""
    focused = "document.activeElement.dataset.id"
    waiting = [page.evaluate(focused)]
    reached = set(waiting)
    while waiting:
        start = waiting.pop()
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
            page.locator(f"#plane a[data-id='{start}']").focus()
            page.keyboard.press(key)
            came_to = page.evaluate(focused)
            waiting += {came_to} - reached
            reached.add(came_to)
    return len(reached)


def test_the_keyboard_is_enough(page):
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    for _ in range(4):
        page.keyboard.press("Tab")  # zoom in, the name, the link past the map, the map
    assert page.evaluate("document.activeElement.parentElement.id") == "plane"
    assert _reached_by_arrows(page) == page.locator("#plane a").count()
    name = page.evaluate("document.activeElement.ariaLabel")
    assert name.startswith("painter-")
    expect(page.locator("#under")).to_have_text(name)
    width = "document.getElementById('plane').clientWidth"
    before = page.evaluate(width)
    page.keyboard.press("+")
    assert page.evaluate(width) == pytest.approx(2 * before, abs=40)
    page.keyboard.press("-")
    assert page.evaluate(width) == before
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text(name)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Tab")
    expect(page.locator("[name=artist]")).to_be_focused()


def test_a_painting_of_the_map_is_found_by_its_name(page, client):
    points = client.get("/api/map").json()["points"]
    wanted = points[-1]  # not the first of its artist: its name has the number added
    assert [p["artist"] for p in points].index(wanted["artist"]) < len(points) - 1
    expect(page.locator("#names option")).to_have_count(len(points))
    field = page.get_by_label("Find by title or artist")
    for text, number in (
        (f"{wanted['artist']} ({wanted['id']})", wanted["id"]),
        (points[0]["artist"].upper(), points[0]["id"]),
    ):
        field.fill(text)
        field.press("Enter")
        page.wait_for_url(f"**/#painting-{number}")
        expect(page.locator("#plane a.chosen")).to_have_attribute("data-id", str(number))
    field.fill("nobody")
    field.press("Enter")
    expect(page.locator("#unknown")).not_to_be_empty()
    field.fill("")
    field.press("Enter")
    expect(page.locator("#unknown")).to_be_empty()


def test_the_whole_map_stays_visible_beside_a_long_answer(page):
    page.locator("#plane a").first.dispatch_event("click")
    expect(page.locator("#nearest li")).to_have_count(12)
    page.evaluate("scrollTo({top: 600, behavior: 'instant'})")
    assert page.evaluate("scrollY") > 300
    expect(page.locator("#choose .legend")).to_be_in_viewport(ratio=1)


def test_the_map_keeps_the_chosen_painting_visible(page, client):
    points = sorted(client.get("/api/map").json()["points"], key=lambda point: point["x"])
    for point, key in ((points[0], "+++"), (points[-1], "-")):
        link = page.locator(f"#plane a[data-id='{point['id']}']")
        page.goto(f"{page.url.partition('#')[0]}#painting-{point['id']}")
        expect(link).to_have_class(re.compile("chosen"))
        _assert_within(link, page.locator("#map"))
        for _ in key:
            page.locator("#larger" if key[0] == "+" else "#smaller").click()
            _assert_within(link, page.locator("#map"))


def _assert_within(inner: Locator, outer: Locator) -> None:
    small, large = inner.bounding_box(), outer.bounding_box()
    assert small and large
    for side, length in (("x", "width"), ("y", "height")):
        assert large[side] <= small[side] + 1
        assert small[side] + small[length] <= large[side] + large[length] + 1


def test_everything_has_a_name_for_screen_readers(page):
    page.locator("#plane a").first.dispatch_event("click")
    expect(page.locator("#nearest li")).to_have_count(12)
    tree = page.locator("body").aria_snapshot()
    for landmark in ("banner", "main", "contentinfo", 'region "Similar paintings"', "status"):
        assert landmark in tree
    for role in ("link", "button", "img", "combobox", "checkbox", "region", "group"):
        assert re.search(rf"^ *- '?{role}(:| \[|$)", tree, re.MULTILINE) is None, f"{role}: no name"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_all_of_it_light_or_dark(page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 360, "height": 640})
    page.locator("#plane a").first.click(force=True)
    expect(page.locator("#nearest li")).to_have_count(12)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator("#status")).to_be_in_viewport()
    colors = page.evaluate(
        """[".note", "#status", ".error", "#about"].map((name) => {
          const style = getComputedStyle(document.querySelector(name));
          return [style.color, getComputedStyle(document.body).backgroundColor];
        })"""
    )
    for pair in colors:
        assert _contrast(*pair) >= 4.5, pair


def _contrast(*colors: str) -> float:
    """The contrast of two colors, as WCAG 2 defines it."""
    lights = []
    for color in colors:
        value_3 = np.array([int(part) for part in re.findall(r"\d+", color)[:3]]) / 255
        linear_3 = np.where(value_3 <= 0.04045, value_3 / 12.92, ((value_3 + 0.055) / 1.055) ** 2.4)
        lights.append(linear_3 @ (0.2126, 0.7152, 0.0722) + 0.05)
    return max(lights) / min(lights)


def test_a_server_that_has_stopped_is_reported(browser, web_app):
    with serving(web_app) as port:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#plane a")).to_have_count(16)
    page.locator("#plane a").first.dispatch_event("click")
    expect(page.locator("#error")).to_contain_text("server does not answer")
    page.close()
