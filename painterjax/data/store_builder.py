"""Builds a store from a source: decode once, reject, split by artist, write, rename."""

import dataclasses
import functools
import hashlib
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.common.process_pool import Workers
from painterjax.common.progress import Progress, counted
from painterjax.data import (
    catalog,
    duplicates,
    images,
    pictures,
    records,
    shards,
    sources,
    splits,
    store,
    sufficiency,
    synthetic,
)  # fmt: skip
from painterjax.data.records import DecodedImages, DecodeResult
from painterjax.data.store import StorePlan

GATHER_BYTES = 2**26  # Of pixels that are sorted at once; this bounds the memory.


def listing_digests(source: sources.Source) -> dict[str, Any]:
    """Returns the SHA-256s of a StorePlan that tell whether a source has changed."""
    listing: list[Any] = [source.paintings]
    if source.preferred:
        listing.append(sorted(source.preferred, key=lambda p: (p.file, p.artist)))
    if source.split_by_file is not None:
        listing.append(sorted(source.split_by_file.items()))
    values: dict[str, Any] = {"listing_sha256": listing if len(listing) > 1 else source.paintings}
    # Times of change are left out: copies for several machines do not share them.
    if sizes := sources.sizes(source):
        values["sizes_sha256"] = sizes
    return {key: hashlib.sha256(repr(v).encode()).hexdigest() for key, v in values.items()}


def build_store(source: sources.Source, output: Path, plan: StorePlan, *, workers: Workers) -> None:
    """Makes the store `output`, or resumes work that was started with the same plan.

    Work in progress lies in `<output>.partial`; the store appears under its name when complete.

    Raises:
      InputError: `output` exists or was started with another plan, shards of it are incomplete, or
        no two paintings by one artist can be decoded.
    """
    partial = _partial(output)
    if output.exists():
        _check_existing(output, plan)
        return _remove_leftovers(partial, plan)
    is_sharded = bool(shards.shards_in(partial))
    if not is_sharded:
        files.begin_work(partial, plan.as_json())
    with files.claimed(partial):
        if is_sharded:
            parts = shards.read_all(source, partial, plan)
        else:
            parts = [_decode(source, partial, plan, workers, "prepare")]
        contents = _select(source, parts, plan)
        if not contents.rows:
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
    plan = StorePlan(
        "synthetic", size, 0, store.TEST_FRACTION, store.VAL_FRACTION, **listing_digests(source)
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
        return _check_existing(output, plan)
    share = dataclasses.replace(source, paintings=shard.share(source.paintings))
    with shards.locked_folder(shard, _partial(output), plan) as folder:
        _decode(share, folder, plan, workers, f"shard {shard}")
    print(f"shard {shard} is complete; once all are, repeat this without --shard")


def _partial(output: Path) -> Path:
    return output.parent / (output.name + ".partial")


def _decode(
    source: sources.Source, folder: Path, plan: StorePlan, workers: Workers, label: str
) -> DecodedImages:
    stored = records.pixel_format(plan.image_size, pictures=plan.picture_side is not None)
    results = records.decode_all(source, folder, stored, workers=workers, label=label)
    return DecodedImages(folder, plan.image_size, results)


def _check_existing(output: Path, plan: StorePlan) -> None:
    """Accepts a store that is intact and was made with this plan."""
    if not (output / "dataset.json").exists():
        raise InputError(f"{output} exists and is no store: delete it or choose another --output")
    opened = store.open_store(output)
    info = opened.info
    # A key that the plan lacks must be missing there as well. Nothing is trained on the pictures.
    asked = {key: value for key, value in vars(plan).items() if key != "picture_side"}
    if changed := [key for key in asked if info.get(key) != asked[key]]:
        was = ", ".join(f"{key} is {info.get(key)}, asked for {asked[key]}" for key in changed)
        raise InputError(
            f"{output} is another store ({was}): choose another --output, or delete it"
        )
    store.verify(output)
    print(f"{output} is complete already, of files with these names and sizes")
    if plan.picture_side and "picture_side" not in info:
        print("  it has no pictures of whole paintings: delete it and repeat this to have them")
    _report(opened)


def _remove_leftovers(partial: Path, plan: StorePlan) -> None:
    """Removes the work of a finished store, where a kill came after its rename."""
    plans = {partial: plan.as_json()}
    for shard in shards.shards_in(partial):
        plans[shard.folder(partial)] = plan.as_json() | {"shards": shard.count}
    planned = [folder for folder in plans if (folder / "plan.json").exists()]
    if planned and not any(files.plan_changes(folder, plans[folder]) for folder in planned):
        shutil.rmtree(partial)


@dataclasses.dataclass(frozen=True)
class _Contents:
    """What a store is to hold."""

    rows: list[catalog.Row]
    place_N: np.ndarray  # of each row's image among all decoded ones
    rejected: list[tuple[str, str]]  # (file, reason), sorted
    groups: list[duplicates.Group]

    def counts(self) -> dict[str, Any]:
        """Returns the counts of dataset.json."""
        rejected = len(self.rejected)
        return {
            "files": len(self.rows) + rejected,
            "rejected": rejected,
            "duplicates": duplicates.count(self.groups),
            **catalog.count_rows(self.rows),
        }


def _select(source: sources.Source, parts: list[DecodedImages], plan: StorePlan) -> _Contents:
    """Rejects duplicates and single paintings, and splits the rest."""
    results = [result for part in parts for result in part.results]
    decoded, rejected = _decoded_files(source, results)
    groups = duplicates.find(decoded, functools.partial(records.gather, parts))
    rejected += [*source.rejected, *duplicates.rejections(groups)]
    dropped = {picture.place for group in groups for picture, _ in group.rejected()}
    place = {picture.painting: picture.place for picture in decoded if picture.place not in dropped}
    rows, single = _split(source, place, plan)
    rejected += [(painting.file, "the artist's only painting") for painting in single]
    place_N = np.array([place[row.painting] for row in rows])
    return _Contents(rows, place_N, sorted(rejected), groups)


def _split(
    source: sources.Source, paintings: Iterable[catalog.Painting], plan: StorePlan
) -> tuple[list[catalog.Row], list[catalog.Painting]]:
    val_fraction, seed = plan.val_fraction, plan.seed
    if source.split_by_file is not None:
        given = source.split_by_file
        return splits.as_given(paintings, given, val_fraction=val_fraction, seed=seed)
    fraction = plan.test_fraction
    return splits.by_artist(paintings, test_fraction=fraction, val_fraction=val_fraction, seed=seed)


def _decoded_files(
    source: sources.Source, results: list[DecodeResult]
) -> tuple[list[duplicates.DecodedFile], list[tuple[str, str]]]:
    """Returns what was decoded, in order, and the files that could not be."""
    decoded: list[duplicates.DecodedFile] = []
    rejected: list[tuple[str, str]] = []
    for painting, result in zip(source.paintings, results, strict=True):
        if "reason" in result:
            rejected.append((painting.file, result["reason"]))
            continue
        found = {k: v for k, v in result.items() if k not in ("file", "picture_bytes")}
        is_preferred = painting in source.preferred
        is_test = (source.split_by_file or {}).get(painting.file) == "test"
        picture = duplicates.DecodedFile(painting, len(decoded), is_preferred, is_test, **found)
        decoded.append(picture)
    return decoded, rejected


def _write(target: Path, contents: _Contents, parts: list[DecodedImages], plan: StorePlan) -> None:
    """Writes a store's files."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    rows, size = contents.rows, plan.image_size
    store.write_images(target / "images.npy", _sorted(parts, contents), rows=len(rows), size=size)
    if plan.picture_side is not None:
        pictures.write(target / pictures.NAME, records.read_pictures(parts, contents.place_N))
    rejected_csv = catalog.csv_text([("file", "reason"), *contents.rejected])
    files.write_text(target / "paintings.csv", catalog.to_csv(rows))
    files.write_text(target / "rejected.csv", rejected_csv)
    duplicates_csv = catalog.csv_text(duplicates.table(contents.groups))
    files.write_text(target / store.DUPLICATES, duplicates_csv)
    store.write_info(target, {**plan.as_json(), "counts": contents.counts()})


def _sorted(parts: list[DecodedImages], contents: _Contents) -> Iterator[np.ndarray]:
    """Yields the images in the order of the rows."""
    total, size = len(contents.rows), parts[0].image_size
    count = max(1, GATHER_BYTES // (3 * size * size))
    with Progress("sort by split", total=total, unit="painting") as progress:
        for start in range(0, total, count):
            place_N = contents.place_N[start : start + count]
            yield records.gather(parts, place_N)
            progress.advance(len(place_N))


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
        print(f"  {counted(unread, 'file')} of these: {images.NEEDS_HEIF}")
    if (found := counts["duplicates"])["groups"]:
        print(
            f"  pictures in several files: {found['groups']}, by several artists:"
            f" {found['by_several_artists']}, dropped: {found['dropped_whole']};"
            f" see {output}/duplicates.csv"
        )
    for line in sufficiency.shortcomings(made):
        print(f"  {line}")
    print(f"store: {output}")
