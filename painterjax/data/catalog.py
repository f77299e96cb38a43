"""The catalog of a collection: its paintings, their artists, the split, and CSV tables.

The split is by artist: a training artist's paintings are in `train` and a tenth of them in `val`; a
test artist's paintings are all in `test`. So `test` measures artists never seen in training.
"""

import collections
import csv
import dataclasses
import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from painterjax.common.errors import InputError

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Painting:
    """One painting; `file` is its path as the source names it, unknown fields are ""."""

    file: str
    artist: str
    title: str = ""
    style: str = ""
    genre: str = ""
    date: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of `paintings.csv`: a painting and the split it belongs to."""

    split: str
    painting: Painting


PAINTING_COLUMNS = tuple(field.name for field in dataclasses.fields(Painting))
CSV_COLUMNS = ("index", "split", *PAINTING_COLUMNS)


def _random_key(seed: int, *names: str) -> bytes:
    """A pseudo-random sort key, the same on every machine."""
    return hashlib.sha256("\x00".join((str(seed), *names)).encode()).digest()


def with_one_name_each(paintings: Sequence[Painting]) -> list[Painting]:
    """Returns the paintings with one spelling of each artist's name, the most frequent one.

    Names are the same artist's if they differ in case, in white space, or in how Unicode composes
    their letters.

    >>> spellings = ["Degas", "degas ", "Degas", "Cezanne"]
    >>> [p.artist for p in with_one_name_each([Painting("", name) for name in spellings])]
    ['Degas', 'Degas', 'Degas', 'Cezanne']
    """
    names = [unicodedata.normalize("NFC", " ".join(p.artist.split())) for p in paintings]
    # The first of equally frequent ones by the alphabet.
    by_frequency = sorted(collections.Counter(names).items(), key=lambda item: (-item[1], item[0]))
    spelling: dict[str, str] = {}
    for name, _ in by_frequency:
        spelling.setdefault(name.casefold(), name)
    artists = [spelling[name.casefold()] for name in names]
    return [  # Nearly all stay as they are, and a copy takes most of the time.
        p if p.artist == artist else dataclasses.replace(p, artist=artist)
        for p, artist in zip(paintings, artists, strict=True)
    ]


def split_by_artist(
    paintings: Iterable[Painting], *, test_fraction: float, val_fraction: float, seed: int
) -> tuple[list[Row], list[Painting]]:
    """Splits paintings into train, val and test.

    A share `test_fraction` of the artists goes to `test` with all their paintings. Of each other
    artist's n paintings floor(n * val_fraction) go to `val`, and at least two stay in `train`.
    The split depends on (seed, artist, file) alone, not on the order of `paintings`.

    Returns:
      The rows of the store, sorted by split, artist and file; and the paintings left out because
      their artist has no other.

    >>> works = [Painting(f"{a}/{i}.jpg", a) for a in "abcde" for i in range(10)]
    >>> rows, single = split_by_artist(works, test_fraction=0.2, val_fraction=0.1, seed=0)
    >>> [sum(row.split == split for row in rows) for split in SPLITS]
    [36, 4, 10]
    """
    by_artist = collections.defaultdict(list)
    for painting in paintings:
        by_artist[painting.artist].append(painting)
    single = [works[0] for works in by_artist.values() if len(works) == 1]
    artists = sorted(artist for artist, works in by_artist.items() if len(works) > 1)
    artists.sort(key=lambda artist: _random_key(seed, artist))
    test_artists = set(artists[: int(len(artists) * test_fraction + 0.5)])
    rows = []
    for artist in artists:
        works = by_artist[artist]
        if artist in test_artists:
            rows += [Row("test", painting) for painting in works]
            continue
        works.sort(key=lambda painting: _random_key(seed, artist, painting.file))
        # 100 * 0.29 is 28.999999999999996 and has to count as 29.
        num_val = min(int(len(works) * val_fraction + 1e-9), len(works) - 2)
        rows += [Row("val", painting) for painting in works[:num_val]]
        rows += [Row("train", painting) for painting in works[num_val:]]
    rows.sort(key=lambda row: (SPLITS.index(row.split), row.painting.artist, row.painting.file))
    return rows, sorted(single, key=lambda painting: painting.file)


def count_rows(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Returns how many paintings and artists each split has."""
    artists = {split: [r.painting.artist for r in rows if r.split == split] for split in SPLITS}
    return {name: {"paintings": len(a), "artists": len(set(a))} for name, a in artists.items()}


def to_csv(rows: Sequence[Row]) -> str:
    """Returns the text of `paintings.csv`, with the columns CSV_COLUMNS."""
    values = [(i, row.split, *dataclasses.astuple(row.painting)) for i, row in enumerate(rows)]
    return csv_text([CSV_COLUMNS, *values])


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    r"""Returns rows as CSV with the line end \n; fields that hold \n or \r are quoted."""
    lines = []
    for row in rows:
        line = io.StringIO()
        # Before Python 3.13 a writer quotes the characters of its own line end only.
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def from_csv(text: str) -> list[Row]:
    """Parses the text of `paintings.csv`; raises InputError where it is malformed."""
    try:
        header, *lines = csv.reader(io.StringIO(text, newline="")) if text else [[]]
    except csv.Error as error:
        raise InputError(f"paintings.csv cannot be read ({error}): prepare it again") from error
    if tuple(header) != CSV_COLUMNS:
        raise InputError(f"paintings.csv has the columns {tuple(header)}, expected {CSV_COLUMNS}")
    for line in lines:
        if len(line) != len(CSV_COLUMNS) or line[1] not in SPLITS:
            raise InputError(f"paintings.csv has the row {line}: prepare the store again")
    rows = [Row(split, Painting(*columns)) for _, split, *columns in lines]
    order = [(SPLITS.index(row.split), row.painting.artist) for row in rows]
    if order != sorted(order):
        raise InputError("paintings.csv is not sorted by split and artist: prepare the store again")
    return rows


def read_table(path: Path, *, required: Sequence[str]) -> list[dict[str, str]]:
    """Reads a CSV file with a header; raises InputError for a missing file, column or value."""
    if path.exists() and not path.is_file():  # Reading a pipe or a device may never end.
        raise InputError(f"{path} is not a regular file: save the table as one")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_header(path, reader.fieldnames or [], required)
            records = []
            for record in reader:
                # A short row has None for values; a long one has its rest under the key None.
                if None in record or None in record.values():
                    count, line = len(reader.fieldnames or ()), reader.line_num
                    raise InputError(f"{path}, line {line}: not {count} values, correct it")
                records.append(record)
            return records
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _check_header(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    if missing := [name for name in required if name not in names]:
        found = ", ".join(names or ["none"])
        raise InputError(f"{path} has the column(s) {found}: add {', '.join(missing)}")
    if twice := [name for name, n in collections.Counter(names).items() if name and n > 1]:
        raise InputError(f"{path} has the column(s) {', '.join(twice)} twice: rename one")


def century(date: str) -> str:
    """Returns the century of the first year of three or four digits in a date, or "".

    >>> century("c. 1889"), century("12.5.1900"), century("unknown")
    ('1801-1900', '1801-1900', '')
    """
    year = re.search(r"(?<!\d)\d{3,4}(?!\d)", date)
    if year is None or int(year[0]) == 0:
        return ""
    first = (int(year[0]) - 1) // 100 * 100 + 1
    return f"{first}-{first + 99}"
