"""Linear map: y = x Wᵀ + b, the op in which nearly all of a language model's arithmetic happens.

    dx = dy W        dW = dyᵀ x        db = Σ dy over positions

Leading axes of x are positions; they are flattened so that each product is one large matrix product: 2·N·in·out FLOPs
forward, twice that backward. Loops: `kernels/product/matrix_product.py`; weights: `nn/linear.py`.
"""

import math

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op


@op
def linear(x, weight, bias=None, residual=None, *, needs):
    """x (..., in), weight (out, in), bias (out,) or None -> (..., out). `needs` comes from `op`: who wants a gradient.

    residual (..., out): added to the result while it is still in the cache; its gradient is dy itself.
    """
    check_linear("linear", x, weight, bias=bias)
    check_residual("linear", residual, x, n_out=len(weight))
    n_out, n_in = weight.shape
    rows = x.reshape(math.prod(x.shape[:-1]), n_in)  # (N, in)
    y = kernels.linear_forward(rows, weight, bias, None if residual is None else residual.reshape(len(rows), n_out))

    def backward(dy):
        drows = dy.reshape(len(rows), n_out)
        dx = kernels.matmul(drows, weight).reshape(x.shape) if needs[0] else None
        dweight = kernels.matmul(drows.T, rows) if needs[1] else None
        return dx, dweight, drows.sum(axis=0) if needs[2] else None, dy if needs[3] else None

    return y.reshape(*x.shape[:-1], n_out), backward


def check_residual(op_name: str, residual: np.ndarray | None, x: np.ndarray, *, n_out: int) -> None:
    """ValueError unless the residual is None or fits the result of a layer with `n_out` outputs for x (..., in)."""
    shape = (*x.shape[:-1], n_out)
    if residual is not None and (residual.dtype != x.dtype or residual.shape != shape):
        expected = f"{x.dtype} {shape} expected, like the result"
        raise ValueError(f"{op_name}: residual {residual.dtype} {residual.shape} came, {expected}")


def check_linear(op_name: str, x: np.ndarray, weight: np.ndarray, *, bias: np.ndarray | None = None) -> None:
    """ValueError unless x (..., in), weight (out, in) and bias (out,) or None fit."""
    check_dtypes(op_name, x=x, weight=weight, bias=bias)
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        n_in = x.shape[-1] if x.ndim else "in"
        raise ValueError(f"{op_name}: weight {weight.shape} came with x {x.shape}, expected (out, {n_in})")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{op_name}: bias {bias.shape} came, {weight.shape[:1]} expected for weight {weight.shape}")
