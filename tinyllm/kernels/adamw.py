"""Adam with decoupled weight decay, one parameter at a time, in one pass over memory.

    θ ← θ (1 - lr·λ);   m ← β₁m + (1-β₁)g;   v ← β₂v + (1-β₂)g²
    θ ← θ - lr · m̂ / (√v̂ + eps),   m̂ = m / (1-β₁ᵗ),   v̂ = v / (1-β₂ᵗ)      (Loshchilov & Hutter 2019, algorithm 2)
Written with NumPy the same lines read and write memory some fifteen times. Here each number is loaded once and stored once;
the corrections depend only on the step and are worked out before, in double precision.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows

SERIAL = 8192  # numbers; fewer are not worth waking another core
BLOCK = 8192


@inlined
def _update(param, grad, exp_avg, exp_avg_sq, numbers):
    keep, step_size, beta1, rest1, beta2, rest2, root_correction, eps = numbers
    for i in range(param.size):
        m = beta1 * exp_avg[i] + rest1 * grad[i]
        v = beta2 * exp_avg_sq[i] + rest2 * grad[i] * grad[i]
        exp_avg[i] = m
        exp_avg_sq[i] = v
        param[i] = keep * param[i] - step_size * m / (np.sqrt(v) * root_correction + eps)


@jit(parallel=True)
def _adamw(param, grad, exp_avg, exp_avg_sq, numbers):
    n = param.size
    if n <= SERIAL:
        _update(param, grad, exp_avg, exp_avg_sq, numbers)
    else:
        for block in prange((n + BLOCK - 1) // BLOCK):
            a = np.int64(block) * BLOCK
            b = min(a + BLOCK, n)
            _update(param[a:b], grad[a:b], exp_avg[a:b], exp_avg_sq[a:b], numbers)


def adamw_update(
    param: ndarray,
    grad: ndarray,
    exp_avg: ndarray,
    exp_avg_sq: ndarray,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
) -> None:
    """Update param, exp_avg (m) and exp_avg_sq (v) in place; all of one shape and dtype; step counts from 1.

    Raises ValueError if one of the three is not C-contiguous: flattening would copy it, and the update would be lost.
    """
    for name, array in (("param", param), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} has strides {array.strides}, expected a C-contiguous array: use np.ascontiguousarray")
    step_size = lr / (1.0 - beta1**step)
    root_correction = 1.0 / math.sqrt(1.0 - beta2**step)  # √(v / c) = √v · (1 / √c)
    numbers = (1.0 - lr * weight_decay, step_size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, root_correction, eps)
    gradient = rows(grad.reshape(1, -1))[0]
    _adamw(param.reshape(-1), gradient, exp_avg.reshape(-1), exp_avg_sq.reshape(-1), tuple(map(param.dtype.type, numbers)))
