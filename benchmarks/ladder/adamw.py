"""AdamW, one step on all weights of a GPT-2 block: seven numbers to move for every weight, and little to compute.

    θ ← θ (1 - lr·λ);  m ← β₁m + (1-β₁)g;  v ← β₂v + (1-β₂)g²;  θ ← θ - lr · m/(1-β₁ᵗ) / (√(v/(1-β₂ᵗ)) + eps)
θ, g, m and v come from memory, θ, m and v go back: 28 bytes a weight, if each is loaded once. Line by line it is a multiple.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.ladder.loops import jit, parallel, prange
from benchmarks.ladder.peers import tensors, torch
from benchmarks.ladder.rungs import Ladder, Rung, Work
from tinyllm import kernels
from tinyllm.kernels import reference

LR, BETA1, BETA2, EPS, DECAY, STEP = 1e-3, 0.9, 0.99, 1e-8, 0.1, 10
SETTINGS: dict[str, Any] = {"lr": LR, "betas": (BETA1, BETA2), "eps": EPS, "weight_decays": [DECAY], "step": STEP}
STEP_SIZE = np.float32(LR / (1 - BETA1**STEP))
ROOT = np.float32(1 / math.sqrt(1 - BETA2**STEP))
KEEP, B1, B2, R1, R2, TINY = (np.float32(x) for x in (1 - LR * DECAY, BETA1, BETA2, 1 - BETA1, 1 - BETA2, EPS))


def python_loop(theta: list[float], g: list[float], m: list[float], v: list[float]) -> tuple[list[float], ...]:
    """Some twenty operations a weight, each an errand of the interpreter."""
    for i in range(len(theta)):
        m[i] = BETA1 * m[i] + (1 - BETA1) * g[i]
        v[i] = BETA2 * v[i] + (1 - BETA2) * g[i] ** 2
        corrected_m, corrected_v = m[i] / (1 - BETA1**STEP), v[i] / (1 - BETA2**STEP)
        theta[i] = theta[i] * (1 - LR * DECAY) - LR * corrected_m / (math.sqrt(corrected_v) + EPS)
    return theta, m, v


def numpy_lines(theta, g, m, v):
    """The equations. Each of the sixteen operators is a pass over memory, and most of them make a new array."""
    theta *= 1 - LR * DECAY
    m *= BETA1
    m += (1 - BETA1) * g
    v *= BETA2
    v += (1 - BETA2) * g * g
    theta -= LR * (m / (1 - BETA1**STEP)) / (np.sqrt(v / (1 - BETA2**STEP)) + EPS)
    return theta, m, v


@jit
def numba_serial(theta, g, m, v):
    """A loop for each equation: four passes, no array in between."""
    for i in range(theta.size):
        theta[i] *= KEEP
    for i in range(theta.size):
        m[i] = B1 * m[i] + R1 * g[i]
    for i in range(theta.size):
        v[i] = B2 * v[i] + R2 * g[i] * g[i]
    for i in range(theta.size):
        theta[i] -= STEP_SIZE * m[i] / (np.sqrt(v[i]) * ROOT + TINY)
    return theta, m, v


@parallel
def numba_parallel(theta, g, m, v):
    """Each loop is shared out among the cores. They share one memory, though."""
    for i in prange(theta.size):
        theta[i] *= KEEP
    for i in prange(theta.size):
        m[i] = B1 * m[i] + R1 * g[i]
    for i in prange(theta.size):
        v[i] = B2 * v[i] + R2 * g[i] * g[i]
    for i in prange(theta.size):
        theta[i] -= STEP_SIZE * m[i] / (np.sqrt(v[i]) * ROOT + TINY)
    return theta, m, v


def tinyllm_fused(theta, g, m, v):
    """One loop with all four equations (kernels/adamw.py): each number is loaded once and stored once."""
    kernels.adamw_update([theta], [g], [m], [v], **SETTINGS)
    return theta, m, v


def torch_state(theta, g, m, v):
    """PyTorch's AdamW in the middle of a training, with our numbers: the optimizer and its weight."""
    weight, gradient, exp_avg, exp_avg_sq = tensors(theta, g, m, v)
    weight = torch.nn.Parameter(weight)
    weight.grad = gradient
    optimizer = torch.optim.AdamW([weight], lr=LR, betas=(BETA1, BETA2), eps=EPS, weight_decay=DECAY, fused=True)
    optimizer.state[weight] = {"step": torch.tensor(STEP - 1.0), "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    return optimizer, weight


def torch_adamw(optimizer, weight):
    """PyTorch's own, fused."""
    optimizer.step()
    state = optimizer.state[weight]
    return weight.detach(), state["exp_avg"], state["exp_avg_sq"]


RUNGS = [
    Rung("Python loop", python_loop, prepare=lambda *arrays: tuple(x.tolist() for x in arrays),
         part=lambda *arrays: tuple(x[:50_000] for x in arrays)),
    Rung("NumPy", numpy_lines),
    Rung("Numba serial", numba_serial),
    Rung("Numba parallel", numba_parallel),
    Rung("Numba fused (tinyllm)", tinyllm_fused),
    *([Rung("PyTorch, fused", torch_adamw, prepare=torch_state)] if torch else []),
]  # fmt: skip


def work(theta: np.ndarray, *others: np.ndarray) -> Work:
    """Four arrays read, three written; some fifteen operations a weight."""
    return Work(15 * theta.size, 7 * theta.nbytes)


def twin(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """The equations, on copies."""
    theta, g, m, v = (x.copy() for x in arrays)
    reference.adamw_update([theta], [g], [m], [v], **SETTINGS)
    return theta, m, v


def ladders(rng: np.random.Generator, *, quick: bool) -> list[Ladder]:
    """The 12 · 768² weights of one block of GPT-2: 28 MB, four times."""
    n = 2_000 if quick else 12 * 768**2
    theta, g, m, v = rng.standard_normal((4, n), dtype=np.float32)
    return [Ladder(f"AdamW, {n:,} weights", (theta, g, m, v**2), twin, work, RUNGS, traffic="update")]
