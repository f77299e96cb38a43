"""Where paintings come from: each source lists its paintings and says how to load one."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from painterjax.common.errors import InputError
from painterjax.data import catalog, images, synthetic
from painterjax.data.catalog import Painting

Loader = Callable[[Painting, int], tuple[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Source:
    """A listed collection.

    Attributes:
      paintings: every candidate, sorted by file.
      rejected: (file, reason) of what the listing itself turned away.
      load: maps (painting, size S) to (SHA-256 of its bytes, uint8 S x S x 3) or raises
        ImageError; picklable, so that workers can run it.
      directory: where the files lie; None where there are none.
    """

    paintings: list[Painting]
    rejected: list[tuple[str, str]]
    load: Loader
    directory: Path | None = None


def folder(directory: Path) -> Source:
    """Lists DIR/<artist>/**/<file>: the first folder is the artist, the file's stem the title."""
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder; expected {directory}/<artist>/<image>")
    found = files_below(directory)
    paintings = [painting for painting in found.paintings if painting.artist]
    nameless = [(p.file, "not in an artist's folder") for p in found.paintings if not p.artist]
    rejected = [*found.rejected, *nameless]
    if not paintings:
        raise InputError(
            f"{directory} has {len(rejected)} files and none in an artist's folder;"
            f" expected {directory}/<artist>/<image>"
        )
    return dataclasses.replace(found, paintings=paintings, rejected=rejected)


def files_below(directory: Path) -> Source:
    """Lists every file at any depth; the artist is the first folder, or "" where there is none."""
    if not directory.is_dir():
        raise InputError(f"{directory} is not a folder")
    paintings, rejected = [], []
    for path in _visible_files(directory):
        file = path.as_posix().encode(errors="surrogateescape").decode(errors="backslashreplace")
        if file != path.as_posix():  # Neither tables nor hashes can hold such a name.
            rejected.append((file, "the file's name is not UTF-8"))
        elif (directory / path).is_dir():
            rejected.append((file, "a link to a folder, which is not followed"))
        else:
            artist = path.parts[0] if len(path.parts) > 1 else ""
            paintings.append(Painting(file, artist, title=path.stem))
    return _of_files(paintings, rejected, directory)


def csv_table(table: Path, directory: Path) -> Source:
    """Lists a CSV file with the columns file and artist, and title, style, genre, date if known."""
    if not directory.is_dir():
        raise InputError(f"--images {directory} is not a folder")
    records = catalog.read_table(table, required=("file", "artist"))
    paintings = [_painting(record, file=record["file"]) for record in records]
    return _from_table(table, paintings, directory)


def kaggle(directory: Path) -> Source:
    """Lists Painter by Numbers: all_data_info.csv, or train_info.csv where that is all there is.

    Images lie in DIR/train and DIR/test under the names in the table.
    Source: https://www.kaggle.com/c/painter-by-numbers/data
    """
    table = directory / "all_data_info.csv"
    if table.is_file():
        records = catalog.read_table(table, required=("new_filename", "artist", "in_train"))
        paintings = [_painting(record, file=_kaggle_file(record)) for record in records]
        return _from_table(table, paintings, directory)
    table = directory / "train_info.csv"
    if not table.is_file():
        raise InputError(f"{directory} has neither all_data_info.csv nor train_info.csv")
    records = catalog.read_table(table, required=("filename", "artist"))
    paintings = [_painting(record, file=f"train/{record['filename']}") for record in records]
    return _from_table(table, paintings, directory)


def synthetic_painters(*, seed: int, artists: int, paintings_per_artist: int) -> Source:
    """Lists procedural painters; see painterjax.synthetic."""
    paintings = [
        Painting(f"{synthetic.artist_name(artist)}/{number:03d}", synthetic.artist_name(artist))
        for artist in range(artists)
        for number in range(paintings_per_artist)
    ]
    return Source(_by_file(paintings), [], functools.partial(load_synthetic, seed))


def sizes(source: Source) -> list[int]:
    """Returns the bytes of each painting's file, -1 where there is none; no files, no sizes."""
    if source.directory is None:
        return []
    return [_size(source.directory / painting.file) for painting in source.paintings]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # Decoding it will say why.
        return -1


def load_file(directory: Path, painting: Painting, size: int) -> tuple[str, np.ndarray]:
    """Reads and decodes one image file under `directory`."""
    file = Path(painting.file)  # A table may name anything.
    if file.is_absolute() or ".." in file.parts or "\0" in painting.file:
        raise images.ImageError("no name of a file in the folder")
    data = images.read(directory / file)
    return hashlib.sha256(data).hexdigest(), images.decode(data, size=size)


def load_synthetic(seed: int, painting: Painting, size: int) -> tuple[str, np.ndarray]:
    """Paints one synthetic painting; its file name holds the painter's and its own number."""
    artist, number = painting.file.removeprefix("painter-").split("/")
    image = synthetic.paint(seed=seed, artist=int(artist), painting=int(number), size=size)
    return hashlib.sha256(image.tobytes()).hexdigest(), image


def _visible_files(directory: Path) -> Iterator[Path]:
    """Every file below `directory`, relative to it, and every link that is not followed.

    Artists' folders may be links; deeper ones could lead in circles.

    Raises:
      OSError: a folder cannot be read; its paintings would be missing without a word.
    """
    for top in directory.iterdir():
        found = [top]
        if top.is_dir():
            found = [
                Path(at, name)
                for at, folders, names in os.walk(top, onerror=_raise)
                for name in (*names, *(f for f in folders if Path(at, f).is_symlink()))
            ]
        for path in found:
            relative = path.relative_to(directory)
            hidden = any(part.startswith(".") for part in relative.parts)
            # Not sockets and the like; links may be broken.
            if not hidden and (path.is_file() or path.is_symlink()):
                yield relative


def _raise(error: OSError) -> None:
    raise error


def _kaggle_file(record: dict[str, str]) -> str:
    folder_name = "train" if record["in_train"].strip().lower() == "true" else "test"
    return f"{folder_name}/{record['new_filename']}"


def _painting(record: dict[str, str], *, file: str) -> Painting:
    known = ("title", "style", "genre", "date")
    return Painting(file, record["artist"].strip(), *(record.get(name) or "" for name in known))


def _from_table(table: Path, paintings: list[Painting], directory: Path) -> Source:
    if not paintings:
        raise InputError(f"{table} has a header but no rows")
    named = [painting for painting in paintings if painting.artist]
    nameless = [(p.file, "no artist in the table") for p in paintings if not p.artist]
    return _of_files(named, nameless, directory)


def _of_files(
    paintings: list[Painting], rejected: list[tuple[str, str]], directory: Path
) -> Source:
    load = functools.partial(load_file, directory)
    return Source(_by_file(paintings), rejected, load, directory)


def _by_file(paintings: list[Painting]) -> list[Painting]:
    return sorted(paintings, key=lambda painting: (painting.file, painting.artist))
