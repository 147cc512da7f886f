"""Cross-entropy, nll = log Σ exp(logits) - logits[target]: the largest array of a training step, read for one number a row.

GPT-2 has 50,257 logits a token. Whoever makes an array of probabilities writes and reads it back for nothing; fused with
softmax, the logits pass by once and nothing as large is ever written.
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


def python_loop(logits: list[list[float]], targets: list[int]) -> list[float]:
    """The definition, a number at a time."""
    nll = []
    for row, target in zip(logits, targets, strict=True):
        largest, total = max(row), 0.0
        for value in row:
            total += math.exp(value - largest)
        nll.append(math.log(total) - (row[target] - largest))
    return nll


def numpy_lines(logits, targets):
    """Two arrays as large as the logits are made on the way, each written to memory and read back."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1)
    return np.log(total) - shifted[np.arange(len(targets)), targets]


@jit
def numba_serial(logits, targets):
    """Loops of our own, line by line: the probabilities first, as one would write it down. exp is a call for each number."""
    n_rows, width = logits.shape
    largest, total, nll = np.empty(n_rows, logits.dtype), np.zeros(n_rows, logits.dtype), np.empty(n_rows, logits.dtype)
    powers = np.empty_like(logits)
    for i in range(n_rows):
        largest[i] = logits[i].max()
    for i in range(n_rows):
        for j in range(width):
            powers[i, j] = np.exp(logits[i, j] - largest[i])
    for i in range(n_rows):
        total[i] = powers[i].sum()
    for i in range(n_rows):
        nll[i] = np.log(total[i]) - (logits[i, targets[i]] - largest[i])
    return nll


@parallel
def numba_parallel(logits, targets):
    """The rows of each loop are shared out among the cores."""
    n_rows, width = logits.shape
    largest, total, nll = np.empty(n_rows, logits.dtype), np.zeros(n_rows, logits.dtype), np.empty(n_rows, logits.dtype)
    powers = np.empty_like(logits)
    for i in prange(n_rows):
        largest[i] = logits[i].max()
    for i in prange(n_rows):
        for j in range(width):
            powers[i, j] = np.exp(logits[i, j] - largest[i])
    for i in prange(n_rows):
        total[i] = powers[i].sum()
    for i in prange(n_rows):
        nll[i] = np.log(total[i]) - (logits[i, targets[i]] - largest[i])
    return nll


@parallel
def numba_vector_exp(logits, targets):
    """The same loops with an exp of plain arithmetic (kernels/simd_math.py): the compiler takes 16 numbers at once."""
    n_rows, width = logits.shape
    largest, total, nll = np.empty(n_rows, logits.dtype), np.zeros(n_rows, logits.dtype), np.empty(n_rows, logits.dtype)
    powers = np.empty_like(logits)
    for i in prange(n_rows):
        largest[i] = logits[i].max()
    for i in prange(n_rows):
        for j in range(width):
            powers[i, j] = exp(logits[i, j] - largest[i])
    for i in prange(n_rows):
        total[i] = powers[i].sum()
    for i in prange(n_rows):
        nll[i] = np.log(total[i]) - (logits[i, targets[i]] - largest[i])
    return nll


def tinyllm_fused(logits, targets):
    """A row at a time, and two numbers of it are kept (kernels/cross_entropy.py): the probabilities are never stored."""
    return kernels.cross_entropy_forward(logits, targets)[0]


def torch_cross_entropy(logits, targets):
    """PyTorch's own."""
    return functional.cross_entropy(logits, targets, reduction="none")


RUNGS = [
    Rung("Python loop", python_loop, prepare=lambda *arrays: tuple(x.tolist() for x in arrays),
         part=lambda logits, targets: (logits[:1], targets[:1])),
    Rung("NumPy", numpy_lines),
    Rung("Numba serial", numba_serial),
    Rung("Numba parallel", numba_parallel),
    Rung("Numba parallel, vector exp", numba_vector_exp),
    Rung("Numba fused (tinyllm)", tinyllm_fused),
    *([Rung("PyTorch", torch_cross_entropy, prepare=tensors)] if torch else []),
]  # fmt: skip


def twin(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The equation."""
    return reference.cross_entropy_forward(logits, targets)[0]


def work(logits: np.ndarray, targets: np.ndarray) -> Work:
    """Every logit is read once."""
    return Work(0, logits.nbytes)


def ladders(rng: np.random.Generator, *, quick: bool) -> list[Ladder]:
    """GPT-2's logits for 256 tokens: 51 MB."""
    rows, width = (32, 300) if quick else (256, 50257)
    logits, targets = 3 * rng.standard_normal((rows, width), dtype=np.float32), rng.integers(0, width, rows)
    made = Ladder(f"cross-entropy {rows} x {width}", (logits, targets), twin, work, RUNGS, traffic="read")
    return [made]
