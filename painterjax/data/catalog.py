"""The catalog of a collection: its paintings, their artists, and CSV tables."""

import collections
import csv
import dataclasses
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from painterjax.common.errors import InputError, words_of

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
        raise InputError(f"{path} cannot be read ({words_of(error)}): choose another") from error


def _check_header(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    if missing := [name for name in required if name not in names]:
        found = ", ".join(names or ["none"])
        raise InputError(f"{path} has the column(s) {found}: add {', '.join(missing)}")
    if twice := [name for name, n in collections.Counter(names).items() if name and n > 1]:
        raise InputError(f"{path} has the column(s) {', '.join(twice)} twice: rename one")


PARTICLES = frozenset(
    ["da", "de", "del", "der", "di", "du", "la", "le", "of", "ten", "ter", "the", "van", "von", "y"]
)


def written_name(slug: str) -> str:
    """Returns the name of a folder as people write a name; other names stay as they are.

    >>> written_name("vincent-van-gogh"), written_name("El Greco"), written_name("rembrandt")
    ('Vincent van Gogh', 'El Greco', 'Rembrandt')
    """
    words = [word for word in re.split("[-_ ]+", slug) if word]
    if slug != slug.lower() or " " in slug or not words:
        return slug
    return " ".join(
        word if i and word in PARTICLES else word[0].upper() + word[1:]
        for i, word in enumerate(words)
    )


def written_title(slug: str) -> str:
    """Returns the title that a file's name stands for, as people write it.

    >>> written_title("the-starry-night-1889"), written_title("IMG-20")
    ('The starry night 1889', 'IMG-20')
    """
    if slug != slug.lower() or " " in slug or not slug:
        return slug
    text = " ".join(re.split("[-_]+", slug)).strip()
    return text[:1].upper() + text[1:]


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
