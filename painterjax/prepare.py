"""Turns a collection of paintings into a store: decode once, crop, split by artist.

    python -m painterjax.prepare folder    --input DIR  --output STORE
    python -m painterjax.prepare csv       --input FILE --images DIR --output STORE
    python -m painterjax.prepare kaggle    --input DIR  --output STORE
    python -m painterjax.prepare synthetic --output STORE

Example:

    python -m painterjax.prepare folder --input paintings --output data/paintings --image-size 64

reads paintings/<artist>/<any image>. Interrupt it whenever you like: the same command goes on.
"""

import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from painterjax import catalog, cli, images, parallel, runlog, sources, store
from painterjax.errors import InputError

CHUNK = 8  # Paintings per task: enough that handing over costs little, few enough for a smooth bar.
MAX_IMAGE_SIZE = 4096

Decoded = tuple[dict[str, str], np.ndarray | None]


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
    prepare(source, args.output, plan=plan, workers=args.workers)


def prepare(source: sources.Source, output: Path, *, plan: dict[str, Any], workers: int) -> None:
    """Writes the store `output`, or finishes one that was begun with the same plan.

    Work in progress lies in `<output>.partial`; the store appears under its name when whole.

    Raises:
      InputError: `output` exists or was begun with another plan, or no two paintings by one artist
        can be read.
    """
    partial = output.parent / (output.name + ".partial")
    if output.exists():
        return _check_finished(output, partial, plan)
    _begin(partial, plan)
    with _claimed(partial):
        _finish(source, partial, output, plan=plan, workers=workers)


def _finish(
    source: sources.Source, partial: Path, output: Path, *, plan: dict[str, Any], workers: int
) -> None:
    """Does what is left to do in `partial`, and makes it `output`."""
    _decode_all(source, partial, size=plan["image_size"], workers=workers)
    records = [json.loads(line) for line in (partial / "decoded.jsonl").read_text().splitlines()]
    rows, place_N, rejected = _select(source, records, plan)
    if not rows:
        # Keeping the journal would hold these files rejected after the user has mended them.
        shutil.rmtree(partial)
        raise InputError(
            f"no artist has two readable paintings among {len(rejected)} files"
            f" (first rejected: {rejected[0][0]}, {rejected[0][1]})"
        )
    counts = _counts(rows, rejected)
    _assemble(partial, rows, place_N, rejected, plan=plan, counts=counts)
    (partial / "store").rename(output)
    shutil.rmtree(partial)
    _report(output, counts)


def _begin(partial: Path, plan: dict[str, Any]) -> None:
    path = partial / "plan.json"
    if path.exists():
        try:
            begun = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}): delete {partial}") from error
        changed = [key for key in plan if begun.get(key) != plan[key]]
        if changed:
            was = ", ".join(f"{key} was {begun.get(key)}, is {plan[key]}" for key in changed)
            raise InputError(f"{partial} was begun otherwise ({was}): repeat that or delete it")
        return
    partial.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    if set(partial.iterdir()) - {temporary}:
        raise InputError(f"{partial} is needed and holds other files: move it or delete it")
    temporary.write_text(json.dumps(plan))
    temporary.replace(path)


def _check_finished(output: Path, partial: Path, plan: dict[str, Any]) -> None:
    """Accepts an existing store where it is whole and what this command would make."""
    if not (output / "dataset.json").exists():
        raise InputError(f"{output} exists and is no store: delete it or choose another --output")
    info = store.open_store(output).info
    changed = [key for key in plan if info.get(key) != plan[key]]
    if changed:
        was = ", ".join(f"{key} is {info.get(key)}, asked for {plan[key]}" for key in changed)
        raise InputError(f"{output} is another store ({was}): choose another --output")
    store.verify(output)
    shutil.rmtree(partial, ignore_errors=True)
    print(f"{output} is whole already")
    _report(output, info["counts"])


@contextlib.contextmanager
def _claimed(partial: Path) -> Iterator[None]:
    """Keeps `partial` from a second process, whose paintings would end up under wrong names."""
    with open(partial / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process works in {partial}: wait until it ends") from error
        except OSError:
            pass  # Some file systems of clusters have no locks.
        yield


def _decode_all(source: sources.Source, partial: Path, *, size: int, workers: int) -> None:
    """Appends every painting's pixels to pixels.bin and its fate to decoded.jsonl, in order."""
    journal_path, pixels_path = partial / "decoded.jsonl", partial / "pixels.bin"
    with open(journal_path, "ab+") as journal, open(pixels_path, "ab+") as pixels:
        done = _recover(journal, pixels, bytes_per_image=3 * size * size)
        left = source.paintings[done:]
        chunks = [left[i : i + CHUNK] for i in range(0, len(left), CHUNK)]
        decode = functools.partial(_decode_chunk, source.load, size)
        total = len(source.paintings)
        with runlog.Progress("prepare", total=total, unit="painting", done=done) as progress:
            for results in parallel.ordered_map(decode, chunks, workers):
                for _, image in results:
                    if image is not None:
                        pixels.write(image.tobytes())
                pixels.flush()  # Pixels reach the disk before the journal speaks of them.
                journal.write(b"".join(json.dumps(fate).encode() + b"\n" for fate, _ in results))
                journal.flush()
                progress.advance(len(results))


def _recover(journal: BinaryIO, pixels: BinaryIO, *, bytes_per_image: int) -> int:
    """Cuts both files back to the last painting that is whole in both; returns how many are."""
    journal.seek(0)
    images_on_disk = pixels.seek(0, os.SEEK_END) // bytes_per_image
    done = num_images = end = 0
    for line in journal:
        has_image = b'"sha256"' in line
        if not line.endswith(b"\n") or num_images + has_image > images_on_disk:
            break
        done, num_images, end = done + 1, num_images + has_image, end + len(line)
    journal.truncate(end)
    pixels.truncate(num_images * bytes_per_image)
    return done


def _decode_chunk(
    load: sources.Loader, size: int, paintings: list[catalog.Painting]
) -> list[Decoded]:
    return [_decode_one(load, size, painting) for painting in paintings]


def _decode_one(load: sources.Loader, size: int, painting: catalog.Painting) -> Decoded:
    try:
        digest, image = load(painting, size)
        return {"file": painting.file, "sha256": digest}, image
    except images.ImageError as reason:
        return {"file": painting.file, "reason": str(reason)}, None


def _select(
    source: sources.Source, records: list[dict[str, str]], plan: dict[str, Any]
) -> tuple[list[catalog.Entry], np.ndarray, list[tuple[str, str]]]:
    """Cleans and splits: the store's rows, each one's place in pixels.bin, and the rejected."""
    rejected = list(source.rejected)
    place: dict[catalog.Painting, int] = {}
    first_with: dict[str, catalog.Painting] = {}
    num_images = 0
    for painting, record in zip(source.paintings, records, strict=True):
        if "reason" in record:
            rejected.append((painting.file, record["reason"]))
            continue
        first = first_with.setdefault(record["sha256"], painting)
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
    partial: Path,
    rows: list[catalog.Entry],
    place_N: np.ndarray,
    rejected: list[tuple[str, str]],
    *,
    plan: dict[str, Any],
    counts: dict[str, Any],
) -> None:
    """Writes partial/store: the images in the rows' order, both tables and the seal."""
    target, size = partial / "store", plan["image_size"]
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    pixels = np.memmap(partial / "pixels.bin", np.uint8, "r").reshape(-1, size, size, 3)
    with runlog.Progress("sort by split", total=len(rows), unit="painting") as progress:
        batches = _gather(pixels, place_N, progress)
        store.write_images(target / "images.npy", batches, rows=len(rows), size=size)
    rejected_csv = catalog.csv_text([("file", "reason"), *rejected])
    (target / "paintings.csv").write_text(catalog.to_csv(rows), encoding="utf-8", newline="\n")
    (target / "rejected.csv").write_text(rejected_csv, encoding="utf-8", newline="\n")
    store.seal(target, {**plan, "counts": counts})


def _gather(
    pixels: np.ndarray, place_N: np.ndarray, progress: runlog.Progress
) -> Iterator[np.ndarray]:
    for start in range(0, len(place_N), 256):
        places = place_N[start : start + 256]
        yield pixels[places]
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
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.prepare")
    subparsers = parser.add_subparsers(dest="source", required=True, parser_class=cli.Parser)
    for name in ("folder", "csv", "kaggle", "synthetic"):
        command = subparsers.add_parser(name, doc=f"Source: {name}. See also prepare --help.")
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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    command.add_argument("--output", type=Path, required=True, help="the store to write")
    command.add_argument("--image-size", type=int, default=256, help="side in pixels (256)")
    command.add_argument("--test-fraction", type=float, default=0.2, help="of artists (0.2)")
    command.add_argument("--val-fraction", type=float, default=0.1, help="of paintings (0.1)")
    command.add_argument("--seed", type=int, default=0, help="of the split (0)")
    command.add_argument("--workers", type=int, default=cores, help="processes (all cores)")


def _check(args: argparse.Namespace) -> None:
    if not images.MIN_SIDE <= args.image_size <= MAX_IMAGE_SIZE:
        limits = f"[{images.MIN_SIDE}, {MAX_IMAGE_SIZE}]"
        raise InputError(f"--image-size {args.image_size}: must lie in {limits}")
    for name in ("test_fraction", "val_fraction"):
        if not 0 <= getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} {getattr(args, name)}: must lie in [0, 1)")
    for name, least in (("seed", 0), ("workers", 1), ("artists", 1), ("paintings", 1)):
        if getattr(args, name, least) < least:
            raise InputError(f"--{name} {getattr(args, name)}: must be at least {least}")
    if args.source == "folder" and args.output.resolve().is_relative_to(args.input.resolve()):
        raise InputError(f"--output {args.output} lies in --input {args.input}: put it elsewhere")


if __name__ == "__main__":
    cli.run(main, "prepare")
