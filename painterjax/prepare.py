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
import dataclasses
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from painterjax import catalog, cli, decoding, files, images, runlog, shards, sources, store
from painterjax.errors import InputError

MAX_IMAGE_SIZE = 4096
GATHER_BYTES = 2**26  # Of pixels that are sorted at once; what bounds the memory.
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
        decode_shard(args.shard, source, args.output, plan=plan, workers=args.workers)
    else:
        prepare(source, args.output, plan=plan, workers=args.workers)


def prepare(source: sources.Source, output: Path, *, plan: dict[str, Any], workers: int) -> None:
    """Writes the store `output`, or finishes one that was begun with the same plan.

    Work in progress lies in `<output>.partial`; the store appears under its name when whole.

    Raises:
      InputError: `output` exists or was begun with another plan, shards of it are not whole, or no
        two paintings by one artist can be read.
    """
    partial = _partial(output)
    if output.exists():
        _check_finished(output, plan)
        return _clear(partial, plan)
    if not shards.begun(partial):
        files.begin(partial, plan)
    with files.claimed(partial):
        _finish(source, partial, output, plan=plan, workers=workers)


def decode_shard(
    shard: shards.Shard, source: sources.Source, output: Path, *, plan: dict[str, Any], workers: int
) -> None:
    """Decodes one shard of what `prepare` then makes the store `output` of.

    Raises:
      InputError: `output` exists or was begun with another plan or number of shards.
    """
    if output.exists():
        return _check_finished(output, plan)
    share = dataclasses.replace(source, paintings=shard.share(source.paintings))
    with shards.claimed(shard, _partial(output), plan) as folder:
        _decode(share, folder, size=plan["image_size"], workers=workers, what=f"shard {shard}")
    print(f"shard {shard} is whole; once all are, repeat this without --shard")


def _partial(output: Path) -> Path:
    return output.parent / (output.name + ".partial")


def _decode(
    source: sources.Source, folder: Path, *, size: int, workers: int, what: str
) -> decoding.Part:
    keeping = decoding.pixels(size)
    fates = decoding.decode_all(
        source, folder, size=size, workers=workers, keeping=keeping, what=what
    )
    return decoding.Part(folder, fates)


def _finish(
    source: sources.Source, partial: Path, output: Path, *, plan: dict[str, Any], workers: int
) -> None:
    """Does what is left to do in `partial`, and makes it `output`."""
    size = plan["image_size"]
    if shards.begun(partial):
        parts = shards.whole(source, partial, plan)
    else:
        parts = [_decode(source, partial, size=size, workers=workers, what="prepare")]
    rows, place_N, rejected = _select(source, [f for part in parts for f in part.fates], plan)
    if not rows:
        # Keeping the journal would hold these files rejected after the user has mended them.
        shutil.rmtree(partial)
        raise InputError(
            f"no artist has two readable paintings among {len(rejected)} files"
            f" (first rejected: {rejected[0][0]}, {rejected[0][1]})"
        )
    counts = _counts(rows, rejected)
    with runlog.Progress("sort by split", total=len(rows), unit="painting") as progress:
        batches = _gather(parts, place_N, size, progress)
        _assemble(partial / "store", rows, batches, rejected, info={**plan, "counts": counts})
    files.rename(partial / "store", output)
    shutil.rmtree(partial)
    _report(output, counts)


def _check_finished(output: Path, plan: dict[str, Any]) -> None:
    """Accepts an existing store where it is whole and what this command would make."""
    if not (output / "dataset.json").exists():
        raise InputError(f"{output} exists and is no store: delete it or choose another --output")
    info = store.open_store(output).info
    changed = [key for key in plan if info.get(key) != plan[key]]
    if changed:
        was = ", ".join(f"{key} is {info.get(key)}, asked for {plan[key]}" for key in changed)
        raise InputError(f"{output} is another store ({was}): choose another --output")
    store.verify(output)
    print(f"{output} is whole already, of files with these names and sizes")
    _report(output, info["counts"])


def _clear(partial: Path, plan: dict[str, Any]) -> None:
    """Removes the work for a store where a kill came between its last rename and the removal."""
    folders = [partial, *(shard.folder(partial) for shard in shards.begun(partial))]
    begun = [folder for folder in folders if (folder / "plan.json").exists()]
    if begun and not any(files.plan_changes(folder, plan) for folder in begun):
        shutil.rmtree(partial)


def _select(
    source: sources.Source, fates: list[decoding.Fate], plan: dict[str, Any]
) -> tuple[list[catalog.Entry], np.ndarray, list[tuple[str, str]]]:
    """Cleans and splits: the store's rows, each one's place in records.bin, and the rejected."""
    rejected = list(source.rejected)
    place: dict[catalog.Painting, int] = {}
    first_with: dict[str, catalog.Painting] = {}
    num_images = 0
    for painting, fate in zip(source.paintings, fates, strict=True):
        if "reason" in fate:
            rejected.append((painting.file, fate["reason"]))
            continue
        first = first_with.setdefault(fate["sha256"], painting)
        if first is painting:
            place[painting] = num_images
        else:
            rejected.append((painting.file, f"the same bytes as {first.file}"))
        num_images += 1
    rows, single = catalog.split_by_artist(
        place,
        test_fraction=plan["test_fraction"],
        val_fraction=plan["val_fraction"],
        seed=plan["seed"],
    )
    rejected += [(painting.file, "the artist's only painting") for painting in single]
    return rows, np.array([place[row.painting] for row in rows]), sorted(rejected)


def _counts(rows: list[catalog.Entry], rejected: list) -> dict[str, Any]:
    counts: dict[str, Any] = {"files": len(rows) + len(rejected), "rejected": len(rejected)}
    for split in catalog.SPLITS:
        works = [row.painting for row in rows if row.split == split]
        artists = len({painting.artist for painting in works})
        counts[split] = {"paintings": len(works), "artists": artists}
    return counts


def _assemble(
    target: Path,
    rows: list[catalog.Entry],
    batches: Iterator[np.ndarray],
    rejected: list[tuple[str, str]],
    *,
    info: dict[str, Any],
) -> None:
    """Writes a store's folder: the images, both tables and the seal."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    store.write_images(target / "images.npy", batches, rows=len(rows), size=info["image_size"])
    rejected_csv = catalog.csv_text([("file", "reason"), *rejected])
    files.write_text(target / "paintings.csv", catalog.to_csv(rows))
    files.write_text(target / "rejected.csv", rejected_csv)
    store.seal(target, info)


def _gather(
    parts: list[decoding.Part], place_N: np.ndarray, size: int, progress: runlog.Progress
) -> Iterator[np.ndarray]:
    """Yields the images in the rows' order."""
    count = max(1, GATHER_BYTES // (3 * size * size))
    for start in range(0, len(place_N), count):
        places = place_N[start : start + count]
        yield decoding.gather(parts, places, size=size)
        progress.advance(len(places))


def _report(output: Path, counts: dict[str, Any]) -> None:
    for split in catalog.SPLITS:
        paintings, artists = counts[split]["paintings"], counts[split]["artists"]
        print(f"  {split:5} {paintings:>7} paintings by {artists} artists")
    if counts["rejected"]:
        print(f"  {counts['rejected']} files rejected: see {output}/rejected.csv")
    print(f"store: {output}")


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
    if not images.MIN_SIDE <= args.image_size <= MAX_IMAGE_SIZE:
        limits = f"[{images.MIN_SIDE}, {MAX_IMAGE_SIZE}]"
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
