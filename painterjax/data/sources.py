"""Sources of paintings: each lists its paintings and has a function that loads one."""

import dataclasses
import functools
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from painterjax.common.errors import InputError
from painterjax.common.progress import counted
from painterjax.data import catalog, columns, images, synthetic, tables
from painterjax.data.catalog import Painting
from painterjax.data.columns import Paintings, pc

KNOWN = ("title", "style", "genre", "date")  # Columns that a table may have.
KEEP = "keep"  # The column of a table that says which of several duplicates to keep.
# Maps (painting, size S) to the file's "sha256" and "area" in pixels, and uint8 S x S x 3, or
# raises ImageError. With pictures=True, a file's "picture" is the whole of it, as JPEG. Workers run
# it, so it must pickle.
Loader = Callable[..., tuple[dict[str, Any], np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Source:
    """A listed collection."""

    # Every candidate, sorted by file. The table may have more columns: `split`, the source's own
    # split where it is asked for, and `keep`, whether to keep this one of several duplicates.
    paintings: Paintings
    rejected: list[tuple[str, str]]  # (file, reason) for what cannot be listed as a painting
    load: Loader
    directory: Path | None = None  # of the files; None for a source without files
    # Of paintings that lie in few large files, these below `directory`; and what reads from them,
    # here and in order, what `load` takes after each painting.
    parts: tuple[str, ...] = ()
    read: Callable[[Paintings], Iterator[Any]] | None = None

    @property
    def has_split(self) -> bool:
        """Whether the paintings are to be split as the source does."""
        return "split" in self.paintings.table.column_names


def folder(directory: Path) -> Source:
    """Lists DIR/<artist>/**/<file>; the title is the file name without its ending."""
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder; expected {directory}/<artist>/<image>")
    found = files_below(directory)
    paintings, nameless = _with_artist(found.paintings.table, "not in an artist's folder")
    rejected = [*found.rejected, *nameless]
    if not len(paintings):
        raise InputError(
            f"{directory} has {counted(len(rejected), 'file')} and none in an artist's folder;"
            f" expected {directory}/<artist>/<image>"
        )
    return dataclasses.replace(found, paintings=Paintings(paintings), rejected=rejected)


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
    return _of_files(Paintings.of(paintings).table, rejected, directory)


def csv_table(table: Path, directory: Path, *, own_split: bool = False) -> Source:
    """Lists a CSV file with the columns file and artist, and title, style, genre, date if known.

    With `own_split` it also has the column split: train, val or test. "yes" in a column `keep`
    names what is kept of several files of one picture.
    """
    if not directory.is_dir():
        raise InputError(f"--images {directory} is not a folder")
    required = ("file", "artist", "split") if own_split else ("file", "artist")
    listed = tables.read_table(table, required=required, known=(*KNOWN, KEEP))
    return from_table(table, listed, directory)


def kaggle(directory: Path, *, own_split: bool = False) -> Source:
    """Lists Painter by Numbers by its all_data_info.csv, or its train_info.csv if that is missing.

    The images are DIR/train/<file> and DIR/test/<file>, and `own_split` keeps these apart.
    Source: https://www.kaggle.com/c/painter-by-numbers/data
    """
    known = (*KNOWN, KEEP)
    if (table := directory / "all_data_info.csv").is_file():
        required = ("new_filename", "artist", "in_train")
        listed = tables.read_table(table, required=required, known=known)
        in_train = pc.utf8_lower(pc.utf8_trim_whitespace(listed["in_train"]))
        split = pc.if_else(pc.equal(in_train, "true"), "train", "test")
        listed = listed.drop_columns("in_train").rename_columns({"new_filename": "file"})
    elif (table := directory / "train_info.csv").is_file():
        listed = tables.read_table(table, required=("filename", "artist"), known=known)
        split = pa.repeat("train", len(listed))
        listed = listed.rename_columns({"filename": "file"})
    else:
        raise InputError(f"{directory} has neither all_data_info.csv nor train_info.csv")
    files = pc.binary_join_element_wise(split, listed["file"].cast(pa.string()), "/")
    listed = listed.set_column(0, "file", files.cast(columns.TEXT))
    if own_split:
        if "test" not in pc.unique(split).to_pylist():
            raise InputError(f"{table} lists no image of test/: put all_data_info.csv beside it")
        listed = listed.append_column("split", split)
    return from_table(table, listed, directory)


def synthetic_painters(artists: int, paintings_per_artist: int, *, seed: int) -> Source:
    """Lists the paintings of procedural painters; see painterjax.data.synthetic."""
    paintings = [
        Painting(f"{synthetic.artist_name(artist)}/{number:03d}", synthetic.artist_name(artist))
        for artist in range(artists)
        for number in range(paintings_per_artist)
    ]
    listed = columns.by_file(Paintings.of(paintings).table)
    return Source(Paintings(listed), [], functools.partial(load_synthetic, seed))


def sizes(source: Source) -> list[int]:
    """Returns each file's size in bytes, -1 for a missing file; [] without a directory."""
    if source.directory is None:
        return []
    chunks = source.paintings.table["file"].chunks
    files = source.parts or (file for chunk in chunks for file in chunk.to_pylist())
    return [_size(f"{source.directory}/{file}") for file in files]


def tasks(source: Source, start: int) -> Iterator[tuple[Painting, ...]]:
    """Yields what `load` takes, but the size, of each painting from a row on."""
    left = source.paintings[start:]
    return zip(left) if source.read is None else zip(left, source.read(left), strict=True)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # Decoding it will give the reason.
        return -1


def load_file(
    directory: Path, painting: Painting, size: int, *, pictures: bool = False
) -> tuple[dict[str, Any], np.ndarray]:
    """Reads and decodes one image file under `directory`."""
    return load_bytes(_read_file(directory, painting), size, pictures=pictures)


def load_bytes(
    data: bytes, size: int, *, pictures: bool = False
) -> tuple[dict[str, Any], np.ndarray]:
    """Decodes the bytes of one image file."""
    image, result = _open_bytes(data)
    if not pictures:
        return result, images.to_square(image, size=size)
    square_SxSxC, picture = images.to_square_and_picture(data, image, size=size)
    return {**result, "picture": picture}, square_SxSxC


def load_squares(
    directory: Path, most: int, painting: Painting, size: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Reads and decodes one image file under `directory` to as many squares as `most`."""
    image, result = _open_bytes(_read_file(directory, painting))
    return result, images.to_squares(image, size=size, most=most)


def _read_file(directory: Path, painting: Painting) -> bytes:
    if not directory.is_dir():  # Otherwise all its files would be rejected.
        raise InputError(
            f"{directory} is gone, or {socket.gethostname()} does not see it: mount it there"
        )
    file = Path(painting.file)
    if file.is_absolute() or ".." in file.parts or "\0" in painting.file:
        raise images.ImageError("not the name of a file in the folder")
    return images.read(directory / file)


def _open_bytes(data: bytes) -> tuple[Image.Image, dict[str, Any]]:
    """Opens an image; and what is known of its file."""
    image = images.open_image(data)
    area = image.width * image.height
    return image, {"sha256": hashlib.sha256(data).hexdigest(), "area": area}


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


def from_table(path: Path, listed: pa.Table, directory: Path) -> Source:
    """Returns the source of a table.

    Args:
      path: where it is from, for messages.
      listed: the columns file and artist; of KNOWN, KEEP and `split` what there is.
      directory: of the files.
    """
    if not len(listed):
        raise InputError(f"{path} has a header but no rows")
    source = _of_files(_with_keep(path, listed), [], directory)
    if source.has_split:
        _check_split(path, source.paintings.table)
    named, nameless = _with_artist(source.paintings.table, "no artist in the table")
    return dataclasses.replace(source, paintings=Paintings(named), rejected=nameless)


def _with_keep(path: Path, listed: pa.Table) -> pa.Table:
    """Returns a table whose column KEEP, if any row has "yes" there, is true or false."""
    if KEEP not in listed.column_names:
        return listed
    keep = pc.utf8_lower(pc.utf8_trim_whitespace(listed[KEEP]))
    if wrong := {*pc.unique(keep).to_pylist()} - {"", "yes"}:
        raise InputError(f"{path} has {min(wrong)!r} in column {KEEP}: write yes or leave it empty")
    listed, is_kept = listed.drop_columns(KEEP), pc.equal(keep, "yes")
    return listed.append_column(KEEP, is_kept) if pc.any(is_kept).as_py() else listed


def _check_split(path: Path, listed: pa.Table) -> None:
    """Raises InputError where a split is unknown, or a file in two; `listed` is sorted by file."""
    file, (names, number_N) = listed["file"], columns.numbered(listed["split"])
    if unknown := [i for i, name in enumerate(names) if name not in catalog.SPLITS]:
        row = int(np.flatnonzero(np.isin(number_N, unknown))[0])
        raise InputError(
            f"{path} has {file[row]} in the split {names[number_N[row]]!r}: must be"
            f" {' or '.join(catalog.SPLITS)}"
        )
    is_same_N = pc.equal(file[:-1], file[1:]).to_numpy() & (number_N[:-1] != number_N[1:])
    if len(row_M := np.flatnonzero(is_same_N)):
        row = int(row_M[0])
        one, other = (names[number] for number in number_N[row : row + 2])
        raise InputError(f"{path} has {file[row]} in {one} and in {other}: keep one of them")


def _with_artist(listed: pa.Table, reason: str) -> tuple[pa.Table, list[tuple[str, str]]]:
    """Divides a listing into what has an artist, and the files and the reason of what has none."""
    artists, artist_N = columns.numbered(listed["artist"])
    if "" not in artists:
        return listed, []
    is_named_N = artist_N > 0  # The names are sorted.
    nameless = listed["file"].filter(pa.array(~is_named_N)).to_pylist()
    return listed.filter(pa.array(is_named_N)), [(file, reason) for file in nameless]


def _of_files(listed: pa.Table, rejected: list[tuple[str, str]], directory: Path) -> Source:
    """Returns a source with one spelling of each artist and all columns, sorted by file."""
    unknown = columns.name_column([""], np.zeros(len(listed), np.int32))
    known = {name: listed[name] for name in listed.column_names}
    known["artist"] = columns.with_one_name_each(listed["artist"])
    if "split" in known:
        known["split"] = pc.utf8_trim_whitespace(listed["split"]).cast(columns.NAME)
    filled = {
        field.name: known.pop(field.name, unknown).cast(field.type) for field in columns.SCHEMA
    }
    table = columns.by_file(pa.table({**filled, **known}))
    load = functools.partial(load_file, directory.absolute())
    return Source(Paintings(table), rejected, load, directory)
