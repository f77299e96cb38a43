"""Memory of the host: how much is free, and what to do where it is full."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jax

from painterjax.common.errors import InputError

MEMORY = Path("/proc/meminfo")  # Linux has it.


def free_memory() -> int:
    """Bytes that a program can get of this machine, those of the page cache with them."""
    text = MEMORY.read_text() if MEMORY.exists() else ""
    if available := re.search(r"MemAvailable: *(\d+) kB", text):
        return 1024 * int(available[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


@contextlib.contextmanager
def full_memory_explained() -> Iterator[None]:
    """Turns an exhausted memory into an InputError that says what to lower."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            "the memory is full: lower batch_size, model.embedding_dim or model.widths, or set"
            " data.residency to host"
        ) from error
