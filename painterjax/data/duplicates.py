"""Duplicates: one picture in several files, of which at most one may be in a store.

The files may be equal to the byte, or in their decoded pixels, or nearly: another size, another
compression, a narrow border cut off. Two pictures are nearly the same where all of this holds:

* their perceptual hashes (`images.fingerprint`), 16 rows of 16 bits, share a row and differ in at
  most MAX_DISTANCE bits;
* the correlation of their pixels is at least MIN_CORRELATION.

`python -m benchmarks.near_duplicates` measured both limits: see docs/results.md.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from painterjax.common.progress import Progress
from painterjax.data import images, raster
from painterjax.data.catalog import Painting

VERSION = 1  # Another number where other files would count as duplicates.
MAX_DISTANCE = 40
MIN_CORRELATION = 0.9
COMPARED_SIDE = 32  # The side of pixels that are compared.
QUERIES = 4096  # At once; this bounds the memory.

COLUMNS = ("group", "file", "artist", "kind", "kept")
REASONS = {
    "bytes": "the same bytes as",
    "pixels": "the same pixels as",
    "near": "nearly the same picture as",
}


@dataclasses.dataclass(frozen=True)
class DecodedFile:
    """A decoded file."""

    painting: Painting
    place: int  # of its image among all decoded ones
    is_preferred: bool  # The table says to keep it.
    is_test: bool  # The source's own split tests on it, so that training may not have a copy.
    sha256: str  # of the file
    area: int  # of the file in pixels
    pixels_sha256: str
    phash: str = ""  # "" for a flat picture

    def kind(self, other: "DecodedFile") -> str:
        """Returns in what the two are equal: a key of REASONS."""
        if self.sha256 == other.sha256:
            return "bytes"
        return "pixels" if self.pixels_sha256 == other.pixels_sha256 else "near"


@dataclasses.dataclass(frozen=True)
class Group:
    """Two or more files of one picture; each is a duplicate of the first."""

    pictures: list[DecodedFile]

    @property
    def artists(self) -> set[str]:
        """The artists under whose names the picture is."""
        return {picture.painting.artist for picture in self.pictures}

    @property
    def kept(self) -> DecodedFile | None:
        """The first if it is certain who painted it, by the table or because all agree."""
        named = {p.painting.artist for p in self.pictures if p.is_preferred} or self.artists
        return self.pictures[0] if len(named) == 1 else None

    def rejected(self) -> list[tuple[DecodedFile, DecodedFile]]:
        """Returns each picture that is not kept, and that for which it is not."""
        if self.kept:
            return [(picture, self.kept) for picture in self.pictures[1:]]
        return [
            (picture, next(p for p in self.pictures if p.painting.artist != artist))
            for picture in self.pictures
            for artist in [picture.painting.artist]
        ]


def find(
    pictures: Sequence[DecodedFile], pixels: Callable[[np.ndarray], np.ndarray]
) -> list[Group]:
    """Groups duplicates; a picture is in one group at most.

    The first of a group is the one to keep: one that the table prefers, then one that the source's
    own split tests on, then the largest, then the first by file. All others are duplicates of that
    one itself, so that there are no chains.

    Args:
      pictures: all decoded files.
      pixels: maps places to the images there, uint8 N x S x S x 3.
    """
    ordered = sorted(pictures, key=_order)
    equal: dict[str, list[DecodedFile]] = collections.defaultdict(list)
    for picture in ordered:
        equal[picture.pixels_sha256].append(picture)
    hashed = [same[0] for same in equal.values() if same[0].phash]
    for first, near in _near(hashed, pixels):
        equal[first.pixels_sha256] += equal.pop(near.pixels_sha256)
    groups = [sorted(same, key=_order) for same in equal.values() if len(same) > 1]
    return [Group(same) for same in sorted(groups, key=lambda same: same[0].painting.file)]


def rejections(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Returns the file and the reason of each picture that is not kept."""
    rejected = []
    for picture, other in (pair for group in groups for pair in group.rejected()):
        same_artist = picture.painting.artist == other.painting.artist
        reason = f"{REASONS[picture.kind(other)]} {other.painting.file}"
        rejected.append((picture.painting.file, reason + " by another artist" * (not same_artist)))
    return rejected


def table(groups: Sequence[Group]) -> list[Sequence[object]]:
    """Returns the rows of `duplicates.csv`, with the columns COLUMNS as the first."""
    rows: list[Sequence[object]] = [COLUMNS]
    for number, group in enumerate(groups, 1):
        kinds = {id(picture): picture.kind(other) for picture, other in group.rejected()}
        for picture in group.pictures:
            kind, kept = kinds.get(id(picture), ""), "yes" if picture is group.kept else "no"
            rows.append((number, picture.painting.file, picture.painting.artist, kind, kept))
    return rows


def count(groups: Sequence[Group]) -> dict[str, int]:
    """Returns how many groups there are, of several artists, and dropped whole."""
    return {
        "groups": len(groups),
        "by_several_artists": sum(len(group.artists) > 1 for group in groups),
        "dropped_whole": sum(group.kept is None for group in groups),
    }


def _order(picture: DecodedFile) -> tuple:
    painting = picture.painting
    ranked = not picture.is_preferred, not picture.is_test, -picture.area
    return *ranked, painting.file, painting.artist, picture.place


def _near(
    pictures: Sequence[DecodedFile], pixels: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[DecodedFile, DecodedFile]]:
    """Yields each picture that is nearly the same as an earlier one, after that one.

    That one is the first of those that are not themselves nearly the same as an earlier one.
    """
    hash_NxB = np.array([list(bytes.fromhex(p.phash)) for p in pictures], np.uint8)
    is_taken_N = np.zeros(len(pictures), bool)
    for row, near_K in candidates(hash_NxB):
        near_K = near_K[~is_taken_N[near_K]]
        if is_taken_N[row] or not len(near_K):
            continue
        place_K = np.array([pictures[i].place for i in (row, *near_K)])
        near_K = near_K[correlation(pixels(place_K)) >= MIN_CORRELATION]
        is_taken_N[near_K] = True
        yield from ((pictures[row], pictures[i]) for i in near_K)


def candidates(hash_NxB: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields rows and the later rows whose hashes are near, where there are any, in order."""
    import faiss  # Here, so that processes which only decode need no memory for it.

    side = images.HASH_SIDE
    index = faiss.IndexBinaryMultiHash(side**2, side, side)
    with Progress("find duplicates", total=len(hash_NxB), unit="painting") as progress:
        if len(hash_NxB):
            index.add(hash_NxB)  # type: ignore[call-arg]
        for start in range(0, len(hash_NxB), QUERIES):
            hash_QxB = hash_NxB[start : start + QUERIES]
            limit, _, found = index.range_search(hash_QxB, MAX_DISTANCE + 1)  # type: ignore
            for query in np.flatnonzero(np.diff(limit) > 1):  # Each finds itself.
                row, near_K = int(start + query), np.sort(found[limit[query] : limit[query + 1]])
                if (near_K > row).any():
                    yield row, near_K[near_K > row]
            progress.advance(len(hash_QxB))


def correlation(image_NxSxSxC: np.ndarray) -> np.ndarray:
    """Returns the Pearson correlations of the first image's pixels with those of each other one.

    It is of thumbnails of COMPARED_SIDE pixels, all channels together; 0 for a constant image.
    """
    small = [raster.thumbnail(image_SxSxC, COMPARED_SIDE) for image_SxSxC in image_NxSxSxC]
    value_NxM = np.stack(small).reshape(len(small), -1).astype(np.float64)
    value_NxM -= value_NxM.mean(axis=1, keepdims=True)
    norm_N = np.linalg.norm(value_NxM, axis=1)
    return value_NxM[1:] @ value_NxM[0] / np.maximum(norm_N[1:] * norm_N[0], 1e-9)
