"""Gradient clipping: one odd batch must not throw the weights away.

    g = g · min(1, max_norm / ‖g‖)        ‖g‖ over all weights together

The direction stays, only the length is cut (Pascanu et al. 2013, algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tinyllm import kernels
from tinyllm.autograd import Tensor


def grad_norm(params: Iterable[Tensor]) -> float:
    """Euclidean norm of all gradients together; not finite if one of them is not."""
    return math.sqrt(kernels.sum_of_squares([param.grad for param in params if param.grad is not None]))


def clip_factor(norm: float, max_norm: float) -> float:
    """What to multiply gradients of norm `norm` by, so that their norm is at most `max_norm`: min(1, max_norm / norm).

    1 where the norm is NaN or infinite, since no factor would help.
    """
    return max_norm / norm if max_norm < norm < math.inf else 1.0


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale gradients in place so that their norm is at most `max_norm`; returns the norm before.

    Where the norm is NaN or infinite nothing is scaled: look at what is returned. To save this pass over the gradients,
    give the factor to the optimizer instead: `optimizer.step(grad_scale=clip_factor(norm, max_norm))`.
    """
    params = list(params)
    norm = grad_norm(params)
    factor = clip_factor(norm, max_norm)
    if factor != 1.0:
        for param in params:
            if param.grad is not None:
                param.grad *= factor
    return norm
