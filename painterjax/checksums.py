"""SHA-256 of a folder's files, in the format of the command `sha256sum`.

    cd runs/quickstart/checkpoints/120 && sha256sum --check SHA256SUMS

A folder is sealed when it is whole, so that one without SHA256SUMS is one that was cut short.
"""

import hashlib
from pathlib import Path

from painterjax import files

NAME = "SHA256SUMS"


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Writes SHA256SUMS: a line for each file at any depth."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in _names(folder)]
    files.write_text(folder / NAME, "".join(lines))


def is_sealed(folder: Path) -> bool:
    """Returns whether a folder has its SHA256SUMS."""
    return (folder / NAME).is_file()


def damage(folder: Path) -> str | None:
    """Returns what is wrong with a sealed folder, or None where every byte is as it was sealed."""
    lines = (folder / NAME).read_text(errors="replace").splitlines()
    sealed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _names(folder)
    for name in sorted({*sealed, *found}):
        if name not in found:
            return f"{name} is missing"
        if name not in sealed:
            return f"{name} was not there before"
        if sha256(folder / name) != sealed[name]:
            return f"{name} has changed"
    return None


def _names(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if name != NAME)
