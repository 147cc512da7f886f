"""The thread pools in this process: who could put threads on the cores, how many, and what an idle thread does.

Every library with a parallel loop of its own brings a pool: Numba's layer (OpenMP, TBB or its own queue), NumPy's BLAS, and
whatever else was imported. Two that work at the same time on the same cores wait for each other: a training step took four
times as long. The libraries are found in /proc/self/maps and asked through ctypes; nothing is loaded that was not there.
"""

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAPS = Path("/proc/self/maps")
# what it is, its file's name, the functions that know its number of threads
_OPENBLAS = "openblas_get_num_threads"  # NumPy's wheels put a prefix before it, builds with 64-bit indices a suffix behind
KNOWN = (
    ("OpenMP", r"lib(gomp|omp|iomp5)\b", ("omp_get_max_threads",)),
    ("OpenBLAS", r"lib\w*openblas", (f"scipy_{_OPENBLAS}64_", f"scipy_{_OPENBLAS}", f"{_OPENBLAS}64_", _OPENBLAS)),
    ("MKL", r"libmkl_rt", ("MKL_Get_Max_Threads",)),
    ("BLIS", r"libblis", ("bli_thread_get_num_threads",)),
    ("TBB", r"libtbb\b", ()),
)


@dataclass(frozen=True)
class Pool:
    """A library that runs threads. `threads`: how many it would use, None if it does not tell; `idle`: what they do then."""

    kind: str
    file: str
    threads: int | None
    idle: str = ""


def loaded_libraries() -> list[str]:
    """Paths of the shared libraries in this process; none where the system does not say (outside Linux)."""
    try:
        lines = MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return sorted({line[line.index("/") :] for line in lines if re.search(r"/[^/]*\.so[.\d]*$", line)})


def thread_pools() -> Iterator[Pool]:
    """Every pool of a library that we know, in this process."""
    for path in loaded_libraries():
        name = Path(path).name
        for kind, pattern, functions in KNOWN:
            if re.match(pattern, name):
                yield Pool(kind, name, _ask(path, functions), _idle(kind, name))


def _ask(path: str, functions: tuple[str, ...]) -> int | None:
    with contextlib.suppress(OSError):
        library = ctypes.CDLL(path, mode=getattr(os, "RTLD_NOLOAD", 0))
        for name in functions:
            if hasattr(library, name):
                return int(getattr(library, name)())
    return None


def _idle(kind: str, name: str) -> str:
    """What a thread without work does, as far as the environment decides it."""
    if kind == "OpenMP":
        policy, spins = os.environ.get("OMP_WAIT_POLICY", "").upper(), os.environ.get("GOMP_SPINCOUNT")
        if policy == "ACTIVE":
            return "idle threads spin"
        looks = f" after {int(spins):,} looks" if spins and spins.isdigit() and name.startswith("libgomp") else ""
        return f"idle threads sleep{looks}" if policy == "PASSIVE" or looks else "idle threads spin for a while, then sleep"
    return ""


def advice(pools: list[Pool], *, threads: int, source: str, cores: int) -> str:
    """One line on what to change, "" if nothing: more threads than cores, two runtimes, threads that never sleep."""
    if threads > cores:
        return f"{threads} threads share {cores} cores: set {source if '_' in source else 'NUMBA_NUM_THREADS'} to {cores} or less"
    spinning = any(pool.idle == "idle threads spin" for pool in pools)
    if spinning and any(pool.kind != "OpenMP" and (pool.threads or 2) > 1 for pool in pools):
        return "idle OpenMP threads keep the cores from BLAS: unset OMP_WAIT_POLICY"
    if sum(pool.kind == "OpenMP" for pool in pools) > 1:
        return "two OpenMP runtimes are loaded, each with its own threads: import only one of the packages that bring them"
    too_many = [pool for pool in pools if pool.threads and pool.threads > cores]
    if too_many:
        return f"{too_many[0].file} would run {too_many[0].threads} threads on {cores} cores: set OMP_NUM_THREADS to {cores}"
    return ""
