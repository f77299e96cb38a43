"""Files that survive a bad moment: written whole or not at all, by one process at a time."""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from painterjax.common.errors import InputError


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON file that a kill cannot leave half written."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Returns a JSON file's object; raises ValueError where it holds none, and OSError."""
    return json_object(path.read_bytes())


def json_object(data: bytes) -> dict[str, Any]:
    """Returns the object that UTF-8 text of JSON is of; raises ValueError where it is of none."""
    try:
        value = json.loads(data.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    return value


def write_text(path: Path, text: str) -> None:
    """Writes a file that neither a kill nor a loss of power can leave half written.

    A pipe, a device or a link is written to as it is.
    """
    if not is_replaced(path):
        path.write_text(text, encoding="utf-8")
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a new path beside `path`, whose file takes its place when the block ends well.

    The new file is on the disk before it is renamed, so that neither a kill nor a loss of power
    leaves half of it; no two processes share a temporary name.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def is_replaced(path: Path) -> bool:
    """Returns whether `write_text` puts a new file in the place of what is at a path."""
    return not path.is_symlink() and (path.is_file() or not path.exists())


def rename(path: Path, target: Path) -> None:
    """Renames a folder, whose files are on the disk, for good."""
    _sync_folder(path)
    path.rename(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Some file systems sync no folders.
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def begin(partial: Path, plan: dict[str, Any]) -> None:
    """Makes the folder of work in progress, or checks that it was begun with the same plan.

    Raises:
      InputError: it was begun with another plan, or holds other files.
    """
    path = partial / "plan.json"
    if path.exists():
        if changes := plan_changes(partial, plan):
            raise InputError(f"{partial} was begun otherwise ({changes}): repeat that or delete it")
        return
    partial.mkdir(parents=True, exist_ok=True)
    if set(partial.iterdir()) - {*partial.glob("plan.json.*.tmp"), partial / "lock"}:
        raise InputError(f"{partial} is needed and holds other files: move it or delete it")
    write_json(path, plan)


def read_plan(partial: Path) -> dict[str, Any]:
    """Returns the plan that a folder of work in progress was begun with."""
    path = partial / "plan.json"
    try:
        return read_json(path)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): delete {partial}") from error


def plan_changes(partial: Path, plan: dict[str, Any]) -> str:
    """Says where `plan` is not the one that `partial` was begun with; "" where it is."""
    begun = read_plan(partial)
    changed = [key for key in plan if begun.get(key) != plan[key]]
    return ", ".join(f"{key} was {begun.get(key)}, is {plan[key]}" for key in changed)


@contextlib.contextmanager
def claimed(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keeps a folder from a second process; the claim ends with the process, however it ends.

    Args:
      folder: what is claimed.
      shared: keeps it only from those whose claim is not shared.

    Raises:
      InputError: another process works in the folder.
    """
    with open(folder / "lock", "w+") as file:  # NFS shares no lock on what cannot be read.
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process works in {folder}: wait until it ends") from error
        except OSError:
            pass  # Some file systems of clusters have no locks.
        yield
