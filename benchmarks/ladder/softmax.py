"""Softmax over rows, y = exp(x - max x) / Σ exp(x - max x): a lesson about memory traffic, and about exp.

The arithmetic is small; 8 bytes a number must come and go. NumPy computes a line of the formula at a time for the whole array,
and each line carries the array through memory again. Fused, a row is finished while it lies in the cache.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.ladder.loops import jit, parallel, prange
from benchmarks.ladder.peers import functional, tensors, torch
from benchmarks.ladder.rungs import Ladder, Rung, Work
from tinyllm import kernels
from tinyllm.kernels import reference
from tinyllm.kernels.simd_math import exp


def python_loop(x: list[list[float]]) -> list[list[float]]:
    """Every + and every exp goes through the interpreter: about 50 ns each."""
    y = []
    for row in x:
        largest = max(row)
        powers = []
        for value in row:
            powers.append(math.exp(value - largest))
        total = sum(powers)
        y.append([power / total for power in powers])
    return y


def numpy_lines(x):
    """The loops are C, and exp takes 16 numbers at once. But each of the lines reads and writes a whole array."""
    largest = x.max(axis=-1, keepdims=True)
    powers = np.exp(x - largest)
    return powers / powers.sum(axis=-1, keepdims=True)


@jit
def numba_serial(x):
    """The same lines as loops of our own. Here exp is a call for every single number: compiled is not yet fast."""
    n_rows, width = x.shape
    y, largest, total = np.empty_like(x), np.empty(n_rows, x.dtype), np.zeros(n_rows, x.dtype)
    for i in range(n_rows):
        largest[i] = x[i].max()
    for i in range(n_rows):
        for j in range(width):
            y[i, j] = np.exp(x[i, j] - largest[i])
    for i in range(n_rows):
        total[i] = y[i].sum()
    for i in range(n_rows):
        for j in range(width):
            y[i, j] /= total[i]
    return y


@parallel
def numba_parallel(x):
    """prange shares out the rows of each loop among the cores."""
    n_rows, width = x.shape
    y, largest, total = np.empty_like(x), np.empty(n_rows, x.dtype), np.zeros(n_rows, x.dtype)
    for i in prange(n_rows):
        largest[i] = x[i].max()
    for i in prange(n_rows):
        for j in range(width):
            y[i, j] = np.exp(x[i, j] - largest[i])
    for i in prange(n_rows):
        total[i] = y[i].sum()
    for i in prange(n_rows):
        for j in range(width):
            y[i, j] /= total[i]
    return y


@parallel
def numba_vector_exp(x):
    """The same loops with an exp of plain arithmetic (kernels/simd_math.py): the compiler takes 16 numbers at once."""
    n_rows, width = x.shape
    y, largest, total = np.empty_like(x), np.empty(n_rows, x.dtype), np.zeros(n_rows, x.dtype)
    for i in prange(n_rows):
        largest[i] = x[i].max()
    for i in prange(n_rows):
        for j in range(width):
            y[i, j] = exp(x[i, j] - largest[i])
    for i in prange(n_rows):
        total[i] = y[i].sum()
    for i in prange(n_rows):
        for j in range(width):
            y[i, j] /= total[i]
    return y


def tinyllm_fused(x):
    """One loop over rows does everything (kernels/softmax.py): a row is read from memory once and written once."""
    return kernels.softmax_forward(x)


def torch_softmax(x):
    """PyTorch's own."""
    return functional.softmax(x, dim=-1)


RUNGS = [
    Rung("Python loop", python_loop, prepare=lambda x: (x.tolist(),), part=lambda x: (x[:32],)),
    Rung("NumPy", numpy_lines),
    Rung("Numba serial", numba_serial),
    Rung("Numba parallel", numba_parallel),
    Rung("Numba parallel, vector exp", numba_vector_exp),
    Rung("Numba fused (tinyllm)", tinyllm_fused),
    *([Rung("PyTorch", torch_softmax, prepare=tensors)] if torch else []),
]


def work(x: np.ndarray) -> Work:
    """Every number read once and written once."""
    return Work(0, 2 * x.nbytes)


def ladders(rng: np.random.Generator, *, quick: bool) -> list[Ladder]:
    """The attention scores of six heads over 1024 tokens: 25 MB, and 25 MB of results."""
    rows, width = (64, 64) if quick else (6 * 1024, 1024)
    x = 3 * rng.standard_normal((rows, width), dtype=np.float32)
    return [Ladder(f"softmax {rows} x {width}", (x,), reference.softmax_forward, work, RUNGS)]
