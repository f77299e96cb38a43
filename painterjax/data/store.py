"""The image store: one folder that `prepare` writes once and all other commands read.

    images.npy          uint8 N x S x S x 3, rows sorted by split, then artist; with --jpeg
                        images.array_record, of a JPEG file for each row
    paintings.parquet   index, split, artist, file, title, ...
    paintings.csv       the same for other programs, where there are few
    rejected.csv        file, reason
    duplicates.csv      group, file, artist, kind, kept
    pictures.zip        the whole paintings for people, where prepare kept them
    dataset.json        format version, image size, seed, fractions, counts, SHA-256

A store appears under its name when it is complete, and is refused where its files disagree.
"""

import dataclasses
import functools
import os
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from painterjax.common import checksums, files
from painterjax.common.errors import InputError
from painterjax.data import (
    catalog,
    columns,
    duplicates,
    encoded,
    pictures,
    raster,
    tables,
    verification,
)  # fmt: skip
from painterjax.data.encoded import EncodedImages
from painterjax.data.images import DECODING
from painterjax.data.pictures import Pictures

STORE_VERSION = 2
TEST_FRACTION, VAL_FRACTION = 0.2, 0.1  # of artists; of a training artist's paintings
PIXELS = "images.npy"
FILES = (tables.PARQUET, "rejected.csv")
# The files of each format version, beside the images.
FILES_OF = {1: (tables.CSV, "rejected.csv"), STORE_VERSION: FILES}
# Some stores lack these, of an earlier version, with many paintings or with --no-pictures.
DUPLICATES = "duplicates.csv"
OPTIONAL = (tables.CSV, DUPLICATES, pictures.NAME, verification.NAME)
NOT_TRAINED_ON = (tables.PARQUET, pictures.NAME, verification.NAME)
SLUGS_OF = ("folder", "parquet")  # sources whose names are mostly such as claude-monet
ROWS = "rows"  # What is in tables.PARQUET, whose bytes depend on the version of Arrow.


@dataclasses.dataclass(frozen=True)
class StorePlan:
    """What decides every byte of a store; these are keys of plan.json and dataset.json."""

    source: str  # the subcommand of prepare
    image_size: int
    seed: int
    test_fraction: float | None  # None where it decides nothing
    val_fraction: float
    listing_sha256: str  # of the list of paintings
    sizes_sha256: str | None = None  # of the sizes of their files; without files there is none
    split_by: str | None = None  # prepare's --split-by; None is artist
    without_holdout: bool | None = None  # True where held-out artists are left out
    duplicates: int = duplicates.VERSION  # how they are found
    decoding: int = DECODING  # which pixels a file has
    picture_side: int | None = None  # of pictures for people, at most; None where there are none
    jpeg: int | None = None  # quality of the images' JPEG files; None keeps their pixels

    def as_json(self) -> dict[str, Any]:
        """Returns the keys and their values, without those that are None."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Split:
    """The paintings of one split, in rows that are sorted by artist.

    Where a frozen backbone has read the images already, `feature_NxF` is what training takes.
    """

    name: str  # train, val or test
    image_NxSxSxC: np.ndarray  # uint8: a memory map, or EncodedImages, which are read as one
    artist_N: np.ndarray  # int32 artist numbers, ascending, counted from 0 within the split
    artists: list[str]  # their names by number
    paintings: columns.Paintings | list[catalog.Painting]
    feature_NxF: np.ndarray | None = None  # float32
    first_row: int = 0  # in the store
    pictures: Pictures | None = None  # of the store, for people
    has_slugs: bool = False  # whether folders, files or class labels have named what is in it

    def __len__(self) -> int:
        return len(self.artist_N)

    @property
    def inputs(self) -> np.ndarray:
        """What a network is trained on: features where there are some, else the images."""
        return self.image_NxSxSxC if self.feature_NxF is None else self.feature_NxF

    @functools.cached_property
    def written(self) -> dict[str, str]:
        """Each artist as people write the name."""
        write = catalog.written_name if self.has_slugs else str
        return {artist: write(artist) for artist in self.artists}

    def written_title(self, row: int) -> str:
        """Returns a title as people write it."""
        title = self.paintings[row].title
        return catalog.written_title(title) if self.has_slugs else title

    def picture(self, row: int) -> bytes:
        """Returns a painting as a JPEG file for people: the whole of it, or else the square."""
        if self.pictures is None:
            return raster.jpeg(self.image_NxSxSxC[row])
        return self.pictures.read(self.first_row + row)


@dataclasses.dataclass(frozen=True)
class Store:
    """An opened store: `info` is the contents of dataset.json."""

    path: Path
    info: dict[str, Any]
    splits: dict[str, Split]

    @property
    def image_size(self) -> int:
        """The side of every image in pixels."""
        return self.info["image_size"]

    @property
    def sha256(self) -> dict[str, str]:
        """Of each file that decides what is trained."""
        return identity(self.info)["sha256"]


def identity(info: dict[str, Any]) -> dict[str, Any]:
    """Returns a dataset.json without what it says of files on which nothing is trained."""
    digests = info.get("sha256")
    kept = {key: value for key, value in info.items() if key != "picture_side"}
    if isinstance(digests, dict):  # A run's copy may hold anything.
        kept["sha256"] = {name: of for name, of in digests.items() if name not in NOT_TRAINED_ON}
    return kept


def images_file(info: dict[str, Any]) -> str:
    """Returns the name of the file that has the images of a store."""
    return PIXELS if info.get("jpeg") is None else encoded.NAME


def write_images(path: Path, batches: Iterable[np.ndarray], *, rows: int, size: int) -> None:
    """Writes batches of uint8 images as one .npy file of shape (rows, size, size, 3)."""
    shape = (rows, size, size, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    # On a full disk a memory map would die of SIGBUS; a write raises OSError.
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for image_BxSxSxC in batches:
            file.write(image_BxSxSxC.tobytes())
        file.flush()
        os.fsync(file.fileno())


def write_info(path: Path, info: dict[str, Any], rows: pa.Table) -> None:
    """Writes dataset.json: `info`, the format version and the SHA-256 of the store's files."""
    names = [name for name in (images_file(info), *FILES, *OPTIONAL) if (path / name).exists()]
    digests = verification.digests(path, names)
    digests[ROWS] = columns.digest(rows.select(tables.ROWS_SCHEMA.names))
    info = {"format_version": STORE_VERSION, **info, "sha256": digests}
    files.write_json(path / "dataset.json", info)


def open_store(path: str | Path) -> Store:
    """Opens a store and checks it; images stay on disk.

    Raises:
      InputError: there is no store, its version is unknown, or its files contradict each other.
      OSError: a file cannot be read.
    """
    path = Path(path)
    info = _read_info(path)
    rows = _read_rows(path, info)
    image_NxSxSxC = _open_images(path, info, len(rows))
    kept = Pictures(path / pictures.NAME) if pictures.NAME in _files(info) else None
    has_slugs = info.get("source") in SLUGS_OF
    splits = {
        name: dataclasses.replace(
            _split(name, rows, image_NxSxSxC, range_), pictures=kept, has_slugs=has_slugs
        )
        for name, range_ in columns.ranges(rows).items()
    }
    counts = {
        name: {"paintings": len(split), "artists": len(split.artists)}
        for name, split in splits.items()
    }
    recorded = info["counts"] if isinstance(info["counts"], dict) else {}
    if {name: recorded.get(name) for name in counts} != counts or "rejected" not in recorded:
        raise _damaged(f"{path}/dataset.json counts {recorded}, expected {counts}")
    return Store(path, info, splits)


def verify(path: Path, *, share: tuple[int, int] = (0, 1), anew: bool = False) -> None:
    """Raises InputError where a file is not what prepare wrote; see data/verification.py.

    Args:
      path: the store.
      share: which of how many shares to check, one of each process.
      anew: whether to read also what was found intact on this machine.
    """
    info = _read_info(path)
    sha256 = {name: info["sha256"][name] for name in _files(info)}
    if anew:
        verification.forget(path, sha256)
    if name := verification.damaged(path, sha256, share=share):
        raise _damaged(f"{path}/{name} is not what prepare wrote")


def _damaged(what: str) -> InputError:
    return InputError(f"{what}: delete it and run painterjax.prepare again")


def _read_info(path: Path) -> dict[str, Any]:
    if not (path / "dataset.json").is_file():
        raise InputError(f"no store at {path}: make one with python -m painterjax.prepare")
    try:
        info = files.read_json(path / "dataset.json")
        version = info["format_version"]
        _ = info["image_size"], info["counts"]
        _ = [info["sha256"][name] for name in (images_file(info), *FILES_OF.get(version, ()))]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(f"{path}/dataset.json is damaged ({error!r})") from error
    if type(version) is not int or version not in FILES_OF:
        expected = " or ".join(map(str, FILES_OF))
        raise _damaged(f"{path} has format version {version}, expected {expected}")
    if missing := [name for name in _files(info) if not (path / name).is_file()]:
        raise _damaged(f"{path} lacks {', '.join(missing)}")
    return info


def _files(info: dict[str, Any]) -> tuple[str, ...]:
    required = (images_file(info), *FILES_OF[info["format_version"]])
    return (*required, *(n for n in OPTIONAL if n in info["sha256"] and n not in required))


def _read_rows(path: Path, info: dict[str, Any]) -> pa.Table:
    name = FILES_OF[info["format_version"]][0]
    if checksums.sha256(path / name) != info["sha256"][name]:
        raise _damaged(f"{path}/{name} was changed after prepare")
    if name == tables.PARQUET:
        return tables.read_rows(path / name)
    try:
        return tables.from_csv((path / name).read_bytes().decode())
    except UnicodeDecodeError as error:
        raise _damaged(f"{path}/{name} cannot be read ({error})") from error


def _open_images(path: Path, info: dict[str, Any], rows: int) -> np.ndarray:
    if images_file(info) == encoded.NAME:
        if (found := encoded.count(path / encoded.NAME)) != rows:
            raise _damaged(f"{path}/{encoded.NAME} has {found} images, expected {rows}")
        images = EncodedImages(path / encoded.NAME, range(rows), size=info["image_size"])
        return cast(np.ndarray, images)
    try:
        image_NxSxSxC = np.lib.format.open_memmap(path / "images.npy", mode="r")
    except (ValueError, tokenize.TokenError) as error:
        raise _damaged(f"{path}/images.npy cannot be read ({error})") from error
    expected = (rows, info["image_size"], info["image_size"], 3)
    if image_NxSxSxC.shape != expected or image_NxSxSxC.dtype != np.uint8:
        found = f"{image_NxSxSxC.dtype} {image_NxSxSxC.shape}"
        raise _damaged(f"{path}/images.npy is {found}, expected uint8 {expected}")
    return image_NxSxSxC


def _split(
    name: str, rows: pa.Table, image_NxSxSxC: np.ndarray, start_and_stop: tuple[int, int]
) -> Split:
    start, stop = start_and_stop
    paintings = columns.Paintings(rows.slice(start, stop - start))
    artists, artist_N = columns.numbered(paintings.table["artist"])
    return Split(name, image_NxSxSxC[start:stop], artist_N, artists, paintings, first_row=start)
