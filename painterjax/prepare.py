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
import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.data import images, shards, sources, store, store_builder, synthetic
from painterjax.data.store import StorePlan


def _number(kind: type, least: float, most: float, text: str) -> Any:
    with contextlib.suppress(ValueError):
        if least <= (value := kind(text)) <= most:
            return value
    raise argparse.ArgumentTypeError(f"{text}: must be a number from {least} to {most}")


SIZE = functools.partial(_number, int, images.MIN_SIDE, images.MAX_SIZE)
FRACTION = functools.partial(_number, float, 0, math.nextafter(1, 0))
SEED = functools.partial(_number, int, 0, math.inf)
COUNT = functools.partial(_number, int, 1, math.inf)


@dataclasses.dataclass(frozen=True)
class SourceCommand:
    """The subcommand of a source."""

    list: Callable[[argparse.Namespace], sources.Source]
    help: str
    example: str
    flags: dict[str, dict[str, Any]]  # of this source alone; for argparse's add_argument


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
            "--artists": {
                "type": COUNT,
                "default": synthetic.ARTISTS,
                "help": "number of painters (80)",
            },
            "--paintings": {
                "type": COUNT,
                "default": synthetic.PAINTINGS,
                "help": "by each painter (20)",
            },
        },
    ),
}


COMMON_FLAGS: dict[str, dict[str, Any]] = {
    "--output": {"type": Path, "required": True, "help": "the store to write"},
    "--image-size": {"type": SIZE, "default": 256, "help": "side in pixels (256)"},
    "--test-fraction": {
        "type": FRACTION,
        "default": store.TEST_FRACTION,
        "help": "of artists (0.2)",
    },
    "--val-fraction": {
        "type": FRACTION,
        "default": store.VAL_FRACTION,
        "help": "of paintings (0.1)",
    },
    "--seed": {"type": SEED, "default": 0, "help": "of the split (0)"},
    "--shard": {"type": shards.parse, "metavar": "I/N", "help": "decode only share I of N"},
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


if __name__ == "__main__":
    cli.run(main, "prepare")
