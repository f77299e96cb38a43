"""Shards: prepare's decoding in equal shares, by several processes on one machine or many.

    STORE.partial/shard-3-of-16/    plan.json, records.bin, decoded.jsonl of the third shard

Each process starts, locks and resumes the folder of its shard. They need a common file system and
nothing else. prepare without a shard then makes the store of all shards.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data import records, sources
from painterjax.data.columns import Paintings
from painterjax.data.store import StorePlan

MAX_NAMED = 5  # Shards in a message, which is one line.
Listed = TypeVar("Listed", Paintings, list[int])


@dataclasses.dataclass(frozen=True)
class Shard:
    """Share `number` of `count`, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def folder(self, partial: Path) -> Path:
        """Returns the folder of this shard's work."""
        return partial / f"shard-{self.number}-of-{self.count}"

    def share(self, paintings: Listed) -> Listed:
        """Returns this shard's range of the paintings, or of their files' sizes.

        >>> from painterjax.data.catalog import Painting
        >>> works = Paintings.of(Painting(file, "") for file in "abcde")
        >>> [[work.file for work in Shard(i, 3).share(works)] for i in (1, 2, 3)]
        [['a'], ['b', 'c'], ['d', 'e']]
        """
        start, end = (len(paintings) * i // self.count for i in (self.number - 1, self.number))
        return paintings[start:end]

    def plan(self, plan: StorePlan, source: sources.Source, sizes: list[int]) -> dict[str, Any]:
        """Returns the plan.json of this shard: of all sizes, those of its own files."""
        own = sizes if source.parts else self.share(sizes)
        return with_sizes(plan, own).as_json() | {"shards": self.count}


def with_sizes(plan: StorePlan, sizes: list[int]) -> StorePlan:
    """Returns a plan with the SHA-256 of the sizes of files, if there are any."""
    # Times of change are left out: copies for several machines do not share them.
    digest = hashlib.sha256(repr(sizes).encode()).hexdigest() if sizes else None
    return dataclasses.replace(plan, sizes_sha256=digest)


def parse(text: str) -> Shard:
    """Parses a shard as the command line has it.

    >>> parse("3/16")
    Shard(number=3, count=16)
    """
    match = re.fullmatch("([0-9]{1,5})/([0-9]{1,5})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text}: must be i/n with 1 <= i <= n, as 3/16")
    return Shard(int(match[1]), int(match[2]))


def shards_in(partial: Path) -> list[Shard]:
    """Returns the shards that have a folder in `partial`."""
    matches = [re.fullmatch("shard-([0-9]+)-of-([0-9]+)", p.name) for p in partial.glob("shard-*")]
    return [Shard(int(match[1]), int(match[2])) for match in matches if match]


@contextlib.contextmanager
def locked_folder(shard: Shard, partial: Path, plan: StorePlan) -> Iterator[Path]:
    """Starts or resumes a shard: yields its folder, locked against other processes.

    The plan has the sizes of this shard's files; `read_all` compares those of the others.

    Raises:
      InputError: `partial` was started with another plan, another number of shards or none; or
        another process works on this shard or makes the store.
    """
    partial.mkdir(parents=True, exist_ok=True)
    if (partial / "plan.json").exists():
        raise InputError(f"{partial} was started without --shard: repeat that or delete it")
    known = {other.folder(partial) for other in shards_in(partial)}
    if set(partial.iterdir()) - known - {partial / "lock", partial / "store"}:
        raise InputError(f"{partial} holds other files: move it or delete it")
    shard_plan = plan.as_json() | {"shards": shard.count}
    _check_plans(partial, shard_plan)
    folder = shard.folder(partial)
    with files.claimed(partial, shared=True):
        files.begin_work(folder, shard_plan)
        with files.claimed(folder):
            yield folder


def read_all(
    source: sources.Source, sizes: list[int], partial: Path, plan: StorePlan
) -> list[records.DecodedImages]:
    """Returns what all shards have decoded, in the order of the source.

    Raises:
      InputError: a shard is missing, incomplete, or was started with another plan or when its
        files had other sizes.
    """
    count = shards_in(partial)[0].count
    _check_plans(partial, plan.as_json() | {"shards": count})
    parts, incomplete = [], []
    for shard in (Shard(number, count) for number in range(1, count + 1)):
        if (shard.folder(partial) / "plan.json").exists():
            files.check_plan(shard.folder(partial), shard.plan(plan, source, sizes))
        part = records.read_decoded(shard.folder(partial), image_size=plan.image_size)
        parts.append(part)
        if len(part.results) < len(shard.share(source.paintings)):
            incomplete.append(str(shard))
    if incomplete:
        named = ", ".join(incomplete[:MAX_NAMED]) + ", ..." * (len(incomplete) > MAX_NAMED)
        what = f"{len(incomplete)} of the {count} shards in {partial} are incomplete"
        raise InputError(f"{what}: run this with --shard {named} first")
    return parts


def _check_plans(partial: Path, plan: dict[str, Any]) -> None:
    """Compares the plans of all shards but for the sizes, which each has of its own files."""
    for folder in (shard.folder(partial) for shard in shards_in(partial)):
        # A process that starts just now, or was killed, leaves a folder without a plan.
        if (folder / "plan.json").exists():
            own = {"sizes_sha256": files.read_plan(folder).get("sizes_sha256")}
            files.check_plan(folder, plan | own)
