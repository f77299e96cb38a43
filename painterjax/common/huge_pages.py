"""Memory in pages of 2 MB, which a program has to ask glibc for.

A step on a CPU gets its memory anew each time, and Linux clears and maps it in pages of 4 KB: that
was up to two fifths of the step (docs/performance.md). Where the kernel gives such pages to those
who ask, glibc asks if this tunable says so when the process starts.
"""

import os
import sys

VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def start_with() -> None:
    """Starts this program anew with the tunable, unless it is set or there is no glibc."""
    tunables = os.environ.get(VARIABLE, "")
    if TUNABLE in tunables or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return
    os.environ[VARIABLE] = ":".join(filter(None, [tunables, f"{TUNABLE}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
