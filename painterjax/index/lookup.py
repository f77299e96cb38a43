"""Answers a query from an index: the nearest paintings, and how probably they are by one artist."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.data.catalog import Painting
from painterjax.data.columns import Paintings
from painterjax.index import pictures
from painterjax.index.database import IndexedPainting
from painterjax.index.filters import Filters, select
from painterjax.index.index import Index
from painterjax.model.embedder import embed_squares
from painterjax.run.embed import embed_folder
from painterjax.run.embeddings import SAME_IMAGE
from painterjax.run.load import Run

COPIES = 5  # of a picture that an index can have


@dataclasses.dataclass(frozen=True)
class Query:
    """The embedding to look up, and its painting if it is one of the index.

    Of an image that was given as a file, `image_SxSxC` is what the network sees of its center.
    """

    emb_D: np.ndarray
    entry: IndexedPainting | None
    image_SxSxC: np.ndarray | None = None
    file: bytes = b""

    @functools.cached_property
    def picture(self) -> bytes:
        """The whole image that was given, as a JPEG file for people."""
        return images.to_picture(self.file)


@dataclasses.dataclass(frozen=True)
class Neighbor:
    """A painting that was found, and its distance from the query."""

    entry: IndexedPainting
    distance: float


def parse_query(text: str, index: Index, run: Run) -> Query:
    """Returns the query for an image file, or for a painting's number or file name in the index.

    A file with the same pixels as a painting of the index is that painting.
    """
    path = Path(text)
    if path.is_file():
        try:
            query = query_of(run, index, images.read(path))
        except images.ImageError as error:
            raise InputError(f"--query {path}: {error}") from error
        entry = _same_picture(run, index, query)
        return dataclasses.replace(query, entry=entry)
    numbers = [int(text)] if text.isdecimal() else np.flatnonzero(index.find(file=text)).tolist()
    if not numbers:
        raise InputError(
            f"--query {text} is neither a file nor a painting of {index.folder}: give an image, or"
            " a painting's number or file name there"
        )
    entry = index.entry(numbers[0])
    return Query(index.embedding(entry.id), entry)


def query_of(run: Run, index: Index, data: bytes) -> Query:
    """Returns the query for an image file's bytes.

    Raises:
      images.ImageError: it is not an image.
      InputError: the run's store was decoded in another way.
    """
    square_KxSxSxC = _decoded(run, data, squares_of(index))
    (emb_D,) = embed_squares(run.embedder, [square_KxSxSxC])
    center_SxSxC = square_KxSxSxC[len(square_KxSxSxC) // 2]
    return Query(emb_D, None, center_SxSxC, data)


def squares_of(index: Index) -> int:
    """Returns how many squares of a wide painting the vectors of an index are of, at most.

    One in a store, which keeps the center alone. Queries are embedded in the same way, so that a
    picture has one vector.
    """
    return min((origin.get("squares", 1) for origin in index.origins), default=1)


def embed_images(
    run: Run, index: Index, path: Path, output: Path, *, workers: int
) -> tuple[Paintings | list[Painting], np.ndarray]:
    """Embeds an image, or those below a folder into OUTPUT.npz, to be compared with an index.

    Returns:
      What the names of files and folders say of the images, and their embeddings.

    Raises:
      InputError: there is no image that can be read, or the run's store was decoded in another way.
    """
    squares = squares_of(index)
    if path.is_file():
        try:
            square_KxSxSxC = _decoded(run, images.read(path), squares)
        except images.ImageError as error:
            raise InputError(f"--images {path}: {error}") from error
        return [Painting(path.name, "")], embed_squares(run.embedder, [square_KxSxSxC])
    vectors = output.with_name(output.name + ".npz")
    embedded, _ = embed_folder(run, path, vectors, workers=workers, squares=squares)
    return embedded.paintings, embedded.emb_NxD


def _decoded(run: Run, data: bytes, squares: int) -> np.ndarray:
    run.check_decoding()
    image = images.open_image(data)
    return images.to_squares(image, size=run.embedder.image_size, most=squares)


def _same_picture(run: Run, index: Index, query: Query) -> IndexedPainting | None:
    """The painting of the index that an image shows, to the pixel; None where there is none."""
    emb_D, seen_SxSxC = query.emb_D, query_pixels(run, index, query)
    if len(index) and index.embedding(0).shape == emb_D.shape:  # Else the caller refuses it.
        distance_R, number_R = index.nearest(emb_D, COPIES)
        near_R = distance_R <= SAME_IMAGE * np.linalg.norm(emb_D)
        for entry in index.entries(number_R[near_R].tolist()):
            pixels_SxSxC = pictures.pixels(run, index, entry)
            if pixels_SxSxC is not None and np.array_equal(pixels_SxSxC, seen_SxSxC):
                return entry
    return None


def query_pixels(run: Run, index: Index, query: Query) -> np.ndarray:
    """Returns what the network sees of a query; raises InputError where its file is gone."""
    if query.image_SxSxC is not None:
        return query.image_SxSxC
    assert query.entry is not None, "of the index, if no file was given"
    image_SxSxC = pictures.pixels(run, index, query.entry)
    if image_SxSxC is None:
        raise InputError(f"{query.entry.painting.file} is gone: bring it back")
    return image_SxSxC


def pairs(
    run: Run, index: Index, query: Query, numbers: list[int]
) -> tuple[np.ndarray, list[tuple[bytes, bytes]]]:
    """Returns a query beside each painting, without those that are gone.

    Returns:
      What the network sees of them, uint8 P x 2 x S x S x 3, and both as JPEG files for people.
    """
    first_SxSxC = query_pixels(run, index, query)
    first = pictures.picture(run, index, query.entry) if query.entry else query.picture
    assert first is not None, "its pixels are there"
    seen, shown = [], []
    for entry in index.entries(numbers):
        second_SxSxC = pictures.pixels(run, index, entry)
        second = pictures.picture(run, index, entry)
        if second_SxSxC is not None and second is not None:
            seen.append([first_SxSxC, second_SxSxC])
            shown.append((first, second))
    return np.array(seen), shown


def answer(run: Run, index: Index, query: Query, k: int, filters: Filters) -> list[dict[str, Any]]:
    """Returns descriptions of the k nearest paintings that fit the filters, nearest first."""
    found = nearest(index, query, k, select(index, query.entry, filters))
    return [describe(run, index, each.entry, each.distance) for each in found]


def nearest(
    index: Index, query: Query, k: int, among_N: np.ndarray | None = None, *, first: int = 0
) -> list[Neighbor]:
    """Returns k of the selected paintings without the query's own: the nearest after `first`."""
    own = -1 if query.entry is None else query.entry.id
    distance_R, number_R = index.nearest(query.emb_D, first + k + (own >= 0), among_N=among_N)
    row_K = np.flatnonzero(number_R != own)[first : first + k]
    entries = index.entries(number_R[row_K].tolist())
    return [Neighbor(*each) for each in zip(entries, distance_R[row_K].tolist(), strict=True)]


def describe(run: Run, index: Index, entry: IndexedPainting, distance: float) -> dict[str, Any]:
    """Returns what the answer to a query says of a painting."""
    return {
        "id": entry.id,
        **distance_and_probability(run, distance),
        **dataclasses.asdict(entry.painting),
        "image": str(pictures.picture_file(run, index, entry)),
    }


def distance_and_probability(run: Run, distance: float) -> dict[str, float | None]:
    """Returns a distance, and the probability of one artist; None if there is no calibration."""
    probability = None
    if run.calibration is not None:
        probability = float(run.calibration.probability(distance))
    return {"distance": distance, "probability": probability}
