"""Matrix products in plain NumPy, alone and with what follows them in a layer."""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.reference.activations import gelu_tanh_backward, gelu_tanh_forward, silu_backward, silu_forward


def matmul(a: ndarray, b: ndarray, out: ndarray | None = None) -> ndarray:
    """out[..., m, n] = Σₖ a[..., m, k] · b[..., k, n]; leading axes broadcast; `out` is written and returned if it is given."""
    return np.matmul(a, b, out=out)


def matmul_add(a: ndarray, b: ndarray, out: ndarray) -> ndarray:
    """out += a @ b, in place"""
    out += matmul(a, b)
    return out


def linear_forward(x: ndarray, weight: ndarray, bias: ndarray | None = None, residual: ndarray | None = None) -> ndarray:
    """y = x Wᵀ + b + residual"""
    return matmul(x, weight.T) + (0 if bias is None else bias) + (0 if residual is None else residual)


def linear_gelu_forward(x: ndarray, weight: ndarray, bias: ndarray | None = None) -> tuple[ndarray, ndarray]:
    """h = x Wᵀ + b,   y = gelu(h)"""
    hidden = linear_forward(x, weight, bias)
    return hidden, gelu_tanh_forward(hidden)


def gelu_linear_backward(dy: ndarray, weight: ndarray, hidden: ndarray) -> ndarray:
    """dh = (dy W) ∘ gelu'(h);   h ← gelu(h), in place"""
    dhidden = gelu_tanh_backward(matmul(dy, weight), hidden)
    hidden[...] = gelu_tanh_forward(hidden)
    return dhidden


def linear_silu_gate_forward(x: ndarray, weight: ndarray, gate: ndarray) -> tuple[ndarray, ndarray]:
    """u = x Wᵀ,   y = silu(g) ∘ u"""
    up = matmul(x, weight.T)
    return up, silu_forward(gate) * up


def silu_gate_linear_backward(dy: ndarray, weight: ndarray, gate: ndarray, up: ndarray) -> ndarray:
    """du = (dy W) ∘ silu(g);   g ← dg = (dy W) ∘ u ∘ silu'(g),   u ← silu(g) ∘ u, in place"""
    both, value = matmul(dy, weight), silu_forward(gate)
    gate[...] = silu_backward(both * up, gate)
    up *= value
    return both * value


def int8_linear_forward(x: ndarray, weight: ndarray, scale: ndarray, bias: ndarray | None = None) -> ndarray:
    """y = (x Qᵀ) ∘ scale + b for int8 weights Q (out, in) that stand for scale[o] · Q[o, k]; a scale for each output."""
    return (x @ weight.T.astype(x.dtype)) * scale + (0 if bias is None else bias)
