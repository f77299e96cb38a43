"""Builds a store from a source: decode once, reject, split by artist, write, rename."""

import dataclasses
import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.common.process_pool import Workers
from painterjax.common.progress import Progress, counted
from painterjax.data import (
    catalog,
    columns,
    duplicates,
    encoded,
    images,
    pictures,
    records,
    shards,
    sources,
    splits,
    store,
    sufficiency,
    synthetic,
    tables,
)  # fmt: skip
from painterjax.data.columns import Paintings
from painterjax.data.records import DecodedImages, DecodeResult
from painterjax.data.store import StorePlan

GATHER_BYTES = 2**26  # Of pixels that are sorted at once; this bounds the memory.


def build_store(source: sources.Source, output: Path, plan: StorePlan, *, workers: Workers) -> None:
    """Makes the store `output`, or resumes work that was started with the same plan.

    Work in progress lies in `<output>.partial`; the store appears under its name when complete.
    The sizes of the source's files become part of the plan.

    Raises:
      InputError: `output` exists or was started with another plan, shards of it are incomplete, or
        no two paintings by one artist can be decoded.
    """
    partial, sizes = _partial(output), sources.sizes(source)
    plan = shards.with_sizes(plan, sizes)
    if output.exists():
        _check_existing(output, plan)
        return _remove_leftovers(partial, plan, source, sizes)
    is_sharded = bool(shards.shards_in(partial))
    if not is_sharded:
        files.begin_work(partial, plan.as_json())
    with files.claimed(partial):
        if is_sharded:
            parts = shards.read_all(source, sizes, partial, plan)
        else:
            parts = [_decode(source, partial, plan, workers, "prepare")]
        contents = _select(source, parts, plan)
        if not len(contents.rows):
            # With the results kept, these files would stay rejected once they are repaired.
            shutil.rmtree(partial)
            raise InputError(
                "no artist has two readable paintings among"
                f" {counted(len(contents.rejected), 'file')}"
                f" (first rejected: {', '.join(contents.rejected[0])})"
            )
        _write(partial / "store", contents, parts, plan)
        files.rename(partial / "store", output)
        shutil.rmtree(partial)
    _report(store.open_store(output))


def paint_if_missing(output: str, *, workers: Workers) -> None:
    """Makes the store that quickstart trains on, where `output` names it and there is none yet."""
    size = synthetic.STORE_IMAGE_SIZE
    if output != synthetic.STORE or Path(output).exists():
        return
    print(f"train: no store at {output}: painting it, {size} pixels an image", file=sys.stderr)
    source = sources.synthetic_painters(synthetic.ARTISTS, synthetic.PAINTINGS, seed=0)
    listing = columns.digest(source.paintings.table)
    plan = StorePlan(
        "synthetic", size, 0, store.TEST_FRACTION, store.VAL_FRACTION, listing_sha256=listing
    )
    build_store(source, Path(output), plan, workers=workers)


def decode_shard(
    shard: shards.Shard, source: sources.Source, output: Path, plan: StorePlan, *, workers: Workers
) -> None:
    """Decodes one shard of the paintings from which `build_store` then makes `output`.

    Raises:
      InputError: `output` exists or was started with another plan or number of shards.
    """
    if output.exists():
        return _check_existing(output, shards.with_sizes(plan, sources.sizes(source)))
    share = dataclasses.replace(source, paintings=shard.share(source.paintings))
    plan = shards.with_sizes(plan, sources.sizes(share))
    with shards.locked_folder(shard, _partial(output), plan) as folder:
        _decode(share, folder, plan, workers, f"shard {shard}")
    print(f"shard {shard} is complete; once all are, repeat this without --shard")


def _partial(output: Path) -> Path:
    return output.parent / (output.name + ".partial")


def _decode(
    source: sources.Source, folder: Path, plan: StorePlan, workers: Workers, label: str
) -> DecodedImages:
    kept = {"pictures": plan.picture_side is not None, "jpeg": plan.jpeg is not None}
    stored = records.pixel_format(plan.image_size, **kept)
    results = records.decode_all(source, folder, stored, workers=workers, label=label)
    return DecodedImages(folder, plan.image_size, results)


def _check_existing(output: Path, plan: StorePlan) -> None:
    """Accepts a store that is intact and was made with this plan."""
    if not (output / "dataset.json").exists():
        raise InputError(f"{output} exists and is no store: delete it or choose another --output")
    opened = store.open_store(output)
    info = opened.info
    if (version := info["format_version"]) != store.STORE_VERSION:
        raise InputError(
            f"{output} is a store of format version {version}, which all commands read, not"
            f" {store.STORE_VERSION}: use it as it is, or choose another --output"
        )
    # A key that the plan lacks must be missing there as well. Nothing is trained on the pictures.
    asked = {key: value for key, value in vars(plan).items() if key != "picture_side"}
    if changed := [key for key in asked if info.get(key) != asked[key]]:
        was = ", ".join(f"{key} is {info.get(key)}, asked for {asked[key]}" for key in changed)
        raise InputError(
            f"{output} is another store ({was}): choose another --output, or delete it"
        )
    store.verify(output, anew=True)
    print(f"{output} is complete already, of files with these names and sizes")
    if plan.picture_side and "picture_side" not in info:
        print("  it has no pictures of whole paintings: delete it and repeat this to have them")
    _report(opened)


def _remove_leftovers(
    partial: Path, plan: StorePlan, source: sources.Source, sizes: list[int]
) -> None:
    """Removes the work of a finished store, where a kill came after its rename."""
    plans = {partial: plan.as_json()}
    for shard in shards.shards_in(partial):
        plans[shard.folder(partial)] = shard.plan(plan, source, sizes)
    planned = [folder for folder in plans if (folder / "plan.json").exists()]
    if planned and not any(files.plan_changes(folder, plans[folder]) for folder in planned):
        shutil.rmtree(partial)


@dataclasses.dataclass(frozen=True)
class _Contents:
    """What a store is to hold."""

    rows: pa.Table  # and a column `place`: of the image among all decoded ones
    rejected: list[tuple[str, str]]  # (file, reason), sorted
    groups: list[duplicates.Group]

    def counts(self) -> dict[str, Any]:
        """Returns the counts of dataset.json."""
        rejected = len(self.rejected)
        return {
            "files": len(self.rows) + rejected,
            "rejected": rejected,
            "duplicates": duplicates.count(self.groups),
            **columns.count_rows(self.rows),
        }


def _select(source: sources.Source, parts: list[DecodedImages], plan: StorePlan) -> _Contents:
    """Rejects duplicates and single paintings, and splits the rest."""
    results = [result for part in parts for result in part.results]
    decoded, rejected = _decoded_files(source, results)
    groups = duplicates.find(decoded, functools.partial(records.gather, parts))
    rejected += [*source.rejected, *duplicates.rejections(groups)]
    row_N = np.flatnonzero(["reason" not in result for result in results])  # by place
    dropped = [picture.place for group in groups for picture, _ in group.rejected()]
    place_N = np.setdiff1d(np.arange(len(decoded)), np.array(dropped, int), assume_unique=True)
    kept = source.paintings.table.take(row_N[place_N]).append_column("place", pa.array(place_N))
    rows, single = _split(Paintings(kept), plan)
    rejected += [(painting.file, "the artist's only painting") for painting in single]
    return _Contents(rows, sorted(rejected), groups)


def _split(paintings: Paintings, plan: StorePlan) -> tuple[pa.Table, Paintings]:
    drawn: dict[str, Any] = {"val_fraction": plan.val_fraction, "seed": plan.seed}
    if "split" in paintings.table.column_names:
        return splits.as_given(paintings, **drawn)
    return splits.by_artist(paintings, test_fraction=plan.test_fraction, **drawn)


def _decoded_files(
    source: sources.Source, results: list[DecodeResult]
) -> tuple[list[duplicates.DecodedFile], list[tuple[str, str]]]:
    """Returns what was decoded, in order, and the files that could not be."""
    decoded: list[duplicates.DecodedFile] = []
    rejected: list[tuple[str, str]] = []
    table, names = source.paintings.table, source.paintings.table.column_names
    none = [None] * len(table)
    keeps = table[sources.KEEP].to_pylist() if sources.KEEP in names else none
    given = table["split"].to_pylist() if source.has_split else none
    listed = zip(source.paintings, keeps, given, results, strict=True)
    for painting, keep, split, result in listed:
        if "reason" in result:
            rejected.append((painting.file, result["reason"]))
            continue
        found = {k: v for k, v in result.items() if k not in ("file", *records.LENGTHS.values())}
        told = bool(keep), split == "test"
        decoded.append(duplicates.DecodedFile(painting, len(decoded), *told, **found))
    return decoded, rejected


def _write(target: Path, contents: _Contents, parts: list[DecodedImages], plan: StorePlan) -> None:
    """Writes a store's files."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    rows, size = contents.rows, plan.image_size
    place_N = rows["place"].to_numpy()
    if plan.jpeg:
        encoded.write(target / encoded.NAME, records.read_files(parts, place_N, records.RECORDS))
    else:
        sorted_images = _sorted(parts, place_N)
        store.write_images(target / store.PIXELS, sorted_images, rows=len(rows), size=size)
    if plan.picture_side is not None:
        files_of_rows = records.read_files(parts, place_N, records.PICTURES)
        pictures.write(target / pictures.NAME, files_of_rows)
    rejected_csv = catalog.csv_text([("file", "reason"), *contents.rejected])
    tables.write_rows(target / tables.PARQUET, rows)
    if len(rows) <= tables.CSV_ROWS:
        files.write_text(target / tables.CSV, tables.to_csv(rows))
    files.write_text(target / "rejected.csv", rejected_csv)
    duplicates_csv = catalog.csv_text(duplicates.table(contents.groups))
    files.write_text(target / store.DUPLICATES, duplicates_csv)
    store.write_info(target, {**plan.as_json(), "counts": contents.counts()}, rows)


def _sorted(parts: list[DecodedImages], place_N: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the images at these places."""
    size = parts[0].image_size
    count = max(1, GATHER_BYTES // (3 * size * size))
    with Progress("sort by split", total=len(place_N), unit="painting") as progress:
        for start in range(0, len(place_N), count):
            place_B = place_N[start : start + count]
            yield records.gather(parts, place_B)
            progress.advance(len(place_B))


def _report(made: store.Store) -> None:
    output, counts = made.path, made.info["counts"]
    for name, split in made.splits.items():
        paintings, artists = counted(len(split), "painting"), counted(len(split.artists), "artist")
        number, noun = paintings.split()
        print(f"  {name:5} {number:>7} {noun} by {artists}")
    if counts["rejected"]:
        print(f"  {counted(counts['rejected'], 'file')} rejected: see {output}/rejected.csv")
    rejected_csv = (output / "rejected.csv").read_text(encoding="utf-8")
    if unread := rejected_csv.count(images.NEEDS_HEIF):
        remedy = f"{images.NEEDS_HEIF}; prepare into another --output after that"
        print(f"  {counted(unread, 'file')} of these: {remedy}")
    if (found := counts["duplicates"])["groups"]:
        print(
            f"  pictures in several files: {found['groups']}, by several artists:"
            f" {found['by_several_artists']}, dropped: {found['dropped_whole']};"
            f" see {output}/duplicates.csv"
        )
    for line in sufficiency.shortcomings(made):
        print(f"  {line}")
    print(f"store: {output}")
