"""Gradient clipping: one odd batch must not throw the weights away.

    g = g · min(1, max_norm / ‖g‖)        ‖g‖ over all weights together

The direction stays, only the length is cut (Pascanu et al. 2013, algorithm 1).
"""

import math
from collections.abc import Iterable

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import Tensor, observed


@observed("grad_norm")
def grad_norm(params: Iterable[Tensor]) -> float:
    """Euclidean norm of all gradients together; not finite if one of them is not."""
    grads = [param.grad for param in params if param.grad is not None]
    for grad in grads:
        if not isinstance(grad, np.ndarray) or grad.dtype.kind != "f":
            came = grad.dtype if isinstance(grad, np.ndarray) else type(grad).__name__
            raise ValueError(f"a gradient is {came}, an array of floats expected")
    return math.sqrt(kernels.sum_of_squares(grads))


def clip_factor(norm: float, max_norm: float) -> float:
    """What to multiply gradients of norm `norm` by, so that their norm is at most `max_norm`: min(1, max_norm / norm).

    1 where the norm is NaN or infinite, since no factor would help. ValueError for a negative max_norm, which would turn round.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm is {max_norm}, a number of at least 0 expected")
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
            if param.grad is not None and param.grad.flags.writeable:
                param.grad *= factor
            elif param.grad is not None:
                param.grad = param.grad * factor
    return norm
