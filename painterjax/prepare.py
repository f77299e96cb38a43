"""Turns a collection of paintings into a store: decode once, crop, split by artist.

    python -m painterjax.prepare folder    --input DIR  --output STORE
    python -m painterjax.prepare csv       --input FILE --images DIR --output STORE
    python -m painterjax.prepare kaggle    --input DIR  --output STORE
    python -m painterjax.prepare parquet   --input 'part-*.parquet' --output STORE
    python -m painterjax.prepare synthetic --output STORE

Example:

    python -m painterjax.prepare folder --input paintings --output data/mine --for pretrained

reads paintings/<artist>/<any image>. After an interruption the same command continues; run on a
finished store, it checks the store. It compares the names and sizes of files, not their contents.
With --shard 1/16 to --shard 16/16, 16 processes on one or more machines decode a share each; the
same command without --shard then makes the store, with the same bytes as one process.

--for takes the image size that a recipe wants. Without --val-fraction validation gets a tenth of
each artist's paintings, or more where half of the artists would not get two.

--split-by holdout tests on the artists that are held out, a fifth of all names; choose a recipe on
a store that --without-holdout made. --split-by kaggle trains on the competition's training images
alone, and --split-by column (of csv and parquet) as the column split says: train, val or test.
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
from painterjax.common.config import recipe_image_size
from painterjax.common.errors import InputError
from painterjax.data import (
    columns,
    encoded,
    images,
    parquet,
    shards,
    sources,
    splits,
    store,
    store_builder,
    sufficiency,
    synthetic,
)  # fmt: skip
from painterjax.data.store import StorePlan


def _number(kind: type, least: float, most: float, text: str) -> Any:
    with contextlib.suppress(ValueError):
        if least <= (value := kind(text)) <= most:
            return value
    words = "a whole number" if kind is int else "a number"
    raise argparse.ArgumentTypeError(f"{text}: must be {words} from {least} to {most}")


SIZE = functools.partial(_number, int, images.MIN_SIDE, images.MAX_SIZE)
FRACTION = functools.partial(_number, float, 0, math.nextafter(1, 0))
SEED = functools.partial(_number, int, 0, math.inf)
COUNT = functools.partial(_number, int, 1, math.inf)


def _required(help: str) -> dict[str, Any]:
    return {"type": Path, "required": True, "help": help}


def _optional(kind: Callable[[str], Any], default: Any, help: str) -> dict[str, Any]:
    return {"type": kind, "default": default, "help": f"{help} ({default})"}


@dataclasses.dataclass(frozen=True)
class SourceCommand:
    """The subcommand of a source."""

    list: Callable[[argparse.Namespace], sources.Source]
    help: str
    example: str
    flags: dict[str, dict[str, Any]]  # of this source alone; for argparse's add_argument
    own_split: str | None = None  # the value of --split-by for the split that the source names


def _list_folder(args: argparse.Namespace) -> sources.Source:
    if args.output.resolve().is_relative_to(args.input.resolve()):
        raise InputError(f"--output {args.output} lies in --input {args.input}: put it elsewhere")
    return sources.folder(args.input)


SOURCES = {
    "folder": SourceCommand(
        _list_folder,
        "Reads DIR/<artist>/<any image>, at any depth below the artist.",
        "--input paintings --output data/paintings-224 --for pretrained",
        {"--input": _required("folder of the images")},
    ),
    "csv": SourceCommand(
        lambda args: sources.csv_table(
            args.input, args.images, own_split=args.split_by == "column"
        ),
        "Reads a table with the columns file and artist; title, style, genre, date if known.",
        "--input paintings.csv --images paintings --output data/paintings",
        {"--input": _required("the table"), "--images": _required("folder of the images")},
        own_split="column",
    ),
    "parquet": SourceCommand(
        lambda args: parquet.image_tables(
            args.input,
            image=args.image_column,
            artist=args.artist_column,
            own_split=args.split_by == "column",
        ),
        "Reads Parquet files with a column of images, as Hugging Face has them.",
        "--input 'wikiart/*.parquet' --output data/wikiart",
        {
            "--input": {"required": True, "metavar": "PATTERN", "help": "the files, as 'part-*'"},
            "--image-column": _optional(str, "image", "of bytes, or of structs with bytes"),
            "--artist-column": _optional(str, "artist", "of names, or of class labels"),
        },
        own_split="column",
    ),
    "kaggle": SourceCommand(
        lambda args: sources.kaggle(args.input, own_split=args.split_by == "kaggle"),
        "Reads Painter by Numbers: train/, test/ and all_data_info.csv or train_info.csv.",
        "--input painter-by-numbers --output data/painter_by_numbers",
        {"--input": _required("folder of the images")},
        own_split="kaggle",
    ),
    "synthetic": SourceCommand(
        lambda args: sources.synthetic_painters(args.artists, args.paintings, seed=args.seed),
        "Paints procedural painters; another --seed gives other painters.",
        "--output data/synthetic --image-size 64",
        {
            "--artists": _optional(COUNT, synthetic.ARTISTS, "number of painters"),
            "--paintings": _optional(COUNT, synthetic.PAINTINGS, "by each painter"),
        },
    ),
}
# The flags that each way to split takes, and their defaults.
SPLIT_FLAGS: dict[str, dict[str, Any]] = {
    "artist": {
        "test_fraction": store.TEST_FRACTION,
        "val_fraction": store.VAL_FRACTION,
        "without_holdout": None,
    },
    "holdout": {"val_fraction": store.VAL_FRACTION},
    "kaggle": {"val_fraction": store.VAL_FRACTION},
    "column": {},
}
IMAGE_SIZE = 256
VAL_HELP = f"of paintings ({store.VAL_FRACTION}, or what gives half of the artists two)"
COMMON_FLAGS: dict[str, dict[str, Any]] = {
    "--output": _required("the store to write"),
    "--for": {"dest": "recipe", "metavar": "RECIPE", "help": "take the image size of this recipe"},
    "--image-size": {"type": SIZE, "help": f"side in pixels (of --for, or {IMAGE_SIZE})"},
    "--test-fraction": {"type": FRACTION, "help": f"of artists ({store.TEST_FRACTION})"},
    "--val-fraction": {"type": FRACTION, "help": VAL_HELP},
    "--without-holdout": {
        "action": "store_true",
        "default": None,
        "help": "leave out the held-out artists, to choose a recipe without them",
    },
    "--seed": _optional(SEED, 0, "of the split"),
    "--no-pictures": {
        "action": "store_true",
        "help": "keep no whole paintings beside the squares, for the page and the report",
    },
    "--jpeg": {
        "action": "store_true",
        "help": "store images as JPEG files: a tenth of the disk, decoded whenever they are read",
    },
    "--shard": {"type": shards.parse, "metavar": "I/N", "help": "decode only share I of N"},
}


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.prepare`."""
    args = _parse(argv)
    split_keys = _split_keys(args)  # Refuses flags before anything is listed.
    workers = cli.connected_workers(args)
    source = SOURCES[args.source].list(args)
    if args.without_holdout or args.split_by == "holdout":
        splits.check_names(source)
    if args.without_holdout:
        source = splits.without_holdout(source)
    if args.val_fraction is None and split_keys["val_fraction"]:
        split_keys["val_fraction"] = sufficiency.val_fraction(source)
    plan = StorePlan(
        args.source, _image_size(args), args.seed, **split_keys,
        listing_sha256=columns.digest(source.paintings.table),
        picture_side=_picture_side(args, source),
        jpeg=encoded.QUALITY if args.jpeg else None,
    )  # fmt: skip
    if args.shard:
        store_builder.decode_shard(args.shard, source, args.output, plan, workers=workers)
    else:
        store_builder.build_store(source, args.output, plan, workers=workers)


def _image_size(args: argparse.Namespace) -> int:
    wanted = IMAGE_SIZE if args.recipe is None else recipe_image_size(args.recipe)
    if (size := args.image_size or wanted) is None:
        raise InputError(f"--for {args.recipe}: this recipe has no IMAGE_SIZE, give --image-size")
    return size


def _picture_side(args: argparse.Namespace, source: sources.Source) -> int | None:
    """The side of pictures for people; what has no files is painted at the store's size."""
    return None if args.no_pictures or source.directory is None else images.PICTURE_SIDE


def _split_keys(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the keys of a StorePlan that say how to split."""
    taken = SPLIT_FLAGS[args.split_by]
    flags = {name: getattr(args, name) for name in SPLIT_FLAGS["artist"]}
    given = {name: value for name, value in flags.items() if value is not None}
    if foreign := [name for name in given if name not in taken]:
        flag = f"--{foreign[0].replace('_', '-')}"
        raise InputError(f"{flag} has no effect with --split-by {args.split_by}: leave it out")
    split_by = None if args.split_by == "artist" else args.split_by
    return {"test_fraction": None, "val_fraction": 0.0, "split_by": split_by, **taken, **given}


def _parse(argv: list[str]) -> argparse.Namespace:
    command = "python -m painterjax.prepare"
    parser = cli.Parser(__doc__ or "", prog=command)
    subparsers = parser.add_subparsers(dest="source", required=True, parser_class=cli.Parser)
    for name, source in SOURCES.items():
        doc = f"{source.help}\n\nExample:\n\n    {command} {name} {source.example}"
        subparser = subparsers.add_parser(name, doc=doc)
        for flag, options in {**source.flags, **COMMON_FLAGS}.items():
            subparser.add_argument(flag, **options)
        subparser.add_argument(
            "--split-by",
            choices=("artist", "holdout", *filter(None, [source.own_split])),
            default="artist",
            help="what goes to test: random artists, the held-out artists, or what the source says",
        )
        cli.add_workers(subparser, or_ray=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main, "prepare")
