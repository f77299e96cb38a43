"""The web page of a tiny run in a browser."""

import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks import page as benchmark
from painterjax.pages import app, gallery, tsne
from painterjax.run.load import load_run
from tests.helpers.pages import PATIENCE_S, bad_files, png, serving, square

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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
    expect(page.locator("#map")).to_have_attribute("data-drawn", "64")
    yield page
    page.close()
    # Chromium reports every answer of 400 and above.
    assert [text for text in troubles if not text.startswith("Failed to load resource")] == []
    assert all(url.startswith((address, "data:")) for url in requests)


def _choose(page: Page, number: int) -> None:
    page.evaluate(f"location.hash = '#painting-{number}'")
    expect(page.locator("#nearest li")).to_have_count(12)


def _pixels(page: Page, kind: str) -> int:
    """The number of pixels of the map that have the color of a mark."""
    return page.evaluate(
        """(kind) => {
          const canvas = document.getElementById("map");
          const pen = new OffscreenCanvas(1, 1).getContext("2d");
          pen.fillStyle = getComputedStyle(canvas).getPropertyValue(`--${kind}`);
          pen.fillRect(0, 0, 1, 1);
          const wanted = pen.getImageData(0, 0, 1, 1).data;
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
          copy.drawImage(canvas, 0, 0);
          const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
          let count = 0;
          for (let i = 0; i < data.length; i += 4) {
            count += [0, 1, 2].every((c) => data[i + c] === wanted[c]);
          }
          return count;
        }""",
        kind,
    )


def _numbers(page: Page, list_id: str) -> list[int]:
    links = page.locator(f"#{list_id} a").all()
    return [int((link.get_attribute("href") or "").rpartition("-")[2]) for link in links]


def test_the_map_leads_to_a_painting_s_neighbors(page, client):
    _choose(page, 50)
    expect(page.locator("#query")).to_contain_text("painter-")
    answer = client.get("/api/painting/50").json()
    assert _numbers(page, "nearest") == [painting["id"] for painting in answer["nearest"]]
    assert _numbers(page, "artists") == [painting["id"] for painting in answer["artists"]]
    first = answer["nearest"][0]
    text = page.locator("#nearest li").first.inner_text()
    assert f"{first['distance']:.3f}" in text
    shares = [
        share.removesuffix(" %") for share in page.locator("#artists .share").all_inner_texts()
    ]
    assert len(shares) == gallery.ARTISTS + 2
    # Each is rounded, or says that it is below 1 %.
    assert abs(sum(float(share.strip("<> ")) for share in shares) - 100) <= len(shares)
    expect(page.locator("#artists li").last).to_contain_text("Someone else")
    assert ("artist seen in training" in text) == first["seen"]
    expect(page.locator("#about")).to_contain_text("by 2 artists never seen in training.")
    assert first["artist"] in text
    expect(page.locator("#status")).to_contain_text(answer["query"]["artist"])
    for kind in ("chosen", "near", "same"):
        assert _pixels(page, kind) > 0, kind
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
    expect(page.locator("#artists li a")).to_have_count(1)


def test_styles_and_centuries_filter_where_they_are_known(page, address, client):
    known = {"styles": ["Cubism", "Rococo"], "centuries": ["1601-1700", "1701-1800"]}
    summary = {**client.get("/api/run").json(), **known}
    page.route("**/api/run", lambda route: route.fulfill(json=summary))
    page.goto(f"{address}#painting-50")
    page.reload()
    expect(page.locator("#nearest li")).to_have_count(12)
    for name, values in zip(("style", "century"), known.values(), strict=True):
        select = page.locator(f"[name={name}]")
        assert select.locator("option").all_inner_texts() == ["any", *values]
        with page.expect_request(re.compile(f"/api/painting/50.*{name}={values[1]}")):
            select.select_option(values[1])


def test_an_upload_and_a_drop_are_answered_alike(page, painting, client, tmp_path):
    path = tmp_path / "mine.png"
    path.write_bytes(painting)
    page.get_by_label("Drop an image here").first.set_input_files(path)
    expect(page.locator("#status")).to_contain_text("mine.png")
    expected = client.post("/api/query", content=painting).json()
    assert _numbers(page, "artists") == [artist["id"] for artist in expected["artists"]]
    share = f"{100 * expected['someone_else']:.0f} %"
    expect(page.locator("#artists li").last).to_contain_text(share)
    expect(page.locator("[name=other_artists]")).to_be_disabled()
    _drop(page, "dropped.png", painting)
    expect(page.locator("#status")).to_contain_text("dropped.png")
    assert _numbers(page, "nearest") == [painting["id"] for painting in expected["nearest"]]


def _drop(page: Page, name: str, data: bytes) -> None:
    transfer = page.evaluate_handle(
        """([name, bytes]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], name));
          return transfer;
        }""",
        [name, list(data)],
    )
    page.locator("#drop").dispatch_event("drop", {"dataTransfer": transfer})


def test_every_bad_file_is_explained(page, painting, tmp_path):
    for name, (data, _, reason) in bad_files().items():
        (tmp_path / name).write_bytes(data)
        page.locator("#file").set_input_files(tmp_path / name)
        expect(page.get_by_role("alert").first).to_contain_text(name)
        expect(page.get_by_role("alert").first).to_contain_text(reason)
    page.locator("#first").set_input_files(tmp_path / "text.jpg")
    expect(page.locator("#pair-error")).to_contain_text("text.jpg: not an image")
    _drop(page, "good.png", painting)
    expect(page.locator("#status")).to_contain_text("good.png")
    expect(page.locator("#error")).to_be_empty()


def test_two_pictures_are_compared(page, painting, opened, client, tmp_path):
    _choose(page, 60)
    page.get_by_role("button", name="Use the chosen picture as first").click()
    expect(page.locator("[data-side=first] img")).to_have_count(1)
    expect(page.locator("#verdict")).to_be_empty()
    (tmp_path / "b.png").write_bytes(painting)
    (tmp_path / "a.png").write_bytes(png(square(opened, 3)))
    page.locator("#second").set_input_files(tmp_path / "b.png")
    for given in ("first=60&second=50", "first=3&second=50"):
        expected = client.post(f"/api/compare?{given}").json()
        for words in (f"{expected['distance']:.3f}", f"{100 * expected['probability']:.0f} %"):
            expect(page.locator("#verdict")).to_contain_text(words)
        page.get_by_label("Same artist, beforehand").fill("20")
        odds = 0.25 * expected["probability"] / (1 - expected["probability"])
        expect(page.locator("#verdict")).to_contain_text(
            f"{100 * odds / (1 + odds):.0f} %, if it was 20 %"
        )
        page.get_by_label("Same artist, beforehand").fill("50")
        page.get_by_role("button", name="Where are they alike?").click()
        expect(page.locator(".heat")).to_have_count(2)
        heat, seen = (
            page.locator(f"[data-side=second] {what}").bounding_box()
            for what in (".heat", ".whole")
        )
        assert heat == seen  # A square, of which the network sees all.
        expect(page.locator("#alike")).to_be_hidden()
        page.locator("#first").set_input_files(tmp_path / "a.png")


def test_the_keyboard_is_enough(page, client):
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")  # zoom out, zoom in, the name, colors, past the map, the map
    expect(page.locator("#map")).to_be_focused()
    names = {page.locator("#under").inner_text()}
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowLeft") * 4:
        page.keyboard.press(key)
        names.add(page.locator("#under").inner_text())
    assert len(names) > 3 and all(name.startswith("painter-") for name in names)
    page.keyboard.press("+")
    expect(page.locator("#map")).to_have_attribute("data-zoom", "2.00")
    page.keyboard.press("-")
    expect(page.locator("#map")).to_have_attribute("data-zoom", "1.00")
    name = page.locator("#under").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text(name)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Tab")
    expect(page.locator("[name=artist]")).to_be_focused()


def test_a_painting_of_the_map_is_found_by_text(page, client):
    points = client.get("/api/map").json()
    artist = points["values"]["artist"][0]
    wanted = [i for i, a in zip(points["id"], points["artist"], strict=True) if a == 0]
    field = page.get_by_label("Find by title or artist")
    field.fill(artist.upper())
    expect(page.locator("#unknown")).to_contain_text(f"{len(wanted)} paintings")
    for number in (*wanted, wanted[0]):
        field.press("Enter")
        page.wait_for_url(f"**/#painting-{number}")
    field.fill("nobody")
    expect(page.locator("#unknown")).to_contain_text("No painting")
    field.fill("")
    expect(page.locator("#unknown")).to_be_empty()


def test_the_wheel_and_two_fingers_zoom_and_a_click_chooses(page):
    canvas = page.locator("#map")
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -500)
    expect(canvas).to_have_attribute("data-zoom", "2.72")  # exp(0.002 x 500)
    page.mouse.wheel(0, 5000)
    expect(canvas).to_have_attribute("data-zoom", "1.00")
    touch = """([kind, id, x, y]) => document.getElementById("map").dispatchEvent(
      new PointerEvent(kind, {pointerId: id, clientX: x, clientY: y, bubbles: true}))"""
    page.evaluate("Element.prototype.setPointerCapture = () => {}")  # These fingers are none.
    for kind, finger, right in (
        ("down", 1, -20),
        ("down", 2, 20),
        ("move", 1, -40),
        ("move", 2, 40),
    ):
        page.evaluate(touch, [f"pointer{kind}", finger, x + right, y])
    expect(canvas).to_have_attribute("data-zoom", "2.00")
    for finger in (1, 2):
        page.evaluate(touch, ["pointercancel", finger, x, y])
    for step in range(60):  # Somewhere along the diagonal lies a painting.
        page.mouse.move(box["x"] + 5 * step, box["y"] + 5 * step)
        if name := page.locator("#under").inner_text():
            page.mouse.down()
            page.mouse.up()
            expect(page.locator("#status")).to_contain_text(name)
            return
    raise AssertionError("no painting under the pointer")


def test_paintings_have_the_colors_of_their_artists(page):
    page.locator("[name=color]").select_option("artist")
    expect(page.locator("#colors li")).to_have_count(8)
    hidden = "[...document.querySelectorAll('[name=color] option')].map((o) => o.hidden)"
    assert page.evaluate(hidden) == [False, False, True, True]  # No style or century is known.
    page.locator("[name=color]").select_option("")
    expect(page.locator("#colors li")).to_have_count(0)


def test_paintings_have_the_colors_of_their_centuries_where_they_are_known(page, client):
    centuries, data = ["1601-1700", "1701-1800"], client.get("/api/map").json()
    known = {
        "values": {**data["values"], "century": centuries},
        "century": [number % 2 for number in range(len(data["id"]))],
    }
    page.route("**/api/map", lambda route: route.fulfill(json={**data, **known}))
    page.reload()
    expect(page.locator("#map")).to_have_attribute("data-drawn", "64")
    page.locator("[name=color]").select_option("century")
    assert page.locator("#colors li").all_inner_texts() == centuries
    for item in page.locator("#colors li").all():
        color = item.evaluate("item => item.style.getPropertyValue('--color')")
        page.evaluate(f"document.getElementById('map').style.setProperty('--century', '{color}')")
        assert _pixels(page, "century") > 0


def test_why_a_painting_is_near_is_shown_in_one_step(page):
    _choose(page, 60)
    near = _numbers(page, "nearest")[2]
    page.locator("#nearest li").nth(2).get_by_role("button", name="Why").click()
    expect(page.locator(".heat")).to_have_count(2)
    shown = page.locator("[data-side=second] img").get_attribute("src")
    assert shown.endswith(f"/{near}.jpg")
    expect(page.locator("#verdict")).to_contain_text("Distance")


def test_the_catalogue_is_checked_in_one_step(page, client):
    doubtful = client.get("/api/doubtful").json()["doubtful"]
    page.get_by_role("button", name="Check the catalogue").click()
    expect(page.locator("#doubtful li")).to_have_count(len(doubtful))
    expect(page.locator("#doubtful li").first).to_contain_text("catalogued artist")
    page.locator("#doubtful a").first.click()
    page.wait_for_url(f"**/#painting-{doubtful[0]['id']}")


def test_more_paintings_come_as_one_scrolls(page, client):
    _choose(page, 60)
    page.evaluate("scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
    expect(page.locator("#nearest li")).to_have_count(36)
    page.locator("#more").click()
    expect(page.locator("#nearest li")).to_have_count(60)
    expected = client.get("/api/painting/60?k=60").json()["nearest"]
    assert _numbers(page, "nearest") == [painting["id"] for painting in expected]
    page.locator("#more").click()
    expect(page.locator("#nearest li")).to_have_count(63)
    expect(page.locator("#more")).to_be_hidden()


def test_the_square_that_the_network_sees_is_marked(page):
    painting = png(Image.new("RGB", (96, 64), "gray"))
    _drop(page, "wide.png", painting)
    expect(page.locator("#query .seen")).to_have_count(1)
    box = page.locator("#query .whole").bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(1.5, abs=0.02)
    square = "getComputedStyle(document.querySelector('#query .seen'), '::after')"
    sides = page.evaluate(f"[{square}.width, {square}.height].map(parseFloat)")
    assert sides == pytest.approx([box["height"]] * 2, abs=1)
    assert page.locator("#nearest .seen").count() == 0  # The store's are square.


def test_the_whole_map_stays_visible_beside_a_long_answer(page):
    _choose(page, 60)
    page.evaluate("scrollTo({top: 600, behavior: 'instant'})")
    assert page.evaluate("scrollY") > 300
    expect(page.locator("#choose .legend").last).to_be_in_viewport(ratio=1)


def test_the_map_keeps_the_chosen_painting_visible(page, client):
    points = client.get("/api/map").json()
    last = points["id"][points["x"].index(max(points["x"]))]
    for _ in range(3):
        page.locator("#larger").click()
    _choose(page, last)
    expect(page.locator("#status")).to_contain_text("nearest to")
    assert _pixels(page, "chosen") > 0


def test_everything_has_a_name_for_screen_readers(page):
    _choose(page, 60)
    tree = page.locator("body").aria_snapshot()
    for landmark in ("banner", "main", "contentinfo", 'region "Similar paintings"', "status"):
        assert landmark in tree
    for role in ("link", "button", "img", "combobox", "checkbox", "region", "group"):
        assert re.search(rf"^ *- '?{role}(:| \[|$)", tree, re.MULTILINE) is None, f"{role}: no name"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_all_of_it_light_or_dark(page, painting, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 360, "height": 640})
    _drop(page, "mine.png", painting)
    expect(page.locator("#status")).to_be_in_viewport()  # below the map
    expect(page.locator("#nearest li")).to_have_count(12)
    expect(page.locator("#map-help")).to_be_hidden()
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


@pytest.mark.slow
def test_ten_thousand_paintings_are_there_soon_and_zoom_smoothly(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tsne, "PLACED", 500)  # Where they lie does not matter.
    loaded = load_run(run)
    index = benchmark.made_up_index(loaded, tmp_path, 10_000)
    shown = gallery.open_gallery(loaded, index)
    figures = benchmark.measure(app.application(shown, host="127.0.0.1"))
    # The aims are 2 s and 30 frames a second; other tests may leave this one a fifth of a core.
    assert figures["first_paint_s"] < figures["map_s"] < 5 * 2
    assert figures["frames_per_s"] >= 30 / 5


def test_a_server_that_has_stopped_is_reported(browser, web_app):
    with serving(web_app) as port:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#map")).to_have_attribute("data-drawn", "64")
    page.evaluate("location.hash = '#painting-3'")
    expect(page.locator("#error")).to_contain_text("server does not answer")
    page.close()
