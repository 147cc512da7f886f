"""Adam with decoupled weight decay in plain NumPy, and the sum of squares that a gradient's norm is made of."""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray


def sum_of_squares(arrays: Sequence[ndarray]) -> float:
    """Σ x² over all numbers of all arrays, in the widest of their dtypes (where it may overflow), the arrays' sums in double."""
    dtype = np.result_type(np.float32, *(x.dtype for x in arrays))
    with np.errstate(over="ignore", invalid="ignore"):
        return float(sum(float(np.square(x, dtype=dtype).sum()) for x in arrays))


def adamw_update(
    params: Sequence[ndarray], grads: Sequence[ndarray], exp_avgs: Sequence[ndarray], exp_avg_sqs: Sequence[ndarray], *,
    lr: float, betas: tuple[float, float], eps: float, weight_decays: Sequence[float], step: int, grad_scale: float = 1.0,
) -> None:  # fmt: skip
    """One step of Adam with decoupled weight decay, in place      (Loshchilov & Hutter 2019, algorithm 2)

    θ ← θ (1 - lr·λ);   m ← β₁m + (1-β₁)g;   v ← β₂v + (1-β₂)g²;   θ ← θ - lr · m/(1-β₁ᵗ) / (√(v/(1-β₂ᵗ)) + eps)
    `step` is t and counts from 1. The paper's schedule multiplier η is part of lr here; g is grad · grad_scale.
    """
    beta1, beta2 = betas
    for param, grad, m, v, decay in zip(params, grads, exp_avgs, exp_avg_sqs, weight_decays, strict=True):
        g = grad.astype(param.dtype) * param.dtype.type(grad_scale)
        param *= 1.0 - lr * decay
        m *= beta1
        m += (1.0 - beta1) * g
        v *= beta2
        v += (1.0 - beta2) * g * g
        param -= lr * (m / (1.0 - beta1**step)) / (np.sqrt(v / (1.0 - beta2**step)) + eps)
