"""Scores of pairs of paintings for Kaggle's Painter by Numbers."""

import collections
import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError, words_of
from painterjax.common.progress import Progress, counted
from painterjax.data import catalog, sources
from painterjax.metrics.calibration import Calibration
from painterjax.run.embed import embed_folder
from painterjax.run.embeddings import Vectors
from painterjax.run.load import Run
from painterjax.run.trained_on import images_used

COLUMNS = ("index", "image1", "image2")
BLOCK = 4096  # pairs compared at once, which bounds the memory
NEEDS_QUOTES = re.compile('[",\r\n]')  # in CSV
UNKNOWN = 0.5  # the score of a pair with a missing image


def submit(
    run: Run,
    pairs: Path,
    directory: Path,
    output: Path,
    *,
    workers: int,
    allow_trained_on: bool = False,
) -> None:
    """Embeds the images of a folder into OUTPUT.npz, and writes the score of each pair to `output`.

    Raises:
      InputError: the run has no calibration or its store was decoded in another way, the table is
        malformed, the images do not fit it, or training has used some of them and
        `allow_trained_on` is false.
    """
    run.check_decoding()
    calibration = run.needed_calibration()
    names = image_names(pairs)
    check_images(names, directory)
    used = trained_on(run, names, directory, workers=workers, allowed=allow_trained_on)
    embedded_path = output.with_name(output.name + ".npz")
    embedded, rejected = embed_folder(run, directory, embedded_path, workers=workers, squares=1)
    reasons = {Path(file).name: reason for file, reason in rejected.items()}
    missing = {
        name: reasons.get(name, "no such file")
        for name in sorted(names - {Path(painting.file).name for painting in embedded.paintings})
    }
    if len(missing) == len(names):
        raise InputError(f"no image of {pairs} can be read: see {embedded_path}.rejected.csv")
    write_scores(pairs, output, embedded, calibration)
    write_missing(output, missing)
    write_used(output, used)


def image_names(pairs: Path) -> set[str]:
    """Returns the images that a table of pairs names, after a check of the whole table.

    Raises:
      InputError: the table is malformed or has no pair.
    """
    names: set[str] = set()
    with Progress("read", total=pairs.stat().st_size, unit="byte") as progress:
        for _, first, second, read in _blocks(pairs):
            names.update(first, second)
            progress.advance(read)
    if not names:
        raise InputError(f"{pairs} has a header but no pairs: add some")
    return names


def check_images(names: set[str], directory: Path) -> None:
    """Raises InputError if a folder has none of the images, or two with the same name."""
    paintings = sources.files_below(directory).paintings
    count_by_name = collections.Counter(Path(painting.file).name for painting in paintings)
    if not names & count_by_name.keys():
        raise InputError(
            f"{directory} has none of the {len(names)} images of --pairs, such as {min(names)}:"
            " give their folder as --images"
        )
    ambiguous = sorted(name for name in names if count_by_name[name] > 1)
    if ambiguous:
        raise InputError(
            f"--images {directory} has more than one file for {len(ambiguous)} names of --pairs,"
            f" such as {ambiguous[0]}: rename the others"
        )


def trained_on(
    run: Run, names: set[str], directory: Path, *, workers: int, allowed: bool
) -> list[str]:
    """Returns the images that training has used, also that of --init-from, and says how many.

    Raises:
      InputError: there are some, or a store is gone, and that is not `allowed`.
    """
    try:
        stores = run.stores_trained_on()
    except InputError as error:
        if not allowed:
            raise InputError(f"{error}; or score without it, by --allow-trained-on") from error
        print(f"trained_on: unknown, {error}")
        return []
    source = sources.files_below(directory)
    named = [painting for painting in source.paintings if Path(painting.file).name in names]
    found = (images_used(store, source, named, workers=workers) for store in stores)
    used = sorted(set().union(*found))
    if used and not allowed:
        raise InputError(
            f"{run.path} was trained on {len(used)} of the {len(names)} images of --pairs, such as"
            f" {used[0]}: train on a store without them (prepare kaggle --split-by kaggle), and"
            " --init-from no run that was trained on them, or score them all the same with"
            " --allow-trained-on"
        )
    print(f"trained_on: {len(used)} of {counted(len(names), 'image')}")
    return used


def write_scores(pairs: Path, output: Path, embedded: Vectors, calibration: Calibration) -> None:
    """Writes the score of each pair, in the order of the pairs; nothing if the table is bad."""
    row_by_name = {Path(p.file).name: row for row, p in enumerate(embedded.paintings)}
    with (
        files.replacing(output) as temporary,
        open(temporary, "w", encoding="utf-8", newline="\n") as file,
        Progress("submit", total=pairs.stat().st_size, unit="byte") as progress,
    ):
        file.write("index,sameArtist\n")
        for index, first, second, read in _blocks(pairs):
            first_P, second_P = (
                np.array([row_by_name.get(name, -1) for name in names]) for names in (first, second)
            )
            score_P = _scores(embedded.emb_NxD, first_P, second_P, calibration)
            file.write(_csv_lines(index, score_P))
            progress.advance(read)


def write_missing(output: Path, missing: dict[str, str]) -> None:
    """Writes the missing images and the reasons to OUTPUT.missing.csv, if there are any."""
    path = output.with_name(output.name + ".missing.csv")
    path.unlink(missing_ok=True)
    if missing:
        files.write_text(path, catalog.csv_text([("image", "reason"), *missing.items()]))
        missed = counted(len(missing), "missing image")
        print(f"  {missed}, whose pairs get {UNKNOWN}: see {path}")


def write_used(output: Path, used: list[str]) -> None:
    """Writes the images that training has used to OUTPUT.trained_on.csv, if there are any."""
    path = output.with_name(output.name + ".trained_on.csv")
    path.unlink(missing_ok=True)
    if used:
        files.write_text(path, catalog.csv_text([("image",), *([file] for file in used)]))
        print(f"  trained on: {counted(len(used), 'image')}, see {path}")


def _csv_lines(index: list[str], score_P: np.ndarray) -> str:
    """The scores as CSV; without quotes this takes half the time of the csv module."""
    rows = zip(index, score_P.tolist(), strict=True)
    if NEEDS_QUOTES.search("".join(index)):
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
    """Yields blocks of the table: the columns index, image1 and image2, and the bytes read."""
    try:
        with (
            open(pairs, "rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file,
        ):
            reader = csv.reader(file)
            header = next(reader, [])
            if any(header.count(name) != 1 for name in COLUMNS):
                raise InputError(
                    f"{pairs} has the columns {header}, must have each of {', '.join(COLUMNS)} once"
                )
            places = [header.index(name) for name in COLUMNS]
            read = 0
            while lines := list(itertools.islice(reader, BLOCK)):
                lines = [line for line in lines if line]  # Blank lines, as at the end.
                if any(len(line) != len(header) for line in lines):
                    raise InputError(
                        f"{pairs}, at or before line {reader.line_num}: a line has not the"
                        f" {len(header)} values of the header: correct it"
                    )
                index, first, second = ([line[place] for line in lines] for place in places)
                at = raw.tell()
                yield index, first, second, at - read
                read = at
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{pairs} cannot be read ({words_of(error)}): choose another") from error
