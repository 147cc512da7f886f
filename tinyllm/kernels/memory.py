"""Memory that was touched once is kept: a training step makes the same arrays as the step before it.

A new page of memory costs more than it seems: the system interrupts the program and fills 4 kB with zeros, about 0.25 us, the
time in which a core could do 25,000 multiplications. glibc's malloc returns large blocks to the system as soon as they are
freed (by munmap, or by lowering the top of the heap), so that every step would pay for every page again: nanoGPT's CPU recipe
took 43 ms a step instead of 32. Told to keep what it has, malloc hands the same warm blocks out again, step after step.
The price: a process keeps the memory of its largest moment until it ends.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers from glibc's malloc.h
KEEP = 1 << 30  # bytes: blocks up to 1 GiB come from the heap
TUNED_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed blocks for the next array; True if it obeyed.

    Elsewhere (other systems, other C libraries), or if the user has tuned malloc by environment variables, nothing changes.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in TUNED_BY_USER):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEEP) and mallopt(M_TRIM_THRESHOLD, 2 * KEEP - 1))
