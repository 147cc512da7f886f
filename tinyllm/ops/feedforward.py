"""The feed-forward layer as one op, plain and gated: products with an activation between them, and their gradients.

    plain    h = x W_upᵀ + b_up        a = gelu(h)        y = a W_downᵀ + b_down (+ residual)
             dh = (dy W_down) ∘ gelu'(h)        dW_down = dyᵀ a        dW_up = dhᵀ x        dx = dh W_up

    gated    g = x W_gateᵀ        u = x W_upᵀ        a = silu(g) ∘ u        y = a W_downᵀ (+ residual)
             da = dy W_down       du = da ∘ silu(g)       dg = da ∘ u ∘ silu'(g)       dx = dg W_gate + du W_up

They could be composed of `linear` and `gelu` or `silu`; the values are the same. As one op they do the activation and its slope
inside the products (`kernels/product/linear.py`), and keep only what stands before it: backward makes `a` again while it works
out the slope, in place, so the layer remembers F numbers per token instead of 2F, or 2F instead of 4F.
Plain: Vaswani et al. 2017, eq. 2; Hendrycks & Gimpel 2016. Gated: Shazeer 2020, eq. 6 (SwiGLU).
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


@op
def silu_feedforward(x, gate, up, down, residual=None, *, needs):
    """x (..., C), gate and up (F, C), down (C', F), residual (..., C') -> (..., C'). `needs`: who wants a gradient."""
    check_linear("silu_feedforward", x, gate)
    check_linear("silu_feedforward", x, up)
    if up.shape != gate.shape:
        raise ValueError(f"silu_feedforward: up {up.shape} came with gate {gate.shape}, the same shape expected")
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # (N, C)
    gated = kernels.linear_forward(rows, gate)  # (N, F)
    lifted, active = kernels.linear_silu_gate_forward(rows, up, gated)  # (N, F)
    check_linear("silu_feedforward", active, down)
    check_residual("silu_feedforward", residual, x, n_out=len(down))
    y = kernels.linear_forward(active, down, None, None if residual is None else residual.reshape(len(rows), len(down)))
    del active  # backward makes it again

    def backward(dy):
        drows = dy.reshape(len(rows), len(down))
        dup = kernels.silu_gate_linear_backward(drows, down, gated, lifted)
        dgate, active = gated, lifted  # in place: they hold these now
        dx = kernels.matmul_add(dup, up, kernels.matmul(dgate, gate)).reshape(x.shape) if needs[0] else None
        return (
            dx,
            kernels.matmul(dgate.T, rows) if needs[1] else None,
            kernels.matmul(dup.T, rows) if needs[2] else None,
            kernels.matmul(drows.T, active) if needs[3] else None,
            dy if needs[4] else None,
        )

    return y.reshape(*x.shape[:-1], len(down)), backward
