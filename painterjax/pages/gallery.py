"""A run's paintings, ready to be asked: what hangs near, in whose style is this, is it one hand?"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common.errors import InputError
from painterjax.data import catalog, images
from painterjax.data.store import Store
from painterjax.index import lookup
from painterjax.index.index import Index, IndexedPainting
from painterjax.metrics.calibration import Calibration
from painterjax.model.embedder import Embedder
from painterjax.pages import tsne
from painterjax.run import embed as run_embed
from painterjax.run import folder as run_folder
from painterjax.run.embeddings import UNREADABLE
from painterjax.run.evaluation import needed_calibration

ARTISTS = 6  # named as those who paint in this style
FETCHED = 64  # Neighbors that are looked at first to find so many artists.
THUMBNAIL = 48  # pixels of a painting on the map's sheet


@dataclasses.dataclass(frozen=True)
class Query:
    """What is asked about: a picture, and the painting of the index that it is, if it is one."""

    image_SxSxC: np.ndarray
    emb_D: np.ndarray
    entry: IndexedPainting | None = None


@dataclasses.dataclass(frozen=True)
class Filters:
    """What is found: k paintings of those that have the wanted artist, style and century."""

    k: int = 12
    other_artists: bool = False
    artist: str | None = None
    style: str | None = None
    century: str | None = None


@dataclasses.dataclass(frozen=True)
class Gallery:
    """A run's store with its index, and the network that embeds further pictures.

    Attributes:
      name: the run's.
      store: its paintings.
      index: the same, by number: the rows of the store.
      embedder: its network.
      calibration: from distances to probabilities.
    """

    name: str
    store: Store
    index: Index
    embedder: Embedder
    calibration: Calibration

    def about(self) -> dict[str, Any]:
        """Returns how many paintings there are, and what one can filter by."""
        paintings = [p for split in self.store.splits.values() for p in split.paintings]
        columns = {
            "artists": (painting.artist for painting in paintings),
            "styles": (painting.style for painting in paintings),
            "centuries": (catalog.century(painting.date) for painting in paintings),
        }
        values = {name: sorted(set(column) - {""}) for name, column in columns.items()}
        test = self.store.splits["test"]
        never_seen = {"paintings": len(test), "artists": len(test.artists)}
        counts = {"paintings": len(paintings), "never_seen": never_seen}
        return {"name": self.name, "image_size": self.store.image_size, **counts, **values}

    def stored(self, number: int) -> Query:
        """Returns a painting of the index; raises InputError where there is no such number."""
        entry = self.index.entry(number)
        split = self.store.splits[entry.origin["split"]]
        return Query(split.image_NxSxSxC[entry.position], self.index.embedding(number), entry)

    def brought(self, data: bytes) -> Query:
        """Decodes and embeds an image file; raises images.ImageError where it is none."""
        image_SxSxC = images.decode(data, size=self.embedder.image_size)
        return Query(image_SxSxC, self.embedder.embed(image_SxSxC[None])[0])

    def ask(self, query: Query, filters: Filters) -> dict[str, Any]:
        """Returns the k paintings `nearest`, and the `artists` whose nearest painting is nearest.

        Each artist comes with that painting; all with distance and probability.
        """
        among_N = lookup.filtered(
            self.index, query.entry, without_artist=filters.other_artists,
            artist=filters.artist, style=filters.style, century=filters.century,
        )  # fmt: skip
        skipped = None if query.entry is None else query.entry.id
        count = max(filters.k, FETCHED)
        while True:
            found = lookup.nearest(self.index, query.emb_D, count, among_N=among_N, skipped=skipped)
            entries = self.index.entries([number for _, number in found])
            first: dict[str, dict[str, Any]] = {}
            for (distance, _), entry in zip(found, entries, strict=True):
                if entry.painting.artist not in first and len(first) < ARTISTS:
                    first[entry.painting.artist] = self._described(entry, distance)
            if len(first) == ARTISTS or len(found) < count:
                break
            count *= 4
        shown = zip(entries[: filters.k], found, strict=False)
        nearest = [self._described(entry, distance) for entry, (distance, _) in shown]
        return {"nearest": nearest, "artists": list(first.values())}

    def compare(self, first: Query, second: Query) -> dict[str, float]:
        """Returns the distance of two pictures, and the probability that one hand painted both."""
        return self._apart(float(np.linalg.norm(first.emb_D - second.emb_D)))

    def map(self) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Returns paintings by artists never seen with their places from 0 to 1, and their sheet.

        The sheet has the thumbnails of these paintings in rows of `sheet_columns`.
        """
        test = self.store.splits["test"]
        first = len(self.index) - len(test)  # The index has the splits in the store's order.
        row_M, place_Mx2 = self._places(range(first, len(self.index)))
        low_2, high_2 = place_Mx2.min(axis=0), place_Mx2.max(axis=0)
        spread = float((high_2 - low_2).max()) or 1.0
        place_Mx2 = 0.5 + (place_Mx2 - (low_2 + high_2)[None] / 2) / spread
        points = [
            {
                "id": first + int(row), "x": round(float(x), 4), "y": round(float(y), 4),
                "artist": test.paintings[row].artist, "title": test.paintings[row].title,
            }
            for row, (x, y) in zip(row_M, place_Mx2, strict=True)
        ]  # fmt: skip
        return points, _sheet([images.thumbnail(test.image_NxSxSxC[r], THUMBNAIL) for r in row_M])

    def _places(self, numbers: range) -> tuple[np.ndarray, np.ndarray]:
        """The map, which takes many seconds, is kept with the index that it is of."""
        path = self.index.folder / "map.npz"
        if not path.exists():
            emb_NxD = np.stack([self.index.embedding(number) for number in numbers])
            row_M, place_Mx2 = tsne.places(emb_NxD)
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, row_M=row_M, place_Mx2=place_Mx2)
            temporary.replace(path)
        try:
            with open(path, "rb") as file, np.load(file) as kept:
                return kept["row_M"], kept["place_Mx2"]
        except UNREADABLE as error:
            raise InputError(f"{path} is damaged: delete it, it is made anew") from error

    def _described(self, entry: IndexedPainting, distance: float) -> dict[str, Any]:
        return {**label(entry), **self._apart(distance)}

    def _apart(self, distance: float) -> dict[str, float]:
        probability = float(self.calibration.probability(distance))
        return {"distance": distance, "probability": probability}


def label(entry: IndexedPainting) -> dict[str, Any]:
    """Returns what is known of a painting: its number, its split, and its catalog's columns."""
    return {"id": entry.id, "split": entry.origin["split"], **dataclasses.asdict(entry.painting)}


def sheet_columns(count: int) -> int:
    """Returns how many of `count` thumbnails a row of their sheet has."""
    return math.ceil(math.sqrt(count))


def open_run(run: Path) -> Gallery:
    """Opens a run; the first time its store is embedded into RUN/index.

    Raises:
      InputError: there is no run, it was not judged, its store is another now, or has no test.
    """
    embedder, origin = run_embed.of_run(run)
    calibration = needed_calibration(run, step=origin["step"])
    store = run_folder.open_store_of(run)
    if not len(store.splits["test"]):
        raise InputError(f"{store.path} has no painting in test: prepare it with --test-fraction")
    index = lookup.own_index(run, embedder, origin)
    one_by_one = dataclasses.replace(embedder, batch_size=1)
    size = store.image_size
    one_by_one.embed(np.zeros((1, size, size, 3), np.uint8))  # Compiles it.
    return Gallery(run.resolve().name, store, index, one_by_one, calibration)


def _sheet(image_MxSxSxC: list[np.ndarray]) -> np.ndarray:
    side, columns = len(image_MxSxSxC[0]), sheet_columns(len(image_MxSxSxC))
    rows = math.ceil(len(image_MxSxSxC) / columns)
    sheet_HxWxC = np.full((rows * side, columns * side, 3), 128, np.uint8)
    for i, image_SxSxC in enumerate(image_MxSxSxC):
        top, left = (i // columns) * side, (i % columns) * side
        sheet_HxWxC[top : top + side, left : left + side] = image_SxSxC
    return sheet_HxWxC
