"""Linear layers and feed-forward layers: matrix products with their epilogue, one pass over each array.

    matmul_add                  C += A·B
    linear_forward              y = x Wᵀ + b + residual
    linear_gelu_forward         h = x Wᵀ + b,   y = gelu(h)
    gelu_linear_backward        dh = (dy W) ∘ gelu'(h), for a product y = gelu(h) Wᵀ
    linear_silu_gate_forward    u = x Wᵀ,   y = silu(g) ∘ u                       (SwiGLU: Shazeer 2020, eq. 6)
    silu_gate_linear_backward   the gradients of g and u, for a product y = (silu(g) ∘ u) Wᵀ
x is (N, in), W (out, in). The product is matrix_product.py's, the epilogues are in epilogue.py.
"""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.elementwise import gelu_tanh_forward, silu_forward
from tinyllm.kernels.jit import rows
from tinyllm.kernels.product.epilogue import ADD_TO, GELU, GELU_BACKWARD, LINEAR, SILU_GATE, SILU_GATE_BACKWARD, epilogue
from tinyllm.kernels.product.matrix_product import matmul, multiply_with
from tinyllm.kernels.product.matrix_vector import is_few


def _product(kind: int, a: ndarray, b: ndarray, **arrays: ndarray | None) -> ndarray:
    """A·B followed by epilogue `kind`."""
    target = np.empty((a.shape[0], b.shape[1]), a.dtype)
    multiply_with(epilogue(kind, target, **arrays), a, b)
    return target


def matmul_add(a: ndarray, b: ndarray, out: ndarray) -> ndarray:
    """out (M, N), C-contiguous, += a (M, K) @ b (K, N), in place: how gradients add up without an array in between."""
    multiply_with(epilogue(ADD_TO, out), a, b)
    return out


def linear_forward(x: ndarray, weight: ndarray, bias: ndarray | None = None, residual: ndarray | None = None) -> ndarray:
    """x (N, in), weight (out, in), bias (out,), residual (N, out) -> (N, out)."""
    if is_few(x.shape[0]):
        y = matmul(x, weight.T)
        for term in (bias, residual):
            y = y if term is None else np.add(y, term, out=y)
        return y
    bias = None if bias is None else rows(bias.reshape(1, -1))
    return _product(LINEAR, x, weight.T, bias=bias, first=None if residual is None else rows(residual))


def linear_gelu_forward(x: ndarray, weight: ndarray, bias: ndarray | None = None) -> tuple[ndarray, ndarray]:
    """x (N, in), weight (out, in), bias (out,) -> h (N, out) before GELU (tanh), y (N, out) after it."""
    if is_few(x.shape[0]):
        hidden = linear_forward(x, weight, bias)
        return hidden, gelu_tanh_forward(hidden)
    y = np.empty((x.shape[0], weight.shape[0]), x.dtype)
    bias = None if bias is None else rows(bias.reshape(1, -1))
    return _product(GELU, x, weight.T, bias=bias, second=y), y


def gelu_linear_backward(dy: ndarray, weight: ndarray, hidden: ndarray) -> ndarray:
    """dy (N, out), weight (out, F), hidden (N, F) before GELU -> dhidden (N, F); `hidden` itself becomes gelu(hidden)."""
    return _product(GELU_BACKWARD, dy, weight, first=hidden)


def linear_silu_gate_forward(x: ndarray, weight: ndarray, gate: ndarray) -> tuple[ndarray, ndarray]:
    """x (N, in), weight (F, in), gate (N, F) -> up = x weightᵀ (N, F), y = silu(gate) ∘ up (N, F)."""
    if is_few(x.shape[0]):
        up = linear_forward(x, weight)
        return up, silu_forward(gate) * up
    y = np.empty(gate.shape, x.dtype)
    return _product(SILU_GATE, x, weight.T, first=rows(gate), second=y), y


def silu_gate_linear_backward(dy: ndarray, weight: ndarray, gate: ndarray, up: ndarray) -> ndarray:
    """dy (N, out), weight (out, F) -> dup (N, F); `gate` itself becomes dgate and `up` silu(gate) ∘ up, in place."""
    return _product(SILU_GATE_BACKWARD, dy, weight, first=gate, second=up)
