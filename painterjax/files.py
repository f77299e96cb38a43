"""Files that survive a bad moment: written whole or not at all, by one process at a time."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from painterjax.errors import InputError


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON file that a kill cannot leave half written."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keeps a folder from a second process; the claim ends with the process, however it ends.

    Raises:
      InputError: another process works in the folder.
    """
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process works in {folder}: wait until it ends") from error
        except OSError:
            pass  # Some file systems of clusters have no locks.
        yield
