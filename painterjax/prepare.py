"""Turns a collection of paintings into a store: decode once, crop, split by artist.

    python -m painterjax.prepare folder    --input DIR  --output STORE
    python -m painterjax.prepare csv       --input FILE --images DIR --output STORE
    python -m painterjax.prepare kaggle    --input DIR  --output STORE
    python -m painterjax.prepare synthetic --output STORE

Example:

    python -m painterjax.prepare folder --input paintings --output data/paintings --image-size 64

reads paintings/<artist>/<any image>. Interrupt it whenever you like: the same command goes on, and
says that all is done where it is. It takes files for the same by their names and sizes.
With --shard 1/16 to --shard 16/16 as many processes, also on as many machines, decode a share each;
the same command without --shard then makes the store, with the same bytes as one process.
"""

import argparse
import hashlib
from pathlib import Path

from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.data import images, shards, sources, store_builder

COMMAND = "python -m painterjax.prepare"
HELP = {
    "folder": f"""Reads DIR/<artist>/<any image>, at any depth below the artist.

Example:

    {COMMAND} folder --input paintings --output data/paintings --image-size 64""",
    "csv": f"""Reads a table with the columns file and artist; title, style, genre, date if known.

Example:

    {COMMAND} csv --input paintings.csv --images paintings --output data/paintings""",
    "kaggle": f"""Reads Painter by Numbers: train/, test/ and all_data_info.csv or train_info.csv.

Example:

    {COMMAND} kaggle --input painter-by-numbers --output data/painter_by_numbers""",
    "synthetic": f"""Paints procedural painters; another --seed has other ones.

Example:

    {COMMAND} synthetic --output data/synthetic --image-size 64""",
}


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.prepare`."""
    args = _parse(argv)
    source = _list_source(args)
    plan = {
        "source": args.source,
        "image_size": args.image_size,
        "seed": args.seed,
        "test_fraction": args.test_fraction,
        "val_fraction": args.val_fraction,
        "listing_sha256": hashlib.sha256(repr(source.paintings).encode()).hexdigest(),
    }
    # Not their times, which copies for several machines do not share.
    if sizes := sources.sizes(source):
        plan["sizes_sha256"] = hashlib.sha256(repr(sizes).encode()).hexdigest()
    if args.shard:
        store_builder.decode_shard(args.shard, source, args.output, plan=plan, workers=args.workers)
    else:
        store_builder.build(source, args.output, plan=plan, workers=args.workers)


def _list_source(args: argparse.Namespace) -> sources.Source:
    if args.source == "folder":
        return sources.folder(args.input)
    if args.source == "csv":
        return sources.csv_table(args.input, args.images)
    if args.source == "kaggle":
        return sources.kaggle(args.input)
    return sources.synthetic_painters(
        seed=args.seed, artists=args.artists, paintings_per_artist=args.paintings
    )


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog=COMMAND)
    subparsers = parser.add_subparsers(dest="source", required=True, parser_class=cli.Parser)
    for name, doc in HELP.items():
        command = subparsers.add_parser(name, doc=doc)
        if name == "synthetic":
            command.add_argument("--artists", type=int, default=80, help="number of painters")
            command.add_argument("--paintings", type=int, default=20, help="by each painter")
        else:
            what = "table" if name == "csv" else "folder"
            command.add_argument("--input", type=Path, required=True, help=what)
        if name == "csv":
            command.add_argument("--images", type=Path, required=True, help="where files lie")
        _add_common_arguments(command)
    args = parser.parse_args(argv)
    _check(args)
    return args


def _add_common_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", type=Path, required=True, help="the store to write")
    command.add_argument("--image-size", type=int, default=256, help="side in pixels (256)")
    command.add_argument("--test-fraction", type=float, default=0.2, help="of artists (0.2)")
    command.add_argument("--val-fraction", type=float, default=0.1, help="of paintings (0.1)")
    command.add_argument("--seed", type=int, default=0, help="of the split (0)")
    command.add_argument(
        "--shard", type=shards.parse, metavar="I/N", help="decode only share I of N"
    )
    cli.add_workers(command)


def _check(args: argparse.Namespace) -> None:
    if not images.MIN_SIDE <= args.image_size <= images.MAX_SIZE:
        limits = f"[{images.MIN_SIDE}, {images.MAX_SIZE}]"
        raise InputError(f"--image-size {args.image_size}: must lie in {limits}")
    for name in ("test_fraction", "val_fraction"):
        if not 0 <= getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} {getattr(args, name)}: must lie in [0, 1)")
    for name, least in (("seed", 0), ("artists", 1), ("paintings", 1)):
        if getattr(args, name, least) < least:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least {least}")
    if args.source == "folder" and args.output.resolve().is_relative_to(args.input.resolve()):
        raise InputError(f"--output {args.output} lies in --input {args.input}: put it elsewhere")


if __name__ == "__main__":
    cli.run(main, "prepare")
