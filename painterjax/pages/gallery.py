"""A run's paintings for the web page: nearest paintings and artists, comparisons, and the map."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data import catalog, images, splits
from painterjax.index import lookup
from painterjax.index.attribution import Attributor
from painterjax.index.index import Index, IndexedPainting
from painterjax.pages import tsne
from painterjax.run.embeddings import UNREADABLE
from painterjax.run.evaluation import artists_of
from painterjax.run.load import Run

ARTISTS = 6  # of a picture that are shown
THUMBNAIL = 48  # pixels of a painting on the map


@dataclasses.dataclass(frozen=True)
class Picture(lookup.Query):
    """A query that the page shows."""

    image_SxSxC: np.ndarray


@dataclasses.dataclass(frozen=True)
class Gallery:
    """A run, whose network embeds an image on each device at a time, and the index of its store."""

    run: Run
    index: Index

    @functools.cached_property
    def _training_artists(self) -> frozenset[str]:
        return frozenset(map(splits.letters_of, self.run.artists_trained_on))

    def summary(self) -> dict[str, Any]:
        """Returns the counts of paintings, and the values to filter by."""
        store = self.run.store
        paintings = [p for split in store.splits.values() for p in split.paintings]
        columns = {
            "artists": (painting.artist for painting in paintings),
            "styles": (painting.style for painting in paintings),
            "centuries": (catalog.century(painting.date) for painting in paintings),
        }
        return {
            "name": self.run.path.resolve().name,
            "image_size": store.image_size,
            "paintings": len(paintings),
            "test_artists": artists_of(store.splits["test"], self.run.artists_trained_on),
            **{name: sorted(set(column) - {""}) for name, column in columns.items()},
        }

    def picture_from_index(self, number: int) -> Picture:
        """Returns a painting of the index; raises InputError if there is no such number."""
        entry = self.index.entry(number)
        split = self.run.store.splits[entry.origin["split"]]
        return Picture(self.index.embedding(number), entry, split.image_NxSxSxC[entry.position])

    def picture_from_upload(self, data: bytes) -> Picture:
        """Decodes and embeds an image file.

        Raises:
          images.ImageError: it is not an image.
          InputError: the run's store was decoded in another way.
        """
        self.run.check_decoding()
        image_SxSxC = images.decode(data, size=self.run.embedder.image_size)
        return Picture(self.run.embedder.embed(image_SxSxC[None])[0], None, image_SxSxC)

    @functools.cached_property
    def attributor(self) -> Attributor:
        """What tells who painted a picture, by all paintings of the index."""
        return Attributor(self.run, self.index)

    def answer(self, query: lookup.Query, k: int, filters: lookup.Filters) -> dict[str, Any]:
        """Returns the k `nearest` paintings, and the likeliest `artists` and `someone_else`.

        The filters choose which artists are shown, and their nearest painting that describes each;
        the probabilities are always those in view of the whole index.
        """
        among_N = lookup.select(self.index, query, filters)
        nearest = lookup.nearest(self.index, query, k, among_N)
        (found,) = self.attributor.answers(query.emb_D[None])
        artists: list[dict[str, Any]] = []
        for candidate in found.candidates:
            by_artist_N = self.index.find(artist=candidate.artist)
            among = by_artist_N if among_N is None else by_artist_N & among_N
            artists += [
                {**self.label(neighbor.entry), **dataclasses.asdict(candidate)}
                for neighbor in lookup.nearest(self.index, query, 1, among)
            ]
            if len(artists) == ARTISTS:
                break
        described = [self._describe(neighbor) for neighbor in nearest]
        return {"nearest": described, "artists": artists, "someone_else": found.someone_else}

    def label(self, entry: IndexedPainting) -> dict[str, Any]:
        """Returns what is known of a painting, and as `seen` whether training saw its artist."""
        known = dataclasses.asdict(entry.painting)
        seen = splits.letters_of(entry.painting.artist) in self._training_artists
        return {"id": entry.id, "split": entry.origin["split"], "seen": seen, **known}

    def compare(self, first: lookup.Query, second: lookup.Query) -> dict[str, Any]:
        """Returns the distance of two pictures, and the probability of one artist."""
        distance = float(np.linalg.norm(first.emb_D - second.emb_D))
        return lookup.distance_and_probability(self.run, distance)

    def map(self) -> tuple[dict[str, Any], np.ndarray]:
        """Returns test paintings as `points` with places from 0 to 1, and a sheet of thumbnails.

        The sheet has `columns` thumbnails in a row.
        """
        test = self.run.store.splits["test"]
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
        thumbnails = [images.thumbnail(test.image_NxSxSxC[row], THUMBNAIL) for row in row_M]
        columns = math.ceil(math.sqrt(len(points)))
        sheet_HxWxC = images.sheet(np.stack(thumbnails), columns=columns)
        return {"points": points, "columns": columns}, sheet_HxWxC

    def _places(self, numbers: range) -> tuple[np.ndarray, np.ndarray]:
        """The places on the map; they take many seconds, and are kept in the index's folder."""
        path = self.index.folder / "map.npz"
        if not path.exists():
            emb_NxD = np.stack([self.index.embedding(number) for number in numbers])
            row_M, place_Mx2 = tsne.places(emb_NxD)
            with files.replacing(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, row_M=row_M, place_Mx2=place_Mx2)
        try:
            with open(path, "rb") as file, np.load(file) as kept:
                return kept["row_M"], kept["place_Mx2"]
        except UNREADABLE as error:
            raise InputError(f"{path} is damaged: delete it, and it is made again") from error

    def _describe(self, neighbor: lookup.Neighbor) -> dict[str, Any]:
        return {
            **self.label(neighbor.entry),
            **lookup.distance_and_probability(self.run, neighbor.distance),
        }


def open_gallery(run: Run) -> Gallery:
    """Opens the gallery of a run; the first time its store is embedded into RUN/index.

    Raises:
      InputError: the run has no calibration, or its store has changed or has no test painting.
    """
    run.needed_calibration()
    size = run.store.image_size
    if not len(run.store.splits["test"]):
        raise InputError(
            f"{run.store.path} has no test painting: prepare it with a larger --test-fraction"
        )
    index = lookup.own_index(run)
    embedder = dataclasses.replace(run.embedder, batch_size=run.embedder.mesh.size)
    embedder.embed(np.zeros((1, size, size, 3), np.uint8))  # compiles it
    opened = Gallery(dataclasses.replace(run, embedder=embedder), index)
    _ = opened.attributor.collection  # Reads the index.
    return opened
