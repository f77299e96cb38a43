"""A run's paintings for the web page: nearest paintings and artists, comparisons, and the map."""

import dataclasses
import functools
import hashlib
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.common.progress import Progress
from painterjax.data import catalog, images, splits
from painterjax.index import lookup
from painterjax.index.attribution import Attributor
from painterjax.index.index import Index, IndexedPainting
from painterjax.pages import tsne
from painterjax.run import embeddings
from painterjax.run.embed import embed_folder
from painterjax.run.embeddings import UNREADABLE
from painterjax.run.evaluation import artists_of
from painterjax.run.load import Run

ARTISTS = 6  # of a picture that are shown
THUMBNAIL, SHEET = 48, 4096  # pixels of a painting on the map, and of the sheet of them, at most


@dataclasses.dataclass(frozen=True)
class Picture(lookup.Query):
    """A query that the page shows."""

    picture: bytes  # JPEG, of an upload


@dataclasses.dataclass(frozen=True)
class Gallery:
    """A run, whose network embeds an image on each device at a time, and the index that is shown.

    That is the index of its store, of a folder of images, or any other of the same network.
    """

    run: Run
    index: Index

    @functools.cached_property
    def _training_artists(self) -> frozenset[str]:
        return frozenset(map(splits.letters_of, self.run.artists_trained_on))

    @functools.cached_property
    def _entries(self) -> list[IndexedPainting]:
        return self.index.entries(range(len(self.index)))

    @property
    def is_of_store(self) -> bool:
        """Whether the run's own store is shown."""
        return self.index.folder == self.run.path / "index"

    def summary(self) -> dict[str, Any]:
        """Returns the counts of paintings, the values to filter by, and how artists are written."""
        paintings = [entry.painting for entry in self._entries]
        columns = {
            "artists": (painting.artist for painting in paintings),
            "styles": (painting.style for painting in paintings),
            "centuries": (catalog.century(painting.date) for painting in paintings),
        }
        test = self.run.store.splits["test"] if self.is_of_store else ()
        return {
            "name": self.run.path.resolve().name,
            "image_size": self.run.embedder.image_size,
            "paintings": len(paintings),
            "test_artists": artists_of(test, self.run.artists_trained_on) if test else None,
            **{name: sorted(set(column) - {""}) for name, column in columns.items()},
            "names": {entry.painting.artist: self._name(entry) for entry in self._entries},
        }

    def key(self) -> str:
        """Returns digits that are others for other pictures."""
        shown = (str(self.index.folder), self.index.facts, self.index.origins, len(self.index))
        return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]

    def picture(self, number: int) -> bytes:
        """Returns a painting of the index as a JPEG file.

        Raises:
          InputError: there is no such number.
          images.ImageError: its file is gone, or no longer an image.
        """
        return self._picture(self.index.entry(number))

    def _picture(self, entry: IndexedPainting) -> bytes:
        if self.is_of_store:
            return self.run.store.splits[entry.origin["split"]].picture(entry.position)
        return images.to_picture(images.read(lookup.picture_file(self.run, self.index, entry)))

    def _name(self, entry: IndexedPainting) -> str:
        """The artist as people write the name."""
        artist = entry.painting.artist
        return catalog.written_name(artist) if self._is_of_folder(entry) else artist

    def _title(self, entry: IndexedPainting) -> str:
        """The title as people write it."""
        title = entry.painting.title
        return catalog.written_title(title) if self._is_of_folder(entry) else title

    def _is_of_folder(self, entry: IndexedPainting) -> bool:
        """Whether folders and files have named the painting."""
        is_of_store = self.is_of_store and self.run.store.info.get("source") == "folder"
        return is_of_store or "images" in entry.origin

    def picture_from_index(self, number: int) -> Picture:
        """Returns a painting of the index; raises InputError if there is no such number."""
        entry = self.index.entry(number)
        return Picture(self.index.embedding(number), entry, b"")

    def picture_from_upload(self, data: bytes) -> Picture:
        """Decodes and embeds an image file.

        Raises:
          images.ImageError: it is not an image.
          InputError: the run's store was decoded in another way.
        """
        self.run.check_decoding()
        image, size = images.open_image(data), self.run.embedder.image_size
        image_SxSxC, picture = images.to_square_and_picture(data, image, size=size)
        return Picture(self.run.embedder.embed(image_SxSxC[None])[0], None, picture)

    def nearest(
        self, query: lookup.Query, k: int, filters: lookup.Filters, *, first: int
    ) -> list[dict[str, Any]]:
        """Returns k paintings: the nearest after `first`."""
        among_N = lookup.select(self.index, query, filters)
        found = lookup.nearest(self.index, query, k, among_N, first=first)
        return [self._describe(each) for each in found]

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
        written = {"name": self._name(entry), "title": self._title(entry)}
        return {
            "id": entry.id,
            "split": entry.origin.get("split"),
            "seen": seen,
            **known,
            **written,
        }

    def compare(self, first: lookup.Query, second: lookup.Query) -> dict[str, Any]:
        """Returns the distance of two pictures, and the probability of one artist."""
        distance = float(np.linalg.norm(first.emb_D - second.emb_D))
        return lookup.distance_and_probability(self.run, distance)

    def map(self) -> tuple[dict[str, Any], bytes]:
        """Returns all paintings with places from 0 to 1, and a JPEG sheet of their thumbnails.

        They come by columns, in a random order, so that the first ones stand for all: numbers as
        `id`, places as `x` and `y`, `title`, and for `artist`, `style` and `century` the numbers of
        values, which `values` lists. The sheet has `columns` thumbnails of `side` pixels in a row.
        """
        order_N, place_Nx2, sheet = self._kept_map()
        ordered = [self._entries[number] for number in order_N]
        known = {
            "artist": [self._name(entry) for entry in ordered],
            "style": [entry.painting.style for entry in ordered],
            "century": [catalog.century(entry.painting.date) for entry in ordered],
        }
        values = {name: sorted(set(column)) for name, column in known.items()}
        number = {name: {v: i for i, v in enumerate(found)} for name, found in values.items()}
        columns, side = _sheet_shape(len(ordered))
        x_N, y_N = place_Nx2[order_N].round(4).T.tolist()
        points = {
            "id": order_N.tolist(), "x": x_N, "y": y_N, "columns": columns, "side": side,
            "title": [self._title(entry) for entry in ordered], "values": values,
            **{name: [number[name][value] for value in known[name]] for name in known},
        }  # fmt: skip
        return points, sheet

    def _kept_map(self) -> tuple[np.ndarray, np.ndarray, bytes]:
        """The order, the places and the sheet of the map, which are kept in the index's folder."""
        path, count = self.index.folder / "paintings-map.npz", len(self.index)
        if not path.exists():
            order_N = np.random.default_rng(0).permutation(count)
            print(f"explore: placing {count} paintings on the map", flush=True)
            place_Nx2 = tsne.places_of_all(self.index.embeddings())
            sheet = np.frombuffer(self._sheet(order_N), np.uint8)
            with files.replacing(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, order_N=order_N, place_Nx2=place_Nx2, sheet=sheet)
        try:
            with open(path, "rb") as file, np.load(file) as kept:
                order_N, place_Nx2, sheet = kept["order_N"], kept["place_Nx2"], kept["sheet"]
        except UNREADABLE as error:
            raise InputError(f"{path} is damaged: delete it, and it is made again") from error
        if len(order_N) != count:  # The index has grown.
            path.unlink()
            return self._kept_map()
        return order_N, place_Nx2, sheet.tobytes()

    def _sheet(self, order_N: np.ndarray) -> bytes:
        columns, side = _sheet_shape(len(order_N))
        thumbnails = np.full((len(order_N), side, side, 3), 255, np.uint8)
        with Progress("thumbnails", total=len(order_N), unit="painting") as progress:
            for row, number in enumerate(order_N):
                thumbnails[row] = self._thumbnail(self._entries[number], side)
                progress.advance(1)
        return images.jpeg(images.sheet(thumbnails, columns=columns))

    def _thumbnail(self, entry: IndexedPainting, side: int) -> np.ndarray:
        if self.is_of_store:
            split = self.run.store.splits[entry.origin["split"]]
            image_SxSxC = images.thumbnail(split.image_NxSxSxC[entry.position], side)
        else:
            try:
                path = lookup.picture_file(self.run, self.index, entry)
                image_SxSxC = images.decode(images.read(path), size=side)
            except images.ImageError:  # removed since
                return np.full((side, side, 3), 200, np.uint8)
        missing = side - len(image_SxSxC)
        return np.pad(image_SxSxC, ((0, missing), (0, missing), (0, 0)), mode="edge")

    def _describe(self, neighbor: lookup.Neighbor) -> dict[str, Any]:
        return {
            **self.label(neighbor.entry),
            **lookup.distance_and_probability(self.run, neighbor.distance),
        }


def _sheet_shape(count: int) -> tuple[int, int]:
    """The number of thumbnails in a row of the sheet, and their side in pixels."""
    columns = math.ceil(math.sqrt(count))
    return columns, max(1, min(THUMBNAIL, SHEET // columns))


def open_gallery(run: Run, index: Index | None = None) -> Gallery:
    """Opens the gallery of an index, or of a run's store, which is embedded at the first time.

    Raises:
      InputError: the run has no calibration, its store has changed, or the index is empty or of
        another network.
    """
    run.needed_calibration()
    size = run.embedder.image_size
    if index is None:
        index = lookup.own_index(run)
    if not len(index):
        raise InputError(f"--index {index.folder} is not an index: make one with search --add")
    run.check_same_network(str(index.folder), index.facts)
    embedder = dataclasses.replace(run.embedder, batch_size=run.embedder.mesh.size)
    embedder.embed(np.zeros((1, size, size, 3), np.uint8))  # compiles it
    opened = Gallery(dataclasses.replace(run, embedder=embedder), index)
    _ = opened.attributor.collection  # Reads the index.
    return opened


def index_of_folder(run: Run, directory: Path, *, workers: int) -> Index:
    """Embeds the images of a folder, as `embed_folder` does, and returns their index.

    Both lie in RUN/shown; files that are there already are not embedded again.
    """
    name = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    folder = run.path / "shown" / name
    folder.mkdir(parents=True, exist_ok=True)
    embed_folder(run, directory, folder / "vectors.npz", workers=workers)
    vectors = embeddings.load(folder / "vectors.npz")
    content = _digest([vectors.emb_NxD.tobytes(), *(repr(p).encode() for p in vectors.paintings)])
    if not (folder / content).exists():
        for old in folder.glob("index-*"):
            shutil.rmtree(old)
        Index(folder / content).add(vectors)
    return Index(folder / content)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return f"index-{digest.hexdigest()[:16]}"
