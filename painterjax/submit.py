"""Scores pairs of paintings for Kaggle's Painter by Numbers: are both by one artist?

    python -m painterjax.submit --run RUN --pairs FILE --images DIR --output FILE

Example:

    python -m painterjax.submit --run runs/pbn --pairs submission_info.csv --images test
        --output submission.csv

reads index, image1 and image2 of each pair and writes index and sameArtist, the probability, in the
same order. The images of DIR are embedded first, into OUTPUT.npz, which a later start takes as it
is. A pair with an image that is missing gets 0.5; OUTPUT.missing.csv names these images.
"""

import argparse
import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from painterjax import catalog, cli, compilation, embed, runlog, vectors
from painterjax.errors import InputError
from painterjax.verification import Calibration, needed_calibration

COLUMNS = ("index", "image1", "image2")
BLOCK = 4096  # Pairs compared at once; what bounds the memory.
UNKNOWN = 0.5  # The probability of a pair that cannot be compared.


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.submit`."""
    compilation.keep_on_disk()
    args = _parse(argv)
    _, origin = embed.of_run(args.run)
    calibration = needed_calibration(args.run, step=origin["step"])
    embedded_path = args.output.with_name(args.output.name + ".npz")
    if not embedded_path.exists():
        embed.embed_images(args.run, args.images, embedded_path, workers=args.workers)
    embedded = vectors.load(embedded_path)
    _check_origin(embedded, {**origin, "images": str(args.images)}, embedded_path)
    missing = write_scores(args.pairs, args.output, embedded, calibration)
    if missing:
        table = args.output.with_name(args.output.name + ".missing.csv")
        table.write_text(catalog.csv_text([("image",), *((name,) for name in sorted(missing))]))
        print(f"  {len(missing)} images are missing, their pairs have {UNKNOWN}: see {table}")
    print(f"submission: {args.output}")


def write_scores(
    pairs: Path, output: Path, embedded: vectors.Vectors, calibration: Calibration
) -> set[str]:
    """Writes the score of each pair, in their order; returns the names of missing images.

    Raises:
      InputError: the table of pairs is none; nothing is written.
    """
    row_by_name = {Path(p.file).name: row for row, p in enumerate(embedded.paintings)}
    if len(row_by_name) < len(embedded.paintings):
        raise InputError("two images below --images have the same name: pairs could mean either")
    missing: set[str] = set()
    temporary = output.with_name(output.name + ".tmp")
    with (
        open(temporary, "w", encoding="utf-8") as file,
        runlog.Progress("submit", total=pairs.stat().st_size, unit="byte") as progress,
    ):
        file.write("index,sameArtist\n")
        for index_P, first_P, second_P, read in _blocks(pairs, row_by_name, missing):
            score_P = _scores(embedded.emb_NxD, first_P, second_P, calibration)
            lines = zip(index_P, score_P.tolist(), strict=True)
            file.write("".join(f"{index},{score:.6f}\n" for index, score in lines))
            progress.advance(read)
    temporary.replace(output)
    return missing


def _scores(
    emb_NxD: np.ndarray, first_P: np.ndarray, second_P: np.ndarray, calibration: Calibration
) -> np.ndarray:
    difference_PxD = emb_NxD[first_P] - emb_NxD[second_P]
    distance_P = np.sqrt(np.einsum("pd,pd->p", difference_PxD, difference_PxD))
    known_P = (first_P >= 0) & (second_P >= 0)
    return np.where(known_P, calibration.probability(distance_P), UNKNOWN)


def _blocks(
    pairs: Path, row_by_name: dict[str, int], missing: set[str]
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray, int]]:
    """Yields blocks of pairs: the index column, the rows of both images, and the bytes read."""

    def row(name: str) -> int:
        found = row_by_name.get(name, -1)
        if found < 0:
            missing.add(name)
        return found

    try:
        with (
            open(pairs, "rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file,
        ):
            reader = csv.reader(file)
            header = next(reader, [])
            if not set(COLUMNS) <= set(header):
                raise InputError(f"{pairs} has the columns {header}, needs {', '.join(COLUMNS)}")
            index, first, second = (header.index(name) for name in COLUMNS)
            read = 0
            while lines := list(itertools.islice(reader, BLOCK)):
                if any(len(line) != len(header) for line in lines):
                    raise InputError(
                        f"{pairs}, up to line {reader.line_num}: a line has not"
                        f" {len(header)} values: mend it"
                    )
                at = raw.tell()
                yield (
                    [line[index] for line in lines],
                    np.array([row(line[first]) for line in lines]),
                    np.array([row(line[second]) for line in lines]),
                    at - read,
                )
                read = at
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {pairs}: {error}") from error


def _check_origin(embedded: vectors.Vectors, origin: dict[str, Any], path: Path) -> None:
    changed = [key for key in origin if embedded.origin.get(key) != origin[key]]
    if changed:
        was = ", ".join(f"{key} {embedded.origin.get(key)}, not {origin[key]}" for key in changed)
        raise InputError(f"{path} is of {was}: delete it to embed again")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.submit")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    parser.add_argument("--pairs", type=Path, required=True, help="submission_info.csv")
    parser.add_argument("--images", type=Path, required=True, help="the folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="the table to write")
    cli.add_workers(parser)
    args = parser.parse_args(argv)
    if not args.pairs.is_file():
        raise InputError(f"--pairs {args.pairs} is no file")
    if args.output.exists():
        raise InputError(f"--output {args.output} exists: delete it or choose another")
    return args


if __name__ == "__main__":
    cli.run(main, "submit")
