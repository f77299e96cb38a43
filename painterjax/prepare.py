"""Turns a collection of paintings into a store: decode once, crop, split by artist.

    python -m painterjax.prepare folder    --input DIR  --output STORE
    python -m painterjax.prepare csv       --input FILE --images DIR --output STORE
    python -m painterjax.prepare kaggle    --input DIR  --output STORE
    python -m painterjax.prepare synthetic --output STORE

Example:

    python -m painterjax.prepare folder --input paintings --output data/paintings --image-size 64

reads paintings/<artist>/<any image>. After an interruption the same command continues; run on a
finished store, it checks the store. It compares the names and sizes of files, not their contents.
With --shard 1/16 to --shard 16/16, 16 processes on one or more machines decode a share each; the
same command without --shard then makes the store, with the same bytes as one process.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.data import images, shards, sources, store_builder
from painterjax.data.store import StorePlan


def _checked(kind: type, accepts: Callable[[Any], bool], words: str) -> Callable[[str], Any]:
    """Returns a parser of numbers for argparse."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"{text}: must be {words}")
        return value

    return parse


_size_range = range(images.MIN_SIDE, images.MAX_SIZE + 1)
SIZE = _checked(int, _size_range.__contains__, f"from {images.MIN_SIDE} to {images.MAX_SIZE}")
FRACTION = _checked(float, lambda value: 0 <= value < 1, "at least 0 and below 1")
SEED = _checked(int, lambda value: value >= 0, "a whole number, 0 or above")
COUNT = _checked(int, lambda value: value >= 1, "a whole number, 1 or above")


@dataclasses.dataclass(frozen=True)
class SourceCommand:
    """A subcommand for a kind of source.

    Attributes:
      list: maps the parsed arguments to the listed source.
      help: what it reads.
      example: arguments of an example.
      flags: the keyword arguments of add_argument for each flag that only this source has.
    """

    list: Callable[[argparse.Namespace], sources.Source]
    help: str
    example: str
    flags: dict[str, dict[str, Any]]


def _list_folder(args: argparse.Namespace) -> sources.Source:
    if args.output.resolve().is_relative_to(args.input.resolve()):
        raise InputError(f"--output {args.output} lies in --input {args.input}: put it elsewhere")
    return sources.folder(args.input)


FOLDER = {"type": Path, "required": True, "help": "folder of the images"}
TABLE = {"type": Path, "required": True, "help": "the table"}
SOURCES = {
    "folder": SourceCommand(
        _list_folder,
        "Reads DIR/<artist>/<any image>, at any depth below the artist.",
        "--input paintings --output data/paintings --image-size 64",
        {"--input": FOLDER},
    ),
    "csv": SourceCommand(
        lambda args: sources.csv_table(args.input, args.images),
        "Reads a table with the columns file and artist; title, style, genre, date if known.",
        "--input paintings.csv --images paintings --output data/paintings",
        {"--input": TABLE, "--images": FOLDER},
    ),
    "kaggle": SourceCommand(
        lambda args: sources.kaggle(args.input),
        "Reads Painter by Numbers: train/, test/ and all_data_info.csv or train_info.csv.",
        "--input painter-by-numbers --output data/painter_by_numbers",
        {"--input": FOLDER},
    ),
    "synthetic": SourceCommand(
        lambda args: sources.synthetic_painters(args.artists, args.paintings, seed=args.seed),
        "Paints procedural painters; another --seed gives other painters.",
        "--output data/synthetic --image-size 64",
        {
            "--artists": {"type": COUNT, "default": 80, "help": "number of painters (80)"},
            "--paintings": {"type": COUNT, "default": 20, "help": "by each painter (20)"},
        },
    ),
}


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.prepare`."""
    args = _parse(argv)
    source = SOURCES[args.source].list(args)
    plan = StorePlan(
        args.source, args.image_size, args.seed, args.test_fraction, args.val_fraction,
        **store_builder.listing_digests(source),
    )  # fmt: skip
    if args.shard:
        store_builder.decode_shard(args.shard, source, args.output, plan, workers=args.workers)
    else:
        store_builder.build_store(source, args.output, plan, workers=args.workers)


def _parse(argv: list[str]) -> argparse.Namespace:
    command = "python -m painterjax.prepare"
    parser = cli.Parser(__doc__ or "", prog=command)
    subparsers = parser.add_subparsers(dest="source", required=True, parser_class=cli.Parser)
    for name, source in SOURCES.items():
        doc = f"{source.help}\n\nExample:\n\n    {command} {name} {source.example}"
        subparser = subparsers.add_parser(name, doc=doc)
        for flag, options in {**source.flags, **COMMON_FLAGS}.items():
            subparser.add_argument(flag, **options)
        cli.add_workers(subparser)
    return parser.parse_args(argv)


COMMON_FLAGS: dict[str, dict[str, Any]] = {
    "--output": {"type": Path, "required": True, "help": "the store to write"},
    "--image-size": {"type": SIZE, "default": 256, "help": "side in pixels (256)"},
    "--test-fraction": {"type": FRACTION, "default": 0.2, "help": "of artists (0.2)"},
    "--val-fraction": {"type": FRACTION, "default": 0.1, "help": "of paintings (0.1)"},
    "--seed": {"type": SEED, "default": 0, "help": "of the split (0)"},
    "--shard": {"type": shards.parse, "metavar": "I/N", "help": "decode only share I of N"},
}


if __name__ == "__main__":
    cli.run(main, "prepare")
