"""How soon the page shows the map of a large collection, and how smoothly it zooms.

    python -m benchmarks.page --run runs/quickstart --output data/page [--json FILE]

Embeddings and pictures are made up: 10,000 vectors around 200 artists, and as many JPEG files of
one color. Chromium opens the page of an index of them and turns the wheel over the map, once a
frame, in and out again. It must be installed; without a GPU it draws by software.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from painterjax.data.catalog import Painting
from painterjax.data.raster import jpeg
from painterjax.index.index import Index
from painterjax.pages import app, gallery
from painterjax.run import folder as run_folder
from painterjax.run.embeddings import Vectors
from painterjax.run.load import Run, load_run
from tests.helpers.pages import serving

ARTISTS, SIDES = 200, (32, 48)  # the height and width of a picture
FRAMES = 180
# Not by wait_for_function, which evaluates text again and again; the page's policy forbids that.
MAP_IS_THERE = """async () => {
  while (!performance.getEntriesByName("map").length) await new Promise(requestAnimationFrame);
}"""
ZOOM = """(frames) => new Promise((resolve) => {
  const canvas = document.getElementById("map");
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const place = { clientX: left + width / 2, clientY: top + height / 2, cancelable: true };
  const times = [];
  const step = (time) => {
    times.push(time);
    if (times.length > frames) return resolve(times.slice(1).map((t, i) => t - times[i]));
    const deltaY = times.length <= frames / 2 ? -26 : 26;
    canvas.dispatchEvent(new WheelEvent("wheel", { ...place, deltaY }));
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--paintings", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    run = load_run(args.run)
    start = time.perf_counter()
    shown = gallery.open_gallery(run, made_up_index(run, args.output, args.paintings))
    web_app = app.application(shown, host="127.0.0.1")
    figures = {
        "paintings": args.paintings,
        "first_start_s": time.perf_counter() - start,
        **measure(web_app),
        "environment": run_folder.environment(),
    }
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def made_up_index(run: Run, output: Path, count: int) -> Index:
    """Returns an index of made-up vectors and pictures; both are written where they are missing."""
    index = Index(output / "index")
    if len(index) == count:
        return index
    rng = np.random.default_rng(0)
    center_AxD = rng.normal(size=(ARTISTS, run.embedder.dim)).astype(np.float32)
    artist_N = rng.integers(ARTISTS, size=count)
    noise_NxD = rng.normal(scale=0.3, size=(count, run.embedder.dim)).astype(np.float32)
    paintings = []
    for number, artist in enumerate(artist_N.tolist()):
        century = 1500 + 100 * (artist % 5)
        painting = Painting(
            f"artist-{artist:03}/{number:05}.jpg", f"artist-{artist:03}", f"study-{number}",
            f"style {artist % 9}", "", f"{century + number % 100}",
        )  # fmt: skip
        path = output / "pictures" / painting.file
        path.parent.mkdir(parents=True, exist_ok=True)
        color_3 = rng.integers(256, size=3).astype(np.uint8)
        path.write_bytes(jpeg(np.broadcast_to(color_3, (*SIDES, 3))))
        paintings.append(painting)
    origin = {**run.origin, "images": str((output / "pictures").resolve())}
    index.add(Vectors(center_AxD[artist_N] + noise_NxD, paintings, origin, None))
    return index


def measure(web_app: Any) -> dict[str, Any]:
    """Opens the page in Chromium: seconds to the first paint and the map, frames while zooming."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with serving(web_app) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate(MAP_IS_THERE)
        figures = {
            "chromium": browser.version,
            "first_paint_s": _seconds(page, "first-contentful-paint"),
            "map_s": _seconds(page, "map"),
        }
        frame_ms = np.array(page.evaluate(ZOOM, FRAMES))
        browser.close()
    zoomed = {f"frame_p{p}_ms": float(np.percentile(frame_ms, p)) for p in (50, 95, 100)}
    return {**figures, "frames_per_s": 1000 * len(frame_ms) / float(frame_ms.sum()), **zoomed}


def _seconds(page: Page, mark: str) -> float:
    """When a mark was set, since the page was asked for."""
    return page.evaluate(f"performance.getEntriesByName('{mark}')[0].startTime") / 1000


if __name__ == "__main__":
    main()
