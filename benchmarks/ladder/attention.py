"""Causal attention, out = softmax(scale · Q Kᵀ) V for each head: two products with a softmax in between.

The products are worth the register tile. But plain loops also write the T x T scores of every head to memory, read them for
softmax and read them again for V; in tiles with a running softmax (FlashAttention) they never leave the cache.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.ladder.loops import jit, parallel, prange
from benchmarks.ladder.peers import functional, tensors, torch
from benchmarks.ladder.rungs import Ladder, Rung, Work
from tinyllm import kernels
from tinyllm.kernels import reference
from tinyllm.ops import CAUSAL


def python_loop(query: list, key: list, value: list) -> list:
    """The definition for (B, T, H, D) lists: for each query the keys up to it, their scores, weights, and mean value."""
    out = []
    for queries, keys, values in zip(query, key, value, strict=True):
        rows = []
        for t, heads in enumerate(queries):
            row = []
            for h, q in enumerate(heads):
                scores = [sum(a * b for a, b in zip(q, keys[s][h], strict=True)) / math.sqrt(len(q)) for s in range(t + 1)]
                weights = [math.exp(score - max(scores)) for score in scores]
                total = sum(weights)
                row.append([sum(w * values[s][h][d] for s, w in enumerate(weights)) / total for d in range(len(q))])
            rows.append(row)
        out.append(rows)
    return out


def numpy_lines(query, key, value):
    """Both products by BLAS, one head after the other; the scores of all heads are arrays in memory, made three times."""
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))  # (B, H, T, D)
    scores = query @ key.swapaxes(-1, -2) / np.float32(math.sqrt(query.shape[-1]))
    scores[..., ~np.tri(query.shape[2], dtype=bool)] = -np.inf
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True) @ value).transpose(0, 2, 1, 3)


@jit
def numba_serial(query, key, value):
    """Three loops: all scores, softmax, all outputs. Hidden scores are not even computed: half the work."""
    n_batch, n_tokens, n_heads, width = query.shape
    scores, out = np.empty((n_batch * n_heads, n_tokens, n_tokens), query.dtype), np.zeros_like(query)
    scale = query.dtype.type(1 / np.sqrt(width))
    for head in range(n_batch * n_heads):
        b, h = head // n_heads, head % n_heads
        for t in range(n_tokens):
            for s in range(t + 1):
                total = query.dtype.type(0)
                for d in range(width):
                    total += query[b, t, h, d] * key[b, s, h, d]
                scores[head, t, s] = scale * total
    for head in range(n_batch * n_heads):
        for t in range(n_tokens):
            seen = scores[head, t, : t + 1]
            seen[:] = np.exp(seen - seen.max())
            seen /= seen.sum()
    for head in range(n_batch * n_heads):
        b, h = head // n_heads, head % n_heads
        for t in range(n_tokens):
            for s in range(t + 1):
                for d in range(width):
                    out[b, t, h, d] += scores[head, t, s] * value[b, s, h, d]
    return out


@parallel
def numba_parallel(query, key, value):
    """The heads of each loop are shared out among the cores."""
    n_batch, n_tokens, n_heads, width = query.shape
    scores, out = np.empty((n_batch * n_heads, n_tokens, n_tokens), query.dtype), np.zeros_like(query)
    scale = query.dtype.type(1 / np.sqrt(width))
    for head in prange(n_batch * n_heads):
        b, h = head // n_heads, head % n_heads
        for t in range(n_tokens):
            for s in range(t + 1):
                total = query.dtype.type(0)
                for d in range(width):
                    total += query[b, t, h, d] * key[b, s, h, d]
                scores[head, t, s] = scale * total
    for head in prange(n_batch * n_heads):
        for t in range(n_tokens):
            largest, total = scores[head, t, : t + 1].max(), query.dtype.type(0)
            for s in range(t + 1):
                scores[head, t, s] = np.exp(scores[head, t, s] - largest)
                total += scores[head, t, s]
            for s in range(t + 1):
                scores[head, t, s] /= total
    for head in prange(n_batch * n_heads):
        b, h = head // n_heads, head % n_heads
        for t in range(n_tokens):
            for s in range(t + 1):
                for d in range(width):
                    out[b, t, h, d] += scores[head, t, s] * value[b, s, h, d]
    return out


def tinyllm_tiles(query, key, value):
    """Tiles of 32 queries and 96 keys through the register tile, softmax on the run (kernels/attention/forward.py)."""
    return kernels.attention_forward(query, key, value, scale=1 / math.sqrt(query.shape[-1]), visible=CAUSAL)[0]


def torch_attention(query, key, value):
    """PyTorch's own, which wants the heads first (a view, nothing moves)."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)


RUNGS = [
    Rung("Python loop", python_loop, prepare=lambda *arrays: tuple(x.tolist() for x in arrays),
         part=lambda *arrays: tuple(x[:1, :64, :1] for x in arrays)),
    Rung("NumPy, products by BLAS", numpy_lines),
    Rung("Numba serial", numba_serial),
    Rung("Numba parallel", numba_parallel),
    Rung("Numba fused tiles (tinyllm)", tinyllm_tiles),
    *([Rung("PyTorch", torch_attention, prepare=tensors)] if torch else []),
]  # fmt: skip


def work(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> Work:
    """Two products over the pairs (query, key at or before it); query, key, value read, out written."""
    n_batch, n_tokens, n_heads, width = query.shape
    pairs = n_tokens * (n_tokens + 1) // 2
    return Work(4 * width * pairs * n_batch * n_heads, 4 * query.nbytes)


def twin(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The equation."""
    return reference.attention_forward(query, key, value, scale=1 / math.sqrt(query.shape[-1]), visible=CAUSAL)[0]


def ladders(rng: np.random.Generator, *, quick: bool) -> list[Ladder]:
    """(batch, tokens, heads, head width) of nanoGPT's CPU recipe, and of GPT-2 on a whole window."""
    made = []
    for shape in [(2, 24, 2, 16)] if quick else [(12, 64, 4, 32), (1, 1024, 12, 64)]:
        inputs = tuple(rng.standard_normal((3, *shape), dtype=np.float32))
        name = "attention " + " x ".join(map(str, shape))
        made.append(Ladder(name, inputs, twin, work, RUNGS))
    return made
