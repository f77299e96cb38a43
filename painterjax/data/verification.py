"""Whether a store's files are what prepare wrote, part by part, once on each machine.

A file of more than PART_BYTES has the SHA-256 of each of its parts in parts.json. What was found
intact is remembered in the user's cache folder: by machine, path, size, and time of the last
change. A part that changed since is read again; damage that leaves both as they were is not seen
until the store is checked anew.
"""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from painterjax.common import checksums, cli, files
from painterjax.common.errors import InputError

NAME = "parts.json"
PART_BYTES = 2**28
READ_BYTES = 2**20  # at once


class Part(NamedTuple):
    """Some bytes of a file, and the SHA-256 that they had."""

    name: str
    number: int
    start: int
    length: int | None  # None is all of the file
    sha256: str


def digests(folder: Path, names: list[str]) -> dict[str, str]:
    """Returns the SHA-256 of files, and writes parts.json where one is large."""
    found, parts = {}, {}
    for name in names:
        found[name], of_parts = _whole_and_parts(folder / name)
        if len(of_parts) > 1:
            parts[name] = of_parts
    if parts:
        files.write_json(folder / NAME, {"part_bytes": PART_BYTES, "sha256": parts})
        found[NAME] = _sha256(Part(NAME, 0, 0, None, ""), folder)
    return found


def damaged(folder: Path, sha256: Mapping[str, str], *, share: tuple[int, int]) -> str | None:
    """Returns the name of a file that is not what prepare wrote, or None.

    Args:
      folder: the store.
      sha256: of each of its files.
      share: which of how many shares of all parts to check, as 0 of 1.

    Raises:
      OSError: a file cannot be read.
    """
    place, count = share
    if NAME in sha256 and _sha256(Part(NAME, 0, 0, None, ""), folder) != sha256[NAME]:
        return NAME
    records = {name: _Record(folder / name, digest) for name, digest in sha256.items()}
    own = list(_parts(folder, sha256))[place::count]
    unknown = [part for part in own if part.number not in records[part.name].known]
    with ThreadPoolExecutor(cli.cores()) as pool:
        for part, found in zip(
            unknown, pool.map(lambda p: _sha256(p, folder), unknown), strict=True
        ):
            if found != part.sha256:
                return part.name
    for name, record in records.items():
        record.remember(sorted(part.number for part in unknown if part.name == name))
    return None


def forget(folder: Path, sha256: Mapping[str, str]) -> None:
    """Forgets what was found intact, so that the next check reads all."""
    for name, digest in sha256.items():
        with contextlib.suppress(OSError):
            _Record(folder / name, digest).path.unlink(missing_ok=True)


def _parts(folder: Path, sha256: Mapping[str, str]) -> Iterator[Part]:
    """The parts of all files; a file of one part is a part itself."""
    listed, size = {}, PART_BYTES
    if NAME in sha256:
        try:
            written = json.loads((folder / NAME).read_text())
            size, listed = int(written["part_bytes"]), written["sha256"]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{folder / NAME} cannot be read ({error!r})") from error
    for name, digest in sha256.items():
        if name not in listed:
            yield Part(name, 0, 0, None, digest)
            continue
        for number, of_part in enumerate(listed[name]):
            yield Part(name, number, number * size, size, of_part)
        end = len(listed[name]) * size  # A file that grew has another part.
        if (folder / name).stat().st_size > end:
            yield Part(name, len(listed[name]), end, size, "")


class _Record:
    """Which parts of a file were found intact on this machine, one line for each check."""

    def __init__(self, path: Path, digest: str) -> None:
        of, self._file, self._stamp = path.stat(), path, checksums.stamp(path)
        where = [platform.node(), str(path.resolve()), of.st_dev, of.st_ino]
        identity = json.dumps([*where, self._stamp, digest]).encode()
        self.path = _cache_folder() / hashlib.sha256(identity).hexdigest()

    @property
    def known(self) -> set[int]:
        with contextlib.suppress(OSError, ValueError):
            return {int(number) for number in self.path.read_text().split()}
        return set()

    def remember(self, numbers: list[int]) -> None:
        """Adds parts; processes may do so at once. Where nothing can be written, it is left out."""
        if not numbers or not self._stamp or checksums.stamp(self._file) != self._stamp:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a") as file:
                file.write(" ".join(map(str, numbers)) + "\n")


def _cache_folder() -> Path:
    return files.cache_home() / "painterjax" / "verified"


def _sha256(part: Part, folder: Path) -> str:
    digest, left = hashlib.sha256(), part.length
    with open(folder / part.name, "rb") as file:
        file.seek(part.start)
        while left is None or left > 0:
            data = file.read(READ_BYTES if left is None else min(READ_BYTES, left))
            if not data:
                break
            digest.update(data)
            left = None if left is None else left - len(data)
    return digest.hexdigest()


def _whole_and_parts(path: Path) -> tuple[str, list[str]]:
    """The SHA-256 of a file and those of its parts, by one reading."""
    whole, parts, size = hashlib.sha256(), [], os.path.getsize(path)
    with open(path, "rb") as file:
        for start in range(0, max(size, 1), PART_BYTES):
            part = hashlib.sha256()
            for _ in range(start, min(start + PART_BYTES, size), READ_BYTES):
                data = file.read(READ_BYTES)
                whole.update(data)
                part.update(data)
            parts.append(part.hexdigest())
    return whole.hexdigest(), parts
