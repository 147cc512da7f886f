"""The feed-forward layer as one op: two products with GELU between them, and their gradients, written out.

    h = x W_upᵀ + b_up        a = gelu(h)        y = a W_downᵀ + b_down (+ residual)

    dh = (dy W_down) ∘ gelu'(h)        dW_down = dyᵀ a        dW_up = dhᵀ x        dx = dh W_up

It could be composed of `linear` and `gelu`; the values are the same. As one op it does GELU and its slope inside the products
(`kernels/product/linear.py`), and keeps only h: backward makes a = gelu(h) again while it works out gelu'(h), in place, so the
layer remembers 4C numbers per token instead of 8C. Vaswani et al. 2017, eq. 2; Hendrycks & Gimpel 2016.
"""

import math

from tinyllm import kernels
from tinyllm.autograd import op
from tinyllm.ops.linear import check_linear, check_residual


@op
def gelu_feedforward(x, up, up_bias, down, down_bias, residual=None, *, needs):
    """x (..., C), up (F, C), up_bias (F,) or None, down (C', F), down_bias (C',) or None, residual (..., C') -> (..., C').

    GELU by tanh, as in GPT-2 (see `ops/activations.py`). `needs` comes from `op`: who wants a gradient.
    """
    check_linear("gelu_feedforward", x, up, bias=up_bias)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # (N, C)
    hidden, active = kernels.linear_gelu_forward(rows, up, up_bias)  # (N, F)
    check_linear("gelu_feedforward", active, down, bias=down_bias)
    check_residual("gelu_feedforward", residual, x, n_out=len(down))
    y = kernels.linear_forward(active, down, down_bias, None if residual is None else residual.reshape(len(rows), len(down)))
    del active  # backward makes it again

    def backward(dy):
        drows = dy.reshape(len(rows), len(down))
        dhidden = kernels.gelu_linear_backward(drows, down, hidden)
        active = hidden  # it is gelu(h) now
        return (
            kernels.matmul(dhidden, up).reshape(x.shape) if needs[0] else None,
            kernels.matmul(dhidden.T, rows) if needs[1] else None,
            dhidden.sum(axis=0) if needs[2] else None,
            kernels.matmul(drows.T, active) if needs[3] else None,
            drows.sum(axis=0) if needs[4] else None,
            dy if needs[5] else None,
        )

    return y.reshape(*x.shape[:-1], len(down)), backward
