"""Scores of pairs of paintings, as Kaggle's Painter by Numbers asks for them."""

import collections
import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from painterjax.common.errors import InputError
from painterjax.common.progress import Progress
from painterjax.data import catalog, sources
from painterjax.metrics.calibration import Calibration
from painterjax.run import embeddings

COLUMNS = ("index", "image1", "image2")
BLOCK = 4096  # Pairs compared at once; what bounds the memory.
QUOTED = re.compile('[",\r\n]')  # What stands in quotes in CSV.
UNKNOWN = 0.5  # The probability of a pair that cannot be compared.


def image_names(pairs: Path) -> set[str]:
    """Reads a table of pairs whole; returns the images that it names.

    Raises:
      InputError: it is no such table, or has no pair.
    """
    names: set[str] = set()
    with Progress("read", total=pairs.stat().st_size, unit="byte") as progress:
        for _, first, second, read in _blocks(pairs):
            names.update(first, second)
            progress.advance(read)
    if not names:
        raise InputError(f"{pairs} has a header but no pairs")
    return names


def write_scores(
    pairs: Path, output: Path, embedded: embeddings.Vectors, calibration: Calibration
) -> None:
    """Writes the score of each pair, in their order; or nothing, where the table is none."""
    row_by_name = {Path(p.file).name: row for row, p in enumerate(embedded.paintings)}
    temporary = output.with_name(output.name + ".tmp")
    try:
        with (
            open(temporary, "w", encoding="utf-8", newline="\n") as file,
            Progress("submit", total=pairs.stat().st_size, unit="byte") as progress,
        ):
            file.write("index,sameArtist\n")
            for index, first, second, read in _blocks(pairs):
                first_P, second_P = (
                    np.array([row_by_name.get(name, -1) for name in names])
                    for names in (first, second)
                )
                score_P = _scores(embedded.emb_NxD, first_P, second_P, calibration)
                file.write(_lines(index, score_P))
                progress.advance(read)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


def _lines(index: list[str], score_P: np.ndarray) -> str:
    """The scores as CSV, in half the time of its writer where no index needs quotes."""
    rows = zip(index, score_P.tolist(), strict=True)
    if QUOTED.search("".join(index)):
        return catalog.csv_text((i, f"{score:.6f}") for i, score in rows)
    return "".join(f"{i},{score:.6f}\n" for i, score in rows)


def _scores(
    emb_NxD: np.ndarray, first_P: np.ndarray, second_P: np.ndarray, calibration: Calibration
) -> np.ndarray:
    difference_PxD = emb_NxD[first_P] - emb_NxD[second_P]
    distance_P = np.sqrt(np.einsum("pd,pd->p", difference_PxD, difference_PxD))
    known_P = (first_P >= 0) & (second_P >= 0)
    return np.where(known_P, calibration.probability(distance_P), UNKNOWN)


def _blocks(pairs: Path) -> Iterator[tuple[list[str], list[str], list[str], int]]:
    """Yields blocks of a table: the columns index, image1 and image2, and the bytes read."""
    try:
        with (
            open(pairs, "rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file,
        ):
            reader = csv.reader(file)
            header = next(reader, [])
            if any(header.count(name) != 1 for name in COLUMNS):
                raise InputError(
                    f"{pairs} has the columns {header}, needs {', '.join(COLUMNS)}, each once"
                )
            places = [header.index(name) for name in COLUMNS]
            read = 0
            while lines := list(itertools.islice(reader, BLOCK)):
                lines = [line for line in lines if line]  # Blank ones, as at the end.
                if any(len(line) != len(header) for line in lines):
                    raise InputError(
                        f"{pairs}, up to line {reader.line_num}: a line has not"
                        f" {len(header)} values: mend it"
                    )
                index, first, second = ([line[place] for line in lines] for place in places)
                at = raw.tell()
                yield index, first, second, at - read
                read = at
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {pairs}: {error}") from error


def check_images(names: set[str], directory: Path) -> None:
    """Raises InputError where a folder has none of the images, or two of one's name."""
    files = [painting.file for painting in sources.files_below(directory).paintings]
    count_by_name = collections.Counter(Path(file).name for file in files)
    if not names & count_by_name.keys():
        raise InputError(
            f"{directory} has none of the {len(names)} images of --pairs, as {min(names)}:"
            " --images is to be their folder"
        )
    twice = sorted(name for name in names if count_by_name[name] > 1)
    if twice:
        raise InputError(
            f"{len(twice)} names of --pairs could mean either of two images below {directory},"
            f" as {twice[0]}: rename one"
        )


def write_missing(output: Path, missing: dict[str, str]) -> None:
    table = output.with_name(output.name + ".missing.csv")
    table.unlink(missing_ok=True)
    if missing:
        text = catalog.csv_text([("image", "reason"), *missing.items()])
        table.write_text(text, encoding="utf-8", newline="\n")
        print(f"  {len(missing)} images are missing, their pairs have {UNKNOWN}: see {table}")
