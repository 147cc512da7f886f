"""What is set once a process, before its first kernel. Importing `tinyllm` or `tinyllm.kernels` does none of it."""

import functools
import os
import sys
from typing import NamedTuple

from tinyllm.kernels.memory import keep_freed_memory
from tinyllm.kernels.threads import allowed_cores, wanted_threads


class Threads(NamedTuple):
    """How many threads the kernels were given at the start, and who said so."""

    number: int
    source: str


@functools.cache
def set_up() -> Threads:
    """Sets the environment variables that OpenMP and Numba read when they are loaded, and tells malloc to keep freed memory.

    Two thread pools share the cores (BLAS has its own), so a thread without work must sleep in the end; one that spins takes the
    core from the other pool (a training step took 4 times as long). But waking up costs up to 0.15 ms, more than many a kernel
    takes, so a thread looks around for about half a millisecond before it sleeps: in a training step the next kernel comes before
    that. The layer is OpenMP's where there is OpenMP: a launch costs a few microseconds there, nearly a hundred in Numba's own
    queue. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("NUMBA_THREADING_LAYER_PRIORITY", "omp tbb workqueue")
    threads = Threads(*wanted_threads())
    if threads.number != allowed_cores() and "numba" not in sys.modules:  # once it is loaded, Numba refuses another number
        os.environ["NUMBA_NUM_THREADS"] = str(threads.number)
    keep_freed_memory()
    return threads
