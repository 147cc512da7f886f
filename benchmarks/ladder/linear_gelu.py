"""Product, bias and GELU, the first half of a feed-forward layer: what BLAS cannot do is to go on where it stands.

After a product by BLAS, the result lies in memory; adding the bias and applying GELU pass over it again and again. A kernel
of one's own does both to a tile of the result while it is still in the cache. Both h = x Wᵀ + b and y = gelu(h) are wanted:
the backward pass needs h.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.ladder.peers import functional, tensors, torch
from benchmarks.ladder.rungs import Ladder, Rung, Work
from tinyllm import kernels
from tinyllm.kernels import reference


def python_loop(x: list[list[float]], weight: list[list[float]], bias: list[float]) -> tuple[list, list]:
    """weight (out, in): each output is a product of two rows, then bias, then GELU by the formula."""
    h, y = [], []
    for row in x:
        hidden = []
        for column, shift in zip(weight, bias, strict=True):
            total = shift
            for a, b in zip(row, column, strict=True):
                total += a * b
            hidden.append(total)
        h.append(hidden)
        y.append([0.5 * u * (1 + math.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3))) for u in hidden])
    return h, y


def numpy_lines(x, weight, bias):
    """The product by BLAS is fast; the ten operators after it take a pass over the result each."""
    h = x @ weight.T + bias
    return h, np.float32(0.5) * h * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (h + np.float32(0.044715) * h * h * h)))


def one_by_one(x, weight, bias):
    """Our kernels: the product, then the bias by NumPy, then GELU in one pass with a vector tanh."""
    h = kernels.matmul(x, weight.T)
    h += bias
    return h, kernels.gelu_tanh_forward(h)


def fused(x, weight, bias):
    """All in one (kernels/product/linear.py): a tile of h and of y is written while its sums are at hand."""
    return kernels.linear_gelu_forward(x, weight, bias)


def torch_linear_gelu(x, weight, bias):
    """PyTorch's own, two calls."""
    h = functional.linear(x, weight, bias)
    return h, functional.gelu(h, approximate="tanh")


RUNGS = [
    Rung("Python loop", python_loop, prepare=lambda *arrays: tuple(x.tolist() for x in arrays),
         part=lambda x, weight, bias: (x[:2], weight, bias)),
    Rung("NumPy's BLAS, then NumPy", numpy_lines),
    Rung("Numba one by one (tinyllm)", one_by_one),
    Rung("Numba fused (tinyllm)", fused),
    *([Rung("PyTorch", torch_linear_gelu, prepare=tensors)] if torch else []),
]  # fmt: skip


def work(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Work:
    """The product's operations; what bias and GELU add is a few in a thousand."""
    (m, k), n = x.shape, len(weight)
    return Work(2 * m * n * k, 4 * (m * k + n * k + n + 2 * m * n))


def ladders(rng: np.random.Generator, *, quick: bool) -> list[Ladder]:
    """nanoGPT's CPU recipe (768 tokens, 128 -> 512), and GPT-2 (256 tokens, 768 -> 3072)."""
    made = []
    for m, k, n in [(24, 32, 40)] if quick else [(768, 128, 512), (256, 768, 3072)]:
        x, weight = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((n, k), dtype=np.float32)
        inputs = (x, weight / np.float32(math.sqrt(k)), rng.standard_normal(n, dtype=np.float32))
        made.append(Ladder(f"matmul + bias + GELU {m} x {k} x {n}", inputs, reference.linear_gelu_forward, work, RUNGS))
    return made
