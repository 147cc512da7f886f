"""How many threads the kernels get, decided before any runtime is loaded: what the user says, else what there is.

    NUMBA_NUM_THREADS, else OMP_NUM_THREADS, else the cores this process may use

OMP_NUM_THREADS is what people and batch systems set to tell a program its share of the machine; Numba does not look at it.
A container may allow fewer cores than it shows (a quota): threads beyond it would be put to sleep in the middle of their work.
"""

import math
import os
import re
import sys
from pathlib import Path

QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def allowed_cores() -> int:
    """Return the number of cores that the system would let this process run on (`taskset`, batch systems)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota() -> float | None:
    """Return how many cores' worth of time the container grants; None without a limit. (Linux control groups, 2 and 1.)"""
    unified, limit, period = map(Path, QUOTAS)
    try:
        words = unified.read_text().split() if unified.exists() else [limit.read_text().strip(), period.read_text().strip()]
        return int(words[0]) / int(words[1]) if int(words[0]) > 0 else None
    except (OSError, ValueError, IndexError, ZeroDivisionError):  # no control groups here, or "max": no limit
        return None


def usable_cores() -> int:
    """Return the cores that threads can really run on at once, at least 1."""
    granted = quota()
    return min(allowed_cores(), max(1, math.ceil(granted))) if granted else allowed_cores()


def wanted_threads() -> tuple[int, str]:
    """Return how many threads the kernels should use, and who says so: a variable's name, or "usable cores".

    OMP_NUM_THREADS may be a list, one number a level of nesting; the first counts, and more than the cores is not believed.
    """
    if os.environ.get("NUMBA_NUM_THREADS", "").isdigit():
        return int(os.environ["NUMBA_NUM_THREADS"]), "NUMBA_NUM_THREADS"
    first = re.match(r"\s*([1-9]\d*)", os.environ.get("OMP_NUM_THREADS", ""))
    if first and int(first[1]) < usable_cores():
        return int(first[1]), "OMP_NUM_THREADS"
    return usable_cores(), "usable cores"


def use_threads(count: int) -> None:
    """Let the kernels run on `count` threads. ValueError if that is less than one or more than there are cores."""
    cores = os.cpu_count() or 1
    if not 1 <= count <= cores:
        raise ValueError(f"--threads is {count}; expected 1 to {cores}, the number of cores here")
    os.environ["NUMBA_NUM_THREADS"] = str(count)  # read when numba is imported, by the first kernel
    if "numba" in sys.modules:
        sys.modules["numba"].set_num_threads(count)
