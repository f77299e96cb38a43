"""Builds a store from a listed source: decode once, clean, split by artist, write whole."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.common.progress import Progress
from painterjax.data import catalog, records, shards, sources, store

GATHER_BYTES = 2**26  # Of pixels that are sorted at once; what bounds the memory.


def build(source: sources.Source, output: Path, *, plan: dict[str, Any], workers: int) -> None:
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
        files.begin_work(partial, plan)
    with files.claimed(partial):
        _finish(source, partial, output, plan=plan, workers=workers)


def decode_shard(
    shard: shards.Shard, source: sources.Source, output: Path, *, plan: dict[str, Any], workers: int
) -> None:
    """Decodes one shard of what `build` then makes the store `output` of.

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
) -> records.Part:
    keeping = records.pixels(size)
    fates = records.decode_all(
        source, folder, size=size, workers=workers, keeping=keeping, what=what
    )
    return records.Part(folder, fates)


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
    with Progress("sort by split", total=len(rows), unit="painting") as progress:
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
    source: sources.Source, fates: list[records.Fate], plan: dict[str, Any]
) -> tuple[list[catalog.Row], np.ndarray, list[tuple[str, str]]]:
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


def _counts(rows: list[catalog.Row], rejected: list) -> dict[str, Any]:
    counts: dict[str, Any] = {"files": len(rows) + len(rejected), "rejected": len(rejected)}
    for split in catalog.SPLITS:
        works = [row.painting for row in rows if row.split == split]
        artists = len({painting.artist for painting in works})
        counts[split] = {"paintings": len(works), "artists": artists}
    return counts


def _assemble(
    target: Path,
    rows: list[catalog.Row],
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
    parts: list[records.Part], place_N: np.ndarray, size: int, progress: Progress
) -> Iterator[np.ndarray]:
    """Yields the images in the rows' order."""
    count = max(1, GATHER_BYTES // (3 * size * size))
    for start in range(0, len(place_N), count):
        places = place_N[start : start + count]
        yield records.gather(parts, places, size=size)
        progress.advance(len(places))


def _report(output: Path, counts: dict[str, Any]) -> None:
    for split in catalog.SPLITS:
        paintings, artists = counts[split]["paintings"], counts[split]["artists"]
        print(f"  {split:5} {paintings:>7} paintings by {artists} artists")
    if counts["rejected"]:
        print(f"  {counts['rejected']} files rejected: see {output}/rejected.csv")
    print(f"store: {output}")
