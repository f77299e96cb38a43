"""Files that survive kills and power cuts: atomic writes, plans to resume by, and locks."""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from painterjax.common.errors import InputError


def cache_home() -> Path:
    """Returns the user's cache folder; raises RuntimeError for a user without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON file as `write_text` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads the object in a JSON file.

    Raises:
      ValueError: the file holds something else.
      OSError: the file cannot be read.
    """
    return json_object(path.read_bytes())


def json_object(data: bytes) -> dict[str, Any]:
    """Parses an object from UTF-8 JSON text; raises ValueError where the text is anything else."""
    try:
        value = json.loads(data.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    return value


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, as `replacing` does.

    Writes straight into a pipe, a device or the target of a link: replacing would remove those.
    """
    if not is_replaced(path):
        path.write_text(text, encoding="utf-8")
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path; the file written there replaces `path` when the block succeeds.

    The new file is synced to disk before the rename, so a kill or a power cut leaves the old file
    or the new one, never a part. When the block raises, the old file stays and the temporary one
    is removed. Temporary names are random, so concurrent writers do not collide.
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


def append(path: Path, data: bytes, *, behind: int) -> None:
    """Writes bytes behind the first `behind` of a file, which become its end, and syncs them.

    The first bytes stay as they are. A kill can leave a part of the others, so that the caller must
    record elsewhere how many are valid.
    """
    with open(path, "ab") as file:
        file.truncate(behind)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def is_replaced(path: Path) -> bool:
    """Returns whether `write_text` replaces what is at `path`, instead of writing into it."""
    return not path.is_symlink() and (path.is_file() or not path.exists())


def rename(path: Path, target: Path) -> None:
    """Renames a file, or a folder whose files are synced already, and syncs the rename itself."""
    _sync_folder(path)
    path.rename(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Some file systems cannot sync folders.
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def begin_work(partial: Path, plan: dict[str, Any]) -> None:
    """Creates a folder for work in progress with its plan.json, or checks an existing one.

    Raises:
      InputError: the work was started with another plan, or the folder holds other files.
    """
    if (partial / "plan.json").exists():
        return check_plan(partial, plan)
    partial.mkdir(parents=True, exist_ok=True)
    if set(partial.iterdir()) - {*partial.glob("plan.json.*.tmp"), partial / "lock"}:
        raise InputError(f"{partial} holds other files: move it or delete it")
    write_json(partial / "plan.json", plan)


def read_plan(partial: Path) -> dict[str, Any]:
    """Reads the plan.json of a folder for work in progress."""
    path = partial / "plan.json"
    try:
        return read_json(path)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): delete {partial}") from error


def check_plan(partial: Path, plan: dict[str, Any]) -> None:
    """Raises InputError where the plan.json in `partial` is not `plan`."""
    if changes := plan_changes(partial, plan):
        raise InputError(f"{partial} has other options ({changes}): repeat those or delete it")


def plan_changes(partial: Path, plan: dict[str, Any]) -> str:
    """Describes how `plan` differs from the plan.json in `partial`; "" where it does not."""
    earlier = read_plan(partial)
    changed = [key for key in {**earlier, **plan} if earlier.get(key) != plan.get(key)]
    return ", ".join(f"{key} was {earlier.get(key)}, is {plan.get(key)}" for key in changed)


@contextlib.contextmanager
def claimed(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Locks a folder against other processes; the lock ends with the process, even by a kill.

    Args:
      folder: the folder to lock, made where it is missing.
      shared: whether other processes may hold a shared lock at the same time.

    Raises:
      InputError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w+") as file:  # NFS locks only files that can be read.
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process works in {folder}: wait until it ends") from error
        except OSError:
            pass  # Some cluster file systems have no locks.
        yield
