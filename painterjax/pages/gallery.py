"""A run's paintings for the web page: nearest paintings and artists, comparisons, and the map."""

import dataclasses
import functools
import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common.errors import InputError
from painterjax.data import catalog, images, splits
from painterjax.index import lookup, opening, pictures
from painterjax.index.attribution import Attributor
from painterjax.index.database import IndexedPainting
from painterjax.index.filters import Filters, select
from painterjax.index.index import Index
from painterjax.model import likeness
from painterjax.run import embeddings
from painterjax.run.embed import embed_folder
from painterjax.run.figures import artists_of
from painterjax.run.load import NETWORK, Run

ARTISTS = 6  # of a picture that are shown
DOUBTFUL = 100  # paintings at most


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
    def entries(self) -> list[IndexedPainting]:
        """All paintings of the index."""
        return self.index.entries(range(len(self.index)))

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        """How each artist is written."""
        return {entry.painting.artist: self.name(entry) for entry in self.entries}

    @property
    def is_of_store(self) -> bool:
        """Whether the run's own store is shown."""
        return self.index.folder == self.run.path / "index"

    def summary(self) -> dict[str, Any]:
        """Returns counts of paintings, values to filter by, and how artists are written.

        Of paintings beyond `wide` times as long as high the network sees all; None if of none.
        """
        paintings = [entry.painting for entry in self.entries]
        columns = {
            "artists": (painting.artist for painting in paintings),
            "styles": (painting.style for painting in paintings),
            "centuries": (catalog.century(painting.date) for painting in paintings),
        }
        test = self.run.store.splits["test"] if self.is_of_store else ()
        return {
            "name": self.run.path.resolve().name,
            "image_size": self.run.embedder.image_size,
            "tells_artists": self.tells_artists,
            "has_probabilities": self.run.calibration is not None,
            "wide": None if lookup.squares_of(self.index) == 1 else images.WIDE,
            "paintings": len(paintings),
            "test_artists": artists_of(test, self.run.artists_trained_on) if test else None,
            **{name: sorted(set(column) - {""}) for name, column in columns.items()},
            "names": self._names,
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
        entry = self.index.entry(number)
        picture = pictures.picture(self.run, self.index, entry)
        if picture is None:
            raise images.ImageError(f"{entry.painting.file} is gone")
        return picture

    def name(self, entry: IndexedPainting) -> str:
        """The artist as people write the name."""
        artist = entry.painting.artist
        return catalog.written_name(artist) if self._has_slugs(entry) else artist

    def title(self, entry: IndexedPainting) -> str:
        """The title as people write it."""
        title = entry.painting.title
        return catalog.written_title(title) if self._has_slugs(entry) else title

    def _has_slugs(self, entry: IndexedPainting) -> bool:
        """Whether folders, files or class labels have named the painting."""
        if self.is_of_store:
            return self.run.store.splits[entry.origin["split"]].has_slugs
        return "images" in entry.origin

    def query_from_index(self, number: int) -> lookup.Query:
        """Returns a painting of the index; raises InputError if there is no such number."""
        entry = self.index.entry(number)
        return lookup.Query(self.index.embedding(number), entry)

    def query_from_upload(self, data: bytes) -> lookup.Query:
        """Decodes and embeds an image file; raises as `lookup.query_of` does."""
        return lookup.query_of(self.run, self.index, data)

    def nearest(
        self, query: lookup.Query, k: int, filters: Filters, *, first: int
    ) -> list[dict[str, Any]]:
        """Returns k paintings: the nearest after `first`."""
        among_N = select(self.index, query.entry, filters)
        found = lookup.nearest(self.index, query, k, among_N, first=first)
        return [self._describe(each) for each in found]

    @functools.cached_property
    def attributor(self) -> Attributor:
        """What tells who painted a picture, by all paintings of the index."""
        return Attributor(self.run, self.index)

    @functools.cached_property
    def tells_artists(self) -> bool:
        """Whether it can: an untrained backbone cannot, nor is there an answer without names."""
        return self.run.is_trained and bool(self.attributor.collection.artists)

    def answer(self, query: lookup.Query, k: int, filters: Filters) -> dict[str, Any]:
        """Returns the k `nearest` paintings, and the likeliest `artists` and `someone_else`.

        The filters choose which artists are shown, and their nearest painting that describes each;
        the probabilities are always those in view of the whole index. Where artists cannot be told,
        `someone_else` is None.
        """
        among_N = select(self.index, query.entry, filters)
        found = lookup.nearest(self.index, query, k, among_N)
        nearest = [self._describe(neighbor) for neighbor in found]
        if not self.tells_artists:
            return {"nearest": nearest, "artists": [], "someone_else": None}
        return {"nearest": nearest, **self._artists(query, among_N)}

    def _artists(self, query: lookup.Query, among_N: np.ndarray | None) -> dict[str, Any]:
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
        return {"artists": artists, "someone_else": found.someone_else}

    @functools.cached_property
    def doubtful(self) -> tuple[int, list[dict[str, Any]]]:
        """How many paintings are likelier by another artist than by their own; DOUBTFUL at most.

        Those whose artist is least likely come first. Each has the `probability` of the artist, and
        the `likeliest` with the `likeliest_probability`.
        """
        if not self.tells_artists:
            return 0, []
        found = [pair for pair in self.attributor.of_index() if pair[1].is_doubtful]
        return len(found), [
            {
                **self.label(entry),
                "probability": each.probability,
                "likeliest": self._names[each.answer.candidates[0].artist],
                "likeliest_probability": each.answer.candidates[0].probability,
            }
            for entry, each in found[:DOUBTFUL]
        ]

    def label(self, entry: IndexedPainting) -> dict[str, Any]:
        """Returns what is known of a painting, and as `seen` whether training saw its artist."""
        known = dataclasses.asdict(entry.painting)
        seen = splits.letters_of(entry.painting.artist) in self._training_artists
        written = {"name": self.name(entry), "title": self.title(entry)}
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

    def likeness(self, first: lookup.Query, second: lookup.Query) -> np.ndarray:
        """Returns where two pictures are alike: for each M x M shares from 0 to 1.

        Raises:
          InputError: a painting's file is gone.
        """
        seen = (lookup.query_pixels(self.run, self.index, each) for each in (first, second))
        return likeness.shares(likeness.likeness(self.run.embedder, np.stack([*seen]))[1])

    def _describe(self, neighbor: lookup.Neighbor) -> dict[str, Any]:
        return {
            **self.label(neighbor.entry),
            **lookup.distance_and_probability(self.run, neighbor.distance),
        }


def open_gallery(run: Run, index: Index | None = None) -> Gallery:
    """Opens the gallery of an index, or of a run's store, which is embedded at the first time.

    Raises:
      InputError: a trained run has no calibration, its store has changed, or the index is empty or
        of another network.
    """
    if run.is_trained:
        run.needed_calibration()
    size = run.embedder.image_size
    if index is None:
        index = opening.own_index(run)
    if not len(index):
        raise InputError(f"--index {index.folder} is not an index: make one with search --add")
    run.check_same_network(str(index.folder), index.facts)
    embedder = dataclasses.replace(run.embedder, batch_size=run.embedder.mesh.size)
    embedder.embed(np.zeros((1, size, size, 3), np.uint8))  # compiles it
    opened = Gallery(dataclasses.replace(run, embedder=embedder), index)
    _ = opened.tells_artists  # Reads the index.
    return opened


def index_of_folder(run: Run, directory: Path, *, workers: int) -> Index:
    """Embeds the images of a folder, as `embed_folder` does, and returns their index.

    Both lie in RUN/shown; files that are there already are not embedded again.
    """
    if run.path.resolve().is_relative_to(directory.resolve()):
        raise InputError(
            f"--images {directory} holds {run.path}, where its vectors are to be kept: run this in"
            " another folder, or show a folder that does not hold it"
        )
    # Of each network its own.
    name = _digest([str(directory.resolve()).encode(), run.origin[NETWORK].encode()])
    folder = run.path / "shown" / name
    folder.mkdir(parents=True, exist_ok=True)
    embed_folder(run, directory, folder / "vectors.npz", workers=workers)
    vectors = embeddings.load(folder / "vectors.npz")
    described = (repr(painting).encode() for painting in vectors.paintings)
    content = f"index-{_digest([vectors.emb_NxD.tobytes(), *described])}"
    if not len(Index(folder / content)):
        for old in folder.glob("index-*"):
            shutil.rmtree(old)
        Index(folder / content).add(vectors)
    return Index(folder / content)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
