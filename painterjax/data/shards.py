"""Shares of prepare's work, for several processes on one machine or many.

    STORE.partial/shard-3-of-16/    plan.json, records.bin, decoded.jsonl of the third share

Each process begins, locks and resumes a folder of its own; they share a file system, and nothing
else. prepare without a shard then makes the store of all of them.
"""

import argparse
import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data import catalog, records, sources

NAMED_AT_MOST = 5  # Shards in a refusal, which is one line.


@dataclasses.dataclass(frozen=True)
class Shard:
    """Share `number` of `count`, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def folder(self, partial: Path) -> Path:
        """Returns where this shard's work lies."""
        return partial / f"shard-{self.number}-of-{self.count}"

    def share(self, paintings: list[catalog.Painting]) -> list[catalog.Painting]:
        """Returns this shard's range of a listing.

        >>> [Shard(number, 3).share([*"abcde"]) for number in (1, 2, 3)]
        [['a'], ['b', 'c'], ['d', 'e']]
        """
        start, end = (len(paintings) * i // self.count for i in (self.number - 1, self.number))
        return paintings[start:end]


def parse(text: str) -> Shard:
    """Reads a shard as the command line has it.

    >>> parse("3/16")
    Shard(number=3, count=16)
    """
    match = re.fullmatch("([0-9]{1,5})/([0-9]{1,5})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text}: must be i/n with 1 <= i <= n, as 3/16")
    return Shard(int(match[1]), int(match[2]))


def begun(partial: Path) -> list[Shard]:
    """Returns the shards that have a folder in `partial`."""
    matches = [re.fullmatch("shard-([0-9]+)-of-([0-9]+)", p.name) for p in partial.glob("shard-*")]
    return [Shard(int(match[1]), int(match[2])) for match in matches if match]


@contextlib.contextmanager
def claimed(shard: Shard, partial: Path, plan: dict[str, Any]) -> Iterator[Path]:
    """Begins or takes up a shard's folder, and keeps it from others.

    Raises:
      InputError: `partial` was begun with another plan, another number of shards or none, or
        another process works on this shard or makes the store.
    """
    plan = {**plan, "shards": shard.count}
    partial.mkdir(parents=True, exist_ok=True)
    if (partial / "plan.json").exists():
        raise InputError(f"{partial} was begun without --shard: repeat that or delete it")
    known = {other.folder(partial) for other in begun(partial)}
    if set(partial.iterdir()) - known - {partial / "lock", partial / "store"}:
        raise InputError(f"{partial} holds other files: move it or delete it")
    _check_plans(partial, plan)
    folder = shard.folder(partial)
    with files.claimed(partial, shared=True):
        files.begin_work(folder, plan)
        with files.claimed(folder):
            yield folder


def whole(source: sources.Source, partial: Path, plan: dict[str, Any]) -> list[records.Part]:
    """Returns what all shards have, in the order of the listing.

    Raises:
      InputError: a shard is missing, not whole, or was begun with another plan.
    """
    count = begun(partial)[0].count
    _check_plans(partial, {**plan, "shards": count})
    parts, lacking = [], []
    for shard in (Shard(number, count) for number in range(1, count + 1)):
        part = records.read(shard.folder(partial), size=plan["image_size"])
        parts.append(part)
        if len(part.fates) < len(shard.share(source.paintings)):
            lacking.append(str(shard))
    if lacking:
        named = ", ".join(lacking[:NAMED_AT_MOST]) + ", ..." * (len(lacking) > NAMED_AT_MOST)
        what = f"{len(lacking)} of the {count} shards in {partial} are not whole"
        raise InputError(f"{what}: repeat this with --shard {named} first")
    return parts


def _check_plans(partial: Path, plan: dict[str, Any]) -> None:
    for folder in (shard.folder(partial) for shard in begun(partial)):
        # A kill, or a process that begins just now, leaves a folder without a plan.
        changes = files.plan_changes(folder, plan) if (folder / "plan.json").exists() else ""
        if changes:
            raise InputError(f"{partial} has other options ({changes}): repeat those or delete it")
