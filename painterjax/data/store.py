"""The image store on disk: one folder that `prepare` writes once and everything else reads.

    images.npy      uint8 N x S x S x 3, rows sorted by split, then artist
    paintings.csv   index, split, artist, file, title, ...
    rejected.csv    file, reason
    dataset.json    format version, image size, seed, fractions, counts, SHA-256

A store appears under its name when it is whole, and is refused where its files disagree.
"""

import dataclasses
import hashlib
import os
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import checksums, files
from painterjax.common.errors import InputError
from painterjax.data import catalog

FORMAT_VERSION = 1
FILES = ("images.npy", "paintings.csv", "rejected.csv")
REMEDY = "delete it and run painterjax.prepare again"


@dataclasses.dataclass(frozen=True)
class Split:
    """The paintings of one split.

    Attributes:
      name: train, val or test.
      image_NxSxSxC: uint8, a memory map.
      artist_N: int32 artist number, ascending; counted within the split from 0.
      artists: the artists' names by number.
      paintings: what the catalog knows of each row.
    """

    name: str
    image_NxSxSxC: np.ndarray
    artist_N: np.ndarray
    artists: list[str]
    paintings: list[catalog.Painting]

    def __len__(self) -> int:
        return len(self.artist_N)


@dataclasses.dataclass(frozen=True)
class Store:
    """A checked store: its three splits, and `info`, the contents of dataset.json."""

    path: Path
    info: dict[str, Any]
    splits: dict[str, Split]

    @property
    def image_size(self) -> int:
        """The side of every image in pixels."""
        return self.info["image_size"]


def write_images(path: Path, batches: Iterable[np.ndarray], *, rows: int, size: int) -> None:
    """Writes batches of uint8 images as one .npy file of shape (rows, size, size, 3)."""
    shape = (rows, size, size, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    # Not a memory map: on a full disk that dies of SIGBUS, and a write raises OSError.
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for image_BxSxSxC in batches:
            file.write(image_BxSxSxC.tobytes())
        file.flush()
        os.fsync(file.fileno())


def seal(path: Path, info: dict[str, Any]) -> None:
    """Writes dataset.json: `info`, the format version and the SHA-256 of the store's files."""
    sealed = {"format_version": FORMAT_VERSION, **info}
    sealed["sha256"] = {name: checksums.sha256(path / name) for name in FILES}
    files.write_json(path / "dataset.json", sealed)


def open_store(path: str | Path) -> Store:
    """Opens a store and checks it; images stay on disk.

    Raises:
      InputError: there is no store, its version is unknown, or its files contradict each other.
      OSError: a file cannot be read.
    """
    path = Path(path)
    info = _read_info(path)
    text = (path / "paintings.csv").read_bytes()
    if hashlib.sha256(text).hexdigest() != info["sha256"]["paintings.csv"]:
        raise InputError(f"{path}/paintings.csv was changed after prepare: {REMEDY}")
    try:
        rows = catalog.from_csv(text.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path}/paintings.csv cannot be read ({error}): {REMEDY}") from error
    try:
        images = np.lib.format.open_memmap(path / "images.npy", mode="r")
    except (ValueError, tokenize.TokenError) as error:
        raise InputError(f"{path}/images.npy cannot be read ({error}): {REMEDY}") from error
    expected = (len(rows), info["image_size"], info["image_size"], 3)
    if images.shape != expected or images.dtype != np.uint8:
        found = f"{images.dtype} {images.shape}"
        raise InputError(f"{path}/images.npy is {found}, expected uint8 {expected}: {REMEDY}")
    splits = {name: _split(name, rows, images) for name in catalog.SPLITS}
    counts = {name: {"paintings": len(s), "artists": len(s.artists)} for name, s in splits.items()}
    said = info["counts"] if isinstance(info["counts"], dict) else {}
    if {name: said.get(name) for name in counts} != counts or "rejected" not in said:
        raise InputError(f"{path}/dataset.json counts {said}, expected {counts}: {REMEDY}")
    return Store(path, info, splits)


def verify(path: Path) -> None:
    """Reads every file of a store; raises InputError where a SHA-256 is not the recorded one."""
    info = _read_info(path)
    for name in FILES:
        if checksums.sha256(path / name) != info["sha256"][name]:
            raise InputError(f"{path}/{name} is not what prepare wrote: {REMEDY}")


def _read_info(path: Path) -> dict[str, Any]:
    if not (path / "dataset.json").is_file():
        raise InputError(f"no store at {path}: make one with python -m painterjax.prepare")
    try:
        info = files.read_json(path / "dataset.json")
        version = info["format_version"]
        _ = info["image_size"], info["counts"], [info["sha256"][name] for name in FILES]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}/dataset.json is damaged ({error!r}): {REMEDY}") from error
    if version != FORMAT_VERSION:
        found = f"{path} has format version {version}, expected {FORMAT_VERSION}"
        raise InputError(f"{found}: {REMEDY}")
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}: {REMEDY}")
    return info


def _split(name: str, rows: list[catalog.Row], images: np.ndarray) -> Split:
    index = [i for i, row in enumerate(rows) if row.split == name]
    paintings = [rows[i].painting for i in index]
    first = index[0] if index else 0
    artists = sorted({painting.artist for painting in paintings})
    number = {artist: i for i, artist in enumerate(artists)}
    artist_N = np.array([number[painting.artist] for painting in paintings], np.int32)
    return Split(name, images[first : first + len(index)], artist_N, artists, paintings)
