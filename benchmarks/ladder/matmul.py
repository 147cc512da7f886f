"""The matrix product C = A·B: a lesson about reuse. 2·M·N·K operations on M·K + K·N numbers: each is needed hundreds of times.

Three nested loops fetch two numbers for every multiplication, so the arithmetic units wait for memory. Whoever keeps numbers
where they are close (registers, then caches) until all their work is done reaches the machine's peak.
"""

from __future__ import annotations

import numpy as np

from benchmarks.ladder.loops import jit, parallel, prange
from benchmarks.ladder.peers import tensors, torch
from benchmarks.ladder.rungs import Ladder, Rung, Work
from tinyllm import kernels
from tinyllm.kernels import reference


def python_loop(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
    """The definition. Two index lookups, a multiplication and an addition, each an errand of the interpreter."""
    c = [[0.0] * len(b[0]) for _ in a]
    for i in range(len(a)):
        for j in range(len(b[0])):
            for k in range(len(b)):
                c[i][j] += a[i][k] * b[k][j]
    return c


def numpy_outer(a, b):
    """NumPy without BLAS: K outer products. Fast loops in C, but C is read and written anew for every k."""
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in range(b.shape[0]):
        c += a[:, k, None] * b[k]
    return c


@jit
def numba_serial(a, b):
    """The loops of the definition, compiled. The inner loop walks down a column of B: a new cache line at every step."""
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(b.shape[0]):
                c[i, j] += a[i, k] * b[k, j]
    return c


@jit
def numba_in_order(a, b):
    """j and k change places: now B and C are read along their rows, and the compiler makes vector code of the inner loop."""
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in range(a.shape[0]):
        for k in range(b.shape[0]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


@parallel
def numba_parallel(a, b):
    """The rows of C are shared out among the cores."""
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in prange(a.shape[0]):
        for k in range(b.shape[0]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


RUNGS = [
    Rung("Python loop", python_loop, prepare=lambda a, b: (a.tolist(), b.tolist()), part=lambda a, b: (a[:2], b)),
    Rung("NumPy, without BLAS", numpy_outer),
    Rung("Numba serial", numba_serial),
    Rung("Numba serial, rows in order", numba_in_order),
    Rung("Numba parallel", numba_parallel),
    Rung("Numba register tiles (tinyllm)", kernels.matmul),
    Rung("NumPy's BLAS", np.matmul),
    *([Rung("PyTorch", torch.matmul, prepare=tensors)] if torch else []),
]


def work(a: np.ndarray, b: np.ndarray) -> Work:
    """A multiplication and an addition for every i, j, k; three matrices to move."""
    (m, k), n = a.shape, b.shape[1]
    return Work(2 * m * n * k, 4 * (m * k + k * n + m * n))


def ladders(rng: np.random.Generator, *, quick: bool) -> list[Ladder]:
    """The widening layer of nanoGPT's CPU recipe (768 tokens, 128 -> 512), and GPT-2's square one for 1024 tokens."""
    made = []
    for m, k, n in [(24, 32, 40)] if quick else [(768, 128, 512), (1024, 768, 768)]:
        a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
        made.append(Ladder(f"matmul {m} x {k} x {n}", (a, b), reference.matmul, work, RUNGS))
    return made
