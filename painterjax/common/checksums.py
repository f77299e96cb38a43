"""SHA-256 of a folder's files, in the format of the command `sha256sum`.

    cd runs/quickstart/checkpoints/120 && sha256sum --check SHA256SUMS

SHA256SUMS is written last: a folder without it is incomplete.
"""

import hashlib
import time
from pathlib import Path

from painterjax.common import files

NAME = "SHA256SUMS"
SETTLED_NS = 2 * 10**9


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> str:
    """Returns a file's size and time of change, as words; "" where that is less than 2 s ago.

    Its next change may then have the same time, on a file system with a coarse clock.
    """
    now_ns, of = time.time_ns(), path.stat()
    return f"{of.st_size} {of.st_mtime_ns}" if now_ns - of.st_mtime_ns > SETTLED_NS else ""


def seal(folder: Path) -> None:
    """Writes SHA256SUMS, with one line for each file at any depth."""
    files.write_text(folder / NAME, _text(_digests(folder)))


def is_sealed(folder: Path) -> bool:
    """Returns whether a folder has a SHA256SUMS."""
    return (folder / NAME).is_file()


def damage(folder: Path) -> dict[str, str]:
    """Compares a sealed folder with its SHA256SUMS.

    Returns:
      What is wrong by file name ("is missing", "is new" or "has changed"); empty for an intact
      folder.

    Raises:
      OSError: a file cannot be read.
    """
    if not is_sealed(folder):
        return {NAME: "is missing"}
    text, found = (folder / NAME).read_text(errors="replace"), _digests(folder)
    if text == _text(found):
        return {}
    pairs = (line.partition("  ") for line in text.split("\n") if line)
    sealed = {name: digest for digest, _, name in pairs}
    wrong = dict.fromkeys(sealed.keys() - found.keys(), "is missing")
    wrong |= dict.fromkeys(found.keys() - sealed.keys(), "is new")
    common = found.keys() & sealed.keys()
    wrong |= {name: "has changed" for name in common if found[name] != sealed[name]}
    return wrong or {NAME: "has changed"}


def _digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}


def _text(digests: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())
