"""A painting, what is known of it and how that is written."""

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

SPLITS = ("train", "val", "test")
JUDGED = SPLITS[1:]


@dataclasses.dataclass(frozen=True)
class Painting:
    """One painting; `file` is its path as the source names it, unknown fields are ""."""

    file: str
    artist: str
    title: str = ""
    style: str = ""
    genre: str = ""
    date: str = ""


PAINTING_COLUMNS = tuple(field.name for field in dataclasses.fields(Painting))


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    r"""Returns rows as CSV with the line end \n; fields that hold \n or \r are quoted."""
    lines = []
    for row in rows:
        line = io.StringIO()
        # Before Python 3.13 a writer quotes the characters of its own line end only.
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


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
