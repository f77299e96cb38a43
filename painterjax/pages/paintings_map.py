"""The map of the web page: places, names and thumbnails of all paintings."""

import math
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.common.progress import Progress, counted
from painterjax.data import catalog, raster
from painterjax.index import pictures
from painterjax.index.database import IndexedPainting
from painterjax.pages import tsne
from painterjax.pages.gallery import Gallery
from painterjax.run.embeddings import UNREADABLE

THUMBNAIL, SHEET = 48, 4096  # pixels of a painting, and of the sheet of them, at most


def of(shown: Gallery) -> tuple[dict[str, Any], bytes]:
    """Returns a gallery's paintings with places from 0 to 1, and a JPEG sheet of thumbnails.

    They come by columns, in a random order, so that the first ones stand for all: numbers as
    `id`, places as `x` and `y`, `title`, and for `artist`, `style` and `century` the numbers of
    values, which `values` lists. The sheet has `columns` thumbnails of `side` pixels in a row.
    """
    order_N, place_Nx2, sheet = _kept_map(shown)
    ordered = [shown.entries[number] for number in order_N]
    known = {
        "artist": [shown.name(entry) for entry in ordered],
        "style": [entry.painting.style for entry in ordered],
        "century": [catalog.century(entry.painting.date) for entry in ordered],
    }
    values = {name: sorted(set(column)) for name, column in known.items()}
    number = {name: {v: i for i, v in enumerate(found)} for name, found in values.items()}
    columns, side = _sheet_shape(len(ordered))
    x_N, y_N = place_Nx2[order_N].round(4).T.tolist()
    points = {
        "id": order_N.tolist(), "x": x_N, "y": y_N, "columns": columns, "side": side,
        "title": [shown.title(entry) for entry in ordered], "values": values,
        **{name: [number[name][value] for value in known[name]] for name in known},
    }  # fmt: skip
    return points, sheet


def _kept_map(shown: Gallery) -> tuple[np.ndarray, np.ndarray, bytes]:
    """The order, the places and the sheet of the map, which are kept in the index's folder."""
    path, count = shown.index.folder / "paintings-map.npz", len(shown.index)
    if not path.exists():
        order_N = np.random.default_rng(0).permutation(count)
        print(f"explore: placing {counted(count, 'painting')} on the map", flush=True)
        place_Nx2 = tsne.places_of_all(shown.index.embeddings())
        sheet = np.frombuffer(_sheet(shown, order_N), np.uint8)
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, order_N=order_N, place_Nx2=place_Nx2, sheet=sheet)
    try:
        with open(path, "rb") as file, np.load(file) as kept:
            order_N, place_Nx2, sheet = kept["order_N"], kept["place_Nx2"], kept["sheet"]
    except UNREADABLE as error:
        raise InputError(f"{path} is damaged: delete it, and it is made again") from error
    if len(order_N) != count:  # The index has grown.
        path.unlink()
        return _kept_map(shown)
    return order_N, place_Nx2, sheet.tobytes()


def _sheet(shown: Gallery, order_N: np.ndarray) -> bytes:
    columns, side = _sheet_shape(len(order_N))
    thumbnails = np.full((len(order_N), side, side, 3), 255, np.uint8)
    with Progress("thumbnails", total=len(order_N), unit="painting") as progress:
        for row, number in enumerate(order_N):
            thumbnails[row] = _thumbnail(shown, shown.entries[number], side)
            progress.advance(1)
    return raster.jpeg(raster.sheet(thumbnails, columns=columns))


def _thumbnail(shown: Gallery, entry: IndexedPainting, side: int) -> np.ndarray:
    image_SxSxC = pictures.pixels(shown.run, shown.index, entry)
    if image_SxSxC is None:  # removed since
        return np.full((side, side, 3), 200, np.uint8)
    image_SxSxC = raster.thumbnail(image_SxSxC, side)
    missing = side - len(image_SxSxC)
    return np.pad(image_SxSxC, ((0, missing), (0, missing), (0, 0)), mode="edge")


def _sheet_shape(count: int) -> tuple[int, int]:
    """The number of thumbnails in a row of the sheet, and their side in pixels."""
    columns = math.ceil(math.sqrt(count))
    return columns, max(1, min(THUMBNAIL, SHEET // columns))
