"""Sources of paintings: each lists its paintings and has a function that loads one."""

import dataclasses
import functools
import hashlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from painterjax.common.errors import InputError
from painterjax.common.progress import counted
from painterjax.data import catalog, images, synthetic
from painterjax.data.catalog import Painting

KNOWN = ("title", "style", "genre", "date")  # Columns that a table may have.
KEEP = "keep"  # The column of a table that says which of several duplicates to keep.
# Maps (painting, size S) to the file's "sha256" and "area" in pixels, and uint8 S x S x 3, or
# raises ImageError. With pictures=True, a file's "picture" is the whole of it, as JPEG. Workers run
# it, so it must pickle.
Loader = Callable[..., tuple[dict[str, Any], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Source:
    """A listed collection."""

    paintings: list[Painting]  # every candidate, sorted by file
    rejected: list[tuple[str, str]]  # (file, reason) for what cannot be listed as a painting
    load: Loader
    directory: Path | None = None  # of the files; None for a source without files
    split_by_file: dict[str, str] | None = None  # the source's own split, where it is asked for
    preferred: frozenset[Painting] = frozenset()  # what the table says to keep among duplicates


def folder(directory: Path) -> Source:
    """Lists DIR/<artist>/**/<file>; the title is the file name without its ending."""
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder; expected {directory}/<artist>/<image>")
    found = files_below(directory)
    paintings = [painting for painting in found.paintings if painting.artist]
    nameless = [(p.file, "not in an artist's folder") for p in found.paintings if not p.artist]
    rejected = [*found.rejected, *nameless]
    if not paintings:
        raise InputError(
            f"{directory} has {counted(len(rejected), 'file')} and none in an artist's folder;"
            f" expected {directory}/<artist>/<image>"
        )
    return dataclasses.replace(found, paintings=paintings, rejected=rejected)


def files_below(directory: Path) -> Source:
    """Lists every file at any depth; the artist is the first folder, "" for a file in none."""
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder")
    paintings, rejected = [], []
    for path in _visible_files(directory):
        file = path.as_posix().encode(errors="surrogateescape").decode(errors="backslashreplace")
        if file != path.as_posix():  # Tables and hashes cannot hold such a name.
            rejected.append((file, "the file's name is not UTF-8"))
        elif (directory / path).is_dir():
            rejected.append((file, "a link to a folder, which is not followed"))
        else:
            artist = path.parts[0] if len(path.parts) > 1 else ""
            paintings.append(Painting(file, artist, title=path.stem))
    return _of_files(catalog.with_one_name_each(paintings), rejected, directory)


def csv_table(table: Path, directory: Path, *, own_split: bool = False) -> Source:
    """Lists a CSV file with the columns file and artist, and title, style, genre, date if known.

    With `own_split` it also has the column split: train, val or test. "yes" in a column `keep`
    names what is kept of several files of one picture.
    """
    if not directory.is_dir():
        raise InputError(f"--images {directory} is not a folder")
    required = ("file", "artist", "split") if own_split else ("file", "artist")
    records = catalog.read_table(table, required=required)
    source = _from_table(table, records, [record["file"] for record in records], directory)
    if not own_split:
        return source
    return dataclasses.replace(source, split_by_file=_split_column(table, records))


def _split_column(table: Path, records: list[dict[str, str]]) -> dict[str, str]:
    split_by_file: dict[str, str] = {}
    for record in records:
        file, split = record["file"], record["split"].strip()
        if split not in catalog.SPLITS:
            raise InputError(
                f"{table} has {file} in the split {split!r}: must be {' or '.join(catalog.SPLITS)}"
            )
        if split_by_file.setdefault(file, split) != split:
            raise InputError(
                f"{table} has {file} in {split_by_file[file]} and in {split}: keep one of them"
            )
    return split_by_file


def kaggle(directory: Path, *, own_split: bool = False) -> Source:
    """Lists Painter by Numbers by its all_data_info.csv, or its train_info.csv if that is missing.

    The images are DIR/train/<file> and DIR/test/<file>, and `own_split` keeps these apart.
    Source: https://www.kaggle.com/c/painter-by-numbers/data
    """
    if (table := directory / "all_data_info.csv").is_file():
        records = catalog.read_table(table, required=("new_filename", "artist", "in_train"))
        is_train = [record["in_train"].strip().lower() == "true" for record in records]
        folders = ["train" if each else "test" for each in is_train]
        names = [record["new_filename"] for record in records]
    elif (table := directory / "train_info.csv").is_file():
        records = catalog.read_table(table, required=("filename", "artist"))
        folders = ["train"] * len(records)
        names = [record["filename"] for record in records]
    else:
        raise InputError(f"{directory} has neither all_data_info.csv nor train_info.csv")
    files = [f"{folder}/{name}" for folder, name in zip(folders, names, strict=True)]
    source = _from_table(table, records, files, directory)
    if not own_split:
        return source
    if "test" not in folders:
        raise InputError(f"{table} lists no image of test/: put all_data_info.csv beside it")
    return dataclasses.replace(source, split_by_file=dict(zip(files, folders, strict=True)))


def synthetic_painters(artists: int, paintings_per_artist: int, *, seed: int) -> Source:
    """Lists the paintings of procedural painters; see painterjax.data.synthetic."""
    paintings = [
        Painting(f"{synthetic.artist_name(artist)}/{number:03d}", synthetic.artist_name(artist))
        for artist in range(artists)
        for number in range(paintings_per_artist)
    ]
    return Source(_by_file(paintings), [], functools.partial(load_synthetic, seed))


def sizes(source: Source) -> list[int]:
    """Returns each painting's file size in bytes, -1 for a missing file; [] without a directory."""
    if source.directory is None:
        return []
    return [_size(source.directory / painting.file) for painting in source.paintings]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # Decoding it will give the reason.
        return -1


def load_file(
    directory: Path, painting: Painting, size: int, *, pictures: bool = False
) -> tuple[dict[str, Any], np.ndarray]:
    """Reads and decodes one image file under `directory`."""
    data, image, result = _open_file(directory, painting)
    if not pictures:
        return result, images.to_square(image, size=size)
    square_SxSxC, picture = images.to_square_and_picture(data, image, size=size)
    return {**result, "picture": picture}, square_SxSxC


def load_squares(
    directory: Path, most: int, painting: Painting, size: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Reads and decodes one image file under `directory` to as many squares as `most`."""
    _, image, result = _open_file(directory, painting)
    return result, images.to_squares(image, size=size, most=most)


def _open_file(directory: Path, painting: Painting) -> tuple[bytes, Image.Image, dict[str, Any]]:
    """Reads a file and opens its image; and what is known of it."""
    if not directory.is_dir():  # Otherwise all its files would be rejected.
        raise InputError(
            f"{directory} is gone, or {socket.gethostname()} does not see it: mount it there"
        )
    file = Path(painting.file)
    if file.is_absolute() or ".." in file.parts or "\0" in painting.file:
        raise images.ImageError("not the name of a file in the folder")
    data = images.read(directory / file)
    image = images.open_image(data)
    area = image.width * image.height
    return data, image, {"sha256": hashlib.sha256(data).hexdigest(), "area": area}


def load_synthetic(seed: int, painting: Painting, size: int) -> tuple[dict[str, Any], np.ndarray]:
    """Paints the synthetic painting that the file "painter-<artist>/<number>" names."""
    artist, number = painting.file.removeprefix("painter-").split("/")
    image = synthetic.paint(seed=seed, artist=int(artist), painting=int(number), size=size)
    return {"sha256": hashlib.sha256(image.tobytes()).hexdigest(), "area": size * size}, image


def _visible_files(directory: Path) -> Iterator[Path]:
    """Yields all files below `directory`, relative to it, and the links that are not followed.

    An artist's folder may be a link, but not one to a folder that holds `directory`. Links to
    folders below it are not followed. They could lead in circles.

    Raises:
      OSError: a folder cannot be read; its paintings would be missing without a message.
    """
    for top in directory.iterdir():
        found = [top]
        # By such a circle each painting would be another artist's as well.
        if top.is_dir() and not directory.resolve().is_relative_to(top.resolve()):
            found = [
                Path(at, name)
                for at, folders, names in os.walk(top, onerror=_raise)
                for name in (*names, *(f for f in folders if Path(at, f).is_symlink()))
            ]
        for path in found:
            relative = path.relative_to(directory)
            hidden = any(part.startswith(".") for part in relative.parts)
            # Sockets and the like are left out; a broken link is kept, to be rejected by name.
            if not hidden and (path.is_file() or path.is_symlink()):
                yield relative


def _raise(error: OSError) -> None:
    raise error


def _from_table(
    table: Path, records: list[dict[str, str]], files: list[str], directory: Path
) -> Source:
    if not records:
        raise InputError(f"{table} has a header but no rows")
    paintings = [
        Painting(file, record["artist"].strip(), *(record.get(name) or "" for name in KNOWN))
        for file, record in zip(files, records, strict=True)
    ]
    nameless = [(p.file, "no artist in the table") for p in paintings if not p.artist]
    named = [i for i, painting in enumerate(paintings) if painting.artist]
    respelled = catalog.with_one_name_each([paintings[i] for i in named])
    keeps = [_is_yes(table, records[i].get(KEEP) or "") for i in named]
    preferred = frozenset(itertools.compress(respelled, keeps))
    return dataclasses.replace(_of_files(respelled, nameless, directory), preferred=preferred)


def _is_yes(table: Path, value: str) -> bool:
    if (word := value.strip().lower()) not in ("", "yes"):
        raise InputError(f"{table} has {value!r} in column {KEEP}: write yes or leave it empty")
    return bool(word)


def _of_files(
    paintings: list[Painting], rejected: list[tuple[str, str]], directory: Path
) -> Source:
    load = functools.partial(load_file, directory.absolute())
    return Source(_by_file(paintings), rejected, load, directory)


def _by_file(paintings: list[Painting]) -> list[Painting]:
    return sorted(paintings, key=lambda painting: (painting.file, painting.artist))
