"""The web server of a tiny run: its answers, its refusals, and the server itself."""

import csv
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from painterjax import attribute, explore, search
from painterjax.common.errors import InputError
from painterjax.data import synthetic
from painterjax.model import likeness
from painterjax.pages import app, gallery, paintings_map, server
from painterjax.run.load import load_run
from tests.helpers.pages import PATIENCE_S, bad_files, png, square
from tests.helpers.tiny import ROOT

BAD_FILES = bad_files()


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


def test_artists_are_those_of_the_command_with_someone_else(
    run, opened, client, painting, tmp_path
):
    (tmp_path / "50.png").write_bytes(painting)
    argv = ["--run", run, "--images", tmp_path / "50.png", "--output", tmp_path / "x.csv"]
    attribute.main(list(map(str, argv)))
    with open(tmp_path / "x.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["in_collection"] == "yes"
    of_painting = client.get("/api/painting/50").json()
    of_upload = client.post("/api/query", content=painting).json()
    for answer in (of_painting, of_upload):
        found = answer["artists"]
        assert len(found) == gallery.ARTISTS
        assert answer["someone_else"] == pytest.approx(float(row["someone_else"]), abs=2e-3)
        named = [(artist["artist"], str(artist["paintings"])) for artist in found[:2]]
        assert named == [(row[f"artist_{i}"], row[f"paintings_{i}"]) for i in (1, 2)]
        assert answer["someone_else"] + sum(artist["probability"] for artist in found) <= 1
    # Each is shown with the nearest painting, other than the query.
    for artist in of_painting["artists"]:
        given = f"/api/painting/50?k=1&artist={artist['artist']}"
        assert client.get(given).json()["nearest"][0]["id"] == artist["id"] != 50
    # Filters choose among the artists and change no probability.
    (one,) = client.get("/api/painting/50?artist=painter-001").json()["artists"]
    (answer,) = opened.attributor.answers(opened.index.embedding(50)[None])
    expected = {each.artist: each.probability for each in answer.candidates}
    assert one["probability"] == pytest.approx(expected["painter-001"])


def test_what_is_likelier_by_others_than_catalogued_is_listed(client, opened):
    answer = client.get("/api/doubtful").json()
    found = answer["doubtful"]
    expected = [pair for pair in opened.attributor.of_index() if pair[1].is_doubtful]
    assert [painting["id"] for painting in found] == [entry.id for entry, _ in expected]
    assert found
    for painting, (_, each) in zip(found, expected, strict=True):
        assert painting["probability"] == each.probability
        likeliest = each.answer.candidates[0]
        assert painting["likeliest"] == likeliest.artist
        assert painting["likeliest_probability"] == likeliest.probability
        assert painting["likeliest"] != painting["artist"]
        assert painting["likeliest_probability"] > painting["probability"]


def test_more_paintings_come_by_pages(client, painting):
    whole = client.get("/api/painting/50?k=30").json()["nearest"]
    for first, k in ((0, 7), (7, 12), (19, 11)):
        page = client.post(f"/api/nearest?number=50&first={first}&k={k}").json()["nearest"]
        assert page == whole[first : first + k]
    assert client.post("/api/nearest?number=50&first=63").json()["nearest"] == []
    uploaded = client.post("/api/query?k=9", content=painting).json()["nearest"]
    page = client.post("/api/nearest?first=4&k=5", content=painting).json()["nearest"]
    assert [p["id"] for p in page] == [p["id"] for p in uploaded[4:]]
    for wrong in ("first=x", "first=65", "number=999", "sort=title"):
        assert client.post(f"/api/nearest?{wrong}", content=painting).status_code in (400, 404)


def test_a_folder_of_one_s_own_is_shown_by_names_as_people_write_them(run, tmp_path):
    folder = tmp_path / "mine"
    wide = [synthetic.paint(seed=3, artist=0, painting=i, size=64)[:40] for i in range(5)]
    for i, artist in enumerate(["vincent-van-gogh", "El Greco"] * 2):
        path = folder / artist / f"{i // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(wide[i]))
    loaded = load_run(run)
    for added in (0, 1):
        index = gallery.index_of_folder(loaded, folder, workers=1)
        for path in index.folder.iterdir():  # As a kill leaves it before vectors are added.
            path.unlink()
        index = gallery.index_of_folder(loaded, folder, workers=1)
        shown = gallery.open_gallery(loaded, index)
        assert len(index) == 4 + added
        (folder / "new.png").write_bytes(png(wide[4]))
    web_app = app.application(shown, host="127.0.0.1")
    with TestClient(web_app, base_url="http://127.0.0.1") as client:
        summary = client.get("/api/run").json()
        assert summary["artists"] == ["El Greco", "vincent-van-gogh"]
        assert summary["names"]["vincent-van-gogh"] == "Vincent van Gogh"
        assert summary["wide"] == 1.5
        assert client.get("/api/map").json()["values"]["artist"] == [
            "", "El Greco", "Vincent van Gogh"
        ]  # fmt: skip
        (number,) = np.flatnonzero(index.find(file="vincent-van-gogh/0.png")).tolist()
        query = client.get(f"/api/painting/{number}").json()["query"]
        assert (query["name"], query["artist"]) == ("Vincent van Gogh", "vincent-van-gogh")
        image = Image.open(io.BytesIO(client.get(query["image"]).content))
        assert image.size == (64, 40)  # the whole painting
        found = client.get(f"/api/painting/{number}?artist=vincent-van-gogh").json()["nearest"]
        assert [painting["file"] for painting in found] == ["vincent-van-gogh/1.png"]
        upload = client.post("/api/query", content=png(wide[0])).json()  # 64 x 40: wide
        assert upload["nearest"][0]["file"] == "vincent-van-gogh/0.png"
        assert upload["nearest"][0]["distance"] < 1e-2
        (folder / query["file"]).unlink()
        assert client.get(query["image"]).status_code == 422


def test_an_upload_finds_the_painting_that_it_is(client, painting):
    answer = client.post("/api/query", content=painting).json()
    assert answer["nearest"][0]["id"] == 50
    assert answer["nearest"][0]["distance"] < 1e-2
    assert answer["query"]["image"].startswith("data:image/jpeg;base64,")


def test_two_pictures_compare_alike_wherever_they_come_from(client, opened, painting):
    other = png(square(opened, 3))
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


def test_where_two_pictures_are_alike_is_what_the_network_says(client, opened, painting):
    pair = np.stack([square(opened, number) for number in (50, 3)])
    share_2xMxM = likeness.shares(likeness.likeness(opened.run.embedder, pair)[1])
    assert share_2xMxM.max((1, 2)) == pytest.approx(1)
    expected = np.rint(255 * share_2xMxM).astype(int).tolist()
    for given, body in (("first=50&second=3", b""), ("second=3", painting)):
        answer = client.post(f"/api/likeness?{given}", content=body)
        assert answer.status_code == 200, answer.text
        assert [answer.json()[side] for side in ("first", "second")] == expected


def test_pictures_are_the_store_s(client, opened):
    points = client.get("/api/map").json()
    paintings = [p for split in opened.run.store.splits.values() for p in split.paintings]
    assert sorted(points["id"]) == list(range(64)) == list(range(len(paintings)))
    artists = [points["values"]["artist"][value] for value in points["artist"]]
    assert artists == [paintings[number].artist for number in points["id"]]
    for axis in "xy":
        assert (min(points[axis]), max(points[axis])) == (0, 1)
    columns, side = points["columns"], points["side"]
    sheet = np.asarray(Image.open(io.BytesIO(client.get(points["sheet"]).content))).astype(float)
    row, column = divmod(points["id"].index(50), columns)
    shown = sheet[row * side : row * side + 32, column * side : column * side + 32]
    assert np.abs(shown - square(opened, 50)).mean() < 8
    for url in (points["sheet"], client.get("/api/painting/50").json()["query"]["image"]):
        answer = client.get(url)
        assert answer.headers["content-type"] == "image/jpeg"
        assert "immutable" in answer.headers["cache-control"]
    pixels = np.asarray(Image.open(io.BytesIO(answer.content))).astype(float)
    assert np.abs(pixels - square(opened, 50)).mean() < 8
    for missing in ("/pictures/other/50.jpg", url.replace("50.jpg", "9999.jpg")):
        assert client.get(missing).status_code == 404


def test_only_paintings_by_training_artists_are_marked_as_seen(client, opened):
    splits = opened.run.store.splits
    first = 0
    for name in ("train", "val", "test"):
        query = client.get(f"/api/painting/{first}").json()["query"]
        assert (query["split"], query["seen"]) == (name, name != "test")
        first += len(splits[name])
    assert client.get("/api/run").json()["test_artists"] == "2 artists never seen in training"


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
        ("GET", "/api/painting/50?k=0", 400, "k is '0'"),
        ("GET", "/api/painting/50?k=many", 400, "k is 'many'"),
        ("GET", "/api/painting/50?sytle=Baroque", 400, "sytle"),
        ("GET", "/api/painting/50?style=nowhere", 400, "style 'nowhere'"),
        ("GET", "/api/painting/50?century=nowhere", 400, "century 'nowhere'"),
        ("POST", "/api/query?other_artists=1", 400, "other_artists"),
        ("POST", "/api/compare?first=50", 422, "empty"),
        ("POST", "/api/compare?first_bytes=9", 400, "first_bytes is '9'"),
        ("DELETE", "/api/run", 405, ""),
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
    path = run / "index" / "paintings-map.npz"
    paintings_map.of(opened)
    whole = path.read_bytes()
    for damaged in (b"no map", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"paintings-map\.npz is damaged: delete it"):
            paintings_map.of(opened)
    path.write_bytes(whole)


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


def _connect(address: str, head: bytes) -> socket.socket:
    """Sends a part of an upload."""
    port = int(address.rstrip("/").rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    connection.sendall(b"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + head)
    return connection


def test_slow_uploads_give_way(address, painting, monkeypatch):
    monkeypatch.setattr(app, "UPLOAD_S", 1.0)
    slow = [_connect(address, b"1000\r\n\r\nabc") for _ in range(app.UPLOADS)]
    request = urllib.request.Request(f"{address}api/query", painting)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.status == 200
    for connection in slow:
        with connection:
            assert b" 408 " in connection.recv(4096)


def test_an_announced_upload_is_refused_before_it_is_sent(address):
    with _connect(address, b"99999999999\r\n\r\n") as connection:
        assert b" 413 " in connection.recv(4096)


def test_the_command_serves_until_it_is_interrupted(run):
    command = [sys.executable, "-m", "painterjax.explore", "--run", str(run), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        # Behind a line about the map, if that is not there yet.
        lines = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in process.stdout)
        address = next(filter(None, lines))
        with urllib.request.urlopen(f"{address[0]}api/run", timeout=PATIENCE_S) as answer:
            assert json.load(answer)["paintings"] == 64
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, output.strip()) == (0, "explore: stopped")
        assert "Traceback" not in errors and "go on" not in errors


def test_the_address_is_one_that_a_browser_can_open():
    everywhere = ["http://127.0.0.1:80/", f"http://{socket.gethostname()}:80/"]
    assert server.addresses("0.0.0.0", 80) == server.addresses("::", 80) == everywhere
    assert server.addresses("::1", 80) == ["http://[::1]:80/"]
    assert server.addresses("localhost", 80) == ["http://localhost:80/"]


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
            (
                ["--run", str(run), "--port", "0", "--index", str(tmp_path / "none")],
                "no index|not an index",
            ),
            (
                ["--run", str(run), "--port", "0", "--images", str(tmp_path / "none")],
                "not a folder",
            ),
            ([], "--run"),
        ):
            with pytest.raises(InputError, match=message) as refusal:
                explore.main(argv)
            assert "\n" not in str(refusal.value)
