"""Layer norm, y = weight · (x - mean) / √(var + eps) + bias over rows: almost pure memory traffic.

Half a dozen operations a number, 8 bytes to move. Whoever passes over the array five times takes five times as long, however
fast the loops are.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.ladder.loops import jit, parallel, prange
from benchmarks.ladder.peers import functional, tensors, torch
from benchmarks.ladder.rungs import Ladder, Rung, Work
from tinyllm import kernels
from tinyllm.kernels import reference

EPS = 1e-5


def python_loop(x: list[list[float]], weight: list[float], bias: list[float]) -> list[list[float]]:
    """The definition, a number at a time."""
    y = []
    for row in x:
        mean = sum(row) / len(row)
        var = sum((value - mean) ** 2 for value in row) / len(row)
        rstd = 1 / math.sqrt(var + EPS)
        y.append([(value - mean) * rstd * w + b for value, w, b in zip(row, weight, bias, strict=True)])
    return y


def numpy_lines(x, weight, bias):
    """Nine passes over the array, most of them reading one of its size and writing another."""
    centred = x - x.mean(axis=-1, keepdims=True)
    var = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(var + EPS) * weight + bias


@jit
def numba_serial(x, weight, bias):
    """The lines of the formula as loops of our own, one after the other: four passes instead of nine."""
    n_rows, width = x.shape
    y, mean, rstd = np.empty_like(x), np.empty(n_rows, x.dtype), np.empty(n_rows, x.dtype)
    for i in range(n_rows):
        mean[i] = x[i].sum() / width
    for i in range(n_rows):
        for j in range(width):
            y[i, j] = x[i, j] - mean[i]
    for i in range(n_rows):
        var = x.dtype.type(0)
        for j in range(width):
            var += y[i, j] * y[i, j]
        rstd[i] = 1 / np.sqrt(var / width + EPS)
    for i in range(n_rows):
        for j in range(width):
            y[i, j] = y[i, j] * rstd[i] * weight[j] + bias[j]
    return y


@parallel
def numba_parallel(x, weight, bias):
    """The rows of each loop are shared out among the cores."""
    n_rows, width = x.shape
    y, mean, rstd = np.empty_like(x), np.empty(n_rows, x.dtype), np.empty(n_rows, x.dtype)
    for i in prange(n_rows):
        mean[i] = x[i].sum() / width
    for i in prange(n_rows):
        for j in range(width):
            y[i, j] = x[i, j] - mean[i]
    for i in prange(n_rows):
        var = x.dtype.type(0)
        for j in range(width):
            var += y[i, j] * y[i, j]
        rstd[i] = 1 / np.sqrt(var / width + EPS)
    for i in prange(n_rows):
        for j in range(width):
            y[i, j] = y[i, j] * rstd[i] * weight[j] + bias[j]
    return y


def tinyllm_fused(x, weight, bias):
    """One loop over rows (kernels/norm.py): three short passes over a row that lies in the cache, one through memory."""
    return kernels.layer_norm_forward(x, weight, bias, EPS)[0]


def torch_layer_norm(x, weight, bias):
    """PyTorch's own."""
    return functional.layer_norm(x, weight.shape, weight, bias, EPS)


RUNGS = [
    Rung("Python loop", python_loop, prepare=lambda *arrays: tuple(x.tolist() for x in arrays),
         part=lambda x, weight, bias: (x[:64], weight, bias)),
    Rung("NumPy", numpy_lines),
    Rung("Numba serial", numba_serial),
    Rung("Numba parallel", numba_parallel),
    Rung("Numba fused (tinyllm)", tinyllm_fused),
    *([Rung("PyTorch", torch_layer_norm, prepare=tensors)] if torch else []),
]  # fmt: skip


def twin(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The equation."""
    return reference.layer_norm_forward(x, weight, bias, EPS)[0]


def work(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Work:
    """Every number read once and written once, some eight operations each."""
    return Work(8 * x.size, 2 * x.nbytes + weight.nbytes + bias.nbytes)


def ladders(rng: np.random.Generator, *, quick: bool) -> list[Ladder]:
    """8 windows of 1024 tokens in GPT-2's width: 25 MB, and 25 MB of results."""
    rows, width = (64, 48) if quick else (8 * 1024, 768)
    x = 1 + 2 * rng.standard_normal((rows, width), dtype=np.float32)
    weight, bias = rng.standard_normal((2, width), dtype=np.float32)
    return [Ladder(f"layer norm {rows} x {width}", (x, weight, bias), twin, work, RUNGS)]
