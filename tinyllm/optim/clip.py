"""Gradient clipping: one odd batch must not throw the weights away.

    g = g · min(1, max_norm / ‖g‖)        ‖g‖ over all weights together

The direction stays, only the length is cut (Pascanu et al. 2013, algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tinyllm.autograd import Tensor


def grad_norm(params: Iterable[Tensor]) -> float:
    """Euclidean norm of all gradients together; not finite if one of them is not."""
    flat = (param.grad.ravel() for param in params if param.grad is not None)
    return math.sqrt(sum(float(np.einsum("i,i->", grad, grad)) for grad in flat))


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale gradients in place so that their norm is at most `max_norm`; returns the norm before.

    Where the norm is NaN or infinite nothing is scaled, since no factor would help: look at what is returned.
    """
    params = list(params)
    norm = grad_norm(params)
    if max_norm < norm < math.inf:
        for param in params:
            if param.grad is not None:
                param.grad *= max_norm / norm
    return norm
