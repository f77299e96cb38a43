"""The web page of a tiny run in a browser."""

import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from painterjax.pages import gallery
from tests.helpers.pages import PATIENCE_S, bad_files, png, serving

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
    expect(page.locator("#plane a")).to_have_count(16)
    yield page
    page.close()
    # Chromium reports every answer of 400 and above.
    assert [text for text in troubles if not text.startswith("Failed to load resource")] == []
    assert all(url.startswith((address, "data:")) for url in requests)


def _choose(page: Page, number: int) -> None:
    page.locator(f"#plane a[data-id='{number}']").dispatch_event("click")
    expect(page.locator("#nearest li")).to_have_count(12)


def _numbers(page: Page, list_id: str) -> list[int]:
    links = page.locator(f"#{list_id} a").all()
    return [int((link.get_attribute("href") or "").rpartition("-")[2]) for link in links]


def test_the_map_leads_to_a_painting_s_neighbors(page, client):
    _choose(page, 50)
    page.locator("#plane a[data-id='50']").focus()
    page.keyboard.press("Enter")
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
    (tmp_path / "a.png").write_bytes(png(opened.picture_from_index(3).image_SxSxC))
    page.locator("#second").set_input_files(tmp_path / "b.png")
    for given in ("first=60&second=50", "first=3&second=50"):
        expected = client.post(f"/api/compare?{given}").json()
        for words in (f"{expected['distance']:.2f}", f"{100 * expected['probability']:.0f} %"):
            expect(page.locator("#verdict")).to_contain_text(words)
        page.get_by_label("Same artist, beforehand").fill("20")
        odds = 0.25 * expected["probability"] / (1 - expected["probability"])
        expect(page.locator("#verdict")).to_contain_text(
            f"{100 * odds / (1 + odds):.0f} %, if it was 20 %"
        )
        page.get_by_label("Same artist, beforehand").fill("50")
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
    for text, known in (("nobody", False), ("", True)):
        field.fill(text)
        field.press("Enter")
        expect(page.locator("#unknown")).to_have_text("" if known else re.compile("No painting"))


def test_the_whole_map_stays_visible_beside_a_long_answer(page):
    _choose(page, 60)
    page.evaluate("scrollTo({top: 600, behavior: 'instant'})")
    assert page.evaluate("scrollY") > 300
    expect(page.locator("#choose .legend")).to_be_in_viewport(ratio=1)


def test_the_map_keeps_the_chosen_painting_visible(page, client):
    points = sorted(client.get("/api/map").json()["points"], key=lambda point: point["x"])
    for point, button, times in ((points[0], "#larger", 3), (points[-1], "#smaller", 1)):
        link = page.locator(f"#plane a[data-id='{point['id']}']")
        page.goto(f"{page.url.partition('#')[0]}#painting-{point['id']}")
        expect(link).to_have_class(re.compile("chosen"))
        expect(link).to_be_in_viewport(ratio=0.9)  # The map's frame clips it.
        for _ in range(times):
            page.locator(button).click()
            expect(link).to_be_in_viewport(ratio=0.9)


def test_everything_has_a_name_for_screen_readers(page):
    _choose(page, 60)
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
