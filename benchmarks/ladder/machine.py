"""What this machine can do at most, measured in the same run: the ceiling over every ladder.

Two things limit a loop (Williams, Waterman & Patterson 2009, "Roofline"): the arithmetic units and the memory.
    seconds ≥ max(operations / peak, bytes / bandwidth)
The peak is that of multiply-adds on numbers that never leave the registers (`tinyllm/kernels/product/peak.py`). The bandwidth is
that of loops which do nothing else but move arrays that no cache holds, in the three ways that occur: reading only, filling
a new array from an old one (each of its lines is fetched before it is written, though nobody asked: a third of the traffic
is for nothing), and updating in place. What neighbours leave of the memory changes by the minute: so the loop takes turns
with the rungs, as one of them.
"""

from __future__ import annotations

import statistics

import numba
import numpy as np

from benchmarks.ladder.loops import parallel, prange
from benchmarks.ladder.timing import Call, take_turns
from tinyllm.kernels.product.peak import peak_flops

BLOCK = 1 << 14  # numbers: 64 kB


@parallel
def read(a, sums):
    """Add up each block of an array."""
    for i in prange(sums.size):
        sums[i] = a[i * BLOCK : (i + 1) * BLOCK].sum()


@parallel
def new(a, b):
    """b = 2 a"""
    for i in prange(a.size):
        b[i] = 2 * a[i]


@parallel
def update(a, b, c, d):
    """a, b and c are changed in place by d: four arrays read, three written, as an optimizer does."""
    for i in prange(a.size):
        c[i] = np.float32(0.5) * c[i] + d[i]
        b[i] = np.float32(0.5) * b[i] + d[i]
        a[i] -= b[i] * c[i]


class Machine:
    """The limits: operations a second in float32, and for each kind of traffic a loop that does nothing else."""

    def __init__(self, *, megabytes: int = 64) -> None:
        """megabytes: of each array that the loops move; the caches must not hold them."""
        a, b, c, d = (np.full(megabytes << 18, value, np.float32) for value in (0, 1, 2, 3))
        sums = np.zeros(a.size // BLOCK, np.float32)
        self.threads = numba.get_num_threads()
        self.flops = peak_flops()
        self.loops: dict[str, tuple[Call, int]] = {  # and the bytes each moves
            "read": (lambda: read(a, sums), a.nbytes),
            "new": (lambda: new(a, b), 2 * a.nbytes),
            "update": (lambda: update(a, b, c, d), 7 * a.nbytes),
        }
        times = take_turns({kind: loop for kind, (loop, _) in self.loops.items()}, rounds=5)
        self.bandwidth = {kind: self.bandwidth_in(kind, times[kind]) for kind in times}

    def bandwidth_in(self, kind: str, times: list[float]) -> float:
        """Bytes a second when the loop of this kind took so long; the median counts."""
        return self.loops[kind][1] / statistics.median(times)

    def is_busy_computing(self, flops: float, n_bytes: float, *, traffic: str) -> bool:
        """Whether so much work takes the arithmetic units longer than so much traffic the memory: which roof is lower."""
        return flops / self.flops > n_bytes / self.bandwidth[traffic]

    def __str__(self) -> str:
        read_, new_, update_ = (f"{self.bandwidth[kind] / 1e9:.0f} GB/s" for kind in ("read", "new", "update"))
        memory = f"memory {read_} reading, {new_} into a new array, {update_} updating in place"
        return f"{self.threads} threads: {self.flops / 1e9:.0f} GFLOP/s in float32; {memory}"
