"""Host memory: how much is free, and what to change when it runs out."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jax

from painterjax.common.errors import InputError

MEMINFO = Path("/proc/meminfo")  # On Linux only.


def free_memory() -> int:
    """Returns how many bytes this machine has free, the page cache included."""
    text = MEMINFO.read_text() if MEMINFO.exists() else ""
    if available := re.search(r"MemAvailable: *(\d+) kB", text):
        return 1024 * int(available[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


@contextlib.contextmanager
def full_memory_explained() -> Iterator[None]:
    """Turns an out-of-memory error into an InputError that says which settings to change."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            "the memory is full: set data.residency to host or model.remat to True, or lower"
            " eval.batch_size, chunk_size, batch_size, model.embedding_dim or model.widths (for the"
            " last four a run that has begun needs another --workdir)"
        ) from error
