"""Linear map: y = x Wᵀ + b, the op in which nearly all of a language model's arithmetic happens.

    dx = dy W        dW = dyᵀ x        db = Σ dy over positions

Leading axes of x are positions; they are flattened so that each product is one large matrix product: 2·N·in·out FLOPs
forward, twice that backward. Loops: `kernels/matrix_product.py`; weights: `nn/linear.py`.
"""

from __future__ import annotations

import math

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op


@op
def linear(x, weight, bias, *, needs):
    """x (..., in), weight (out, in), bias (out,) or None -> (..., out). `needs` comes from `op`: who wants a gradient."""
    check_dtypes("linear", x=x, weight=weight, bias=bias)
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"linear: weight {weight.shape} came with x {x.shape}, expected (out, {x.shape[-1]})")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias {bias.shape} came, {weight.shape[:1]} expected for weight {weight.shape}")
    n_out, n_in = weight.shape
    rows = x.reshape(math.prod(x.shape[:-1]), n_in)  # (N, in)
    y = kernels.matmul(rows, weight.T)
    if bias is not None:
        y += bias

    def backward(dy):
        drows = dy.reshape(len(rows), n_out)
        dx = kernels.matmul(drows, weight).reshape(x.shape) if needs[0] else None
        dweight = kernels.matmul(drows.T, rows) if needs[1] else None
        dbias = drows.sum(axis=0) if needs[2] else None
        return dx, dweight, dbias

    return y.reshape(*x.shape[:-1], n_out), backward
