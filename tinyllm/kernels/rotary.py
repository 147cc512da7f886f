"""Rotary position embedding: a query or key at position t is turned by angles proportional to t.

    yᵢ = xᵢ cos θ - xᵢ₊D/₂ sin θ,   yᵢ₊D/₂ = xᵢ₊D/₂ cos θ + xᵢ sin θ      (Su et al. 2021, eq. 34)
The product of a turned query and a turned key then depends only on the distance of their positions. The paper pairs
neighbours (x₂ᵢ, x₂ᵢ₊₁); here the halves are paired, as in Llama's published weights. The backward turns the other way.
"""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows

SERIAL = 16384  # numbers; fewer are not worth waking another core


@inlined
def turn(x, cos, sin, sign, y):
    """All heads (H, D) at one position, by sign · angle."""
    half = cos.size
    for h in range(x.shape[0]):
        first, second, out = x[h, :half], x[h, half:], y[h]
        for i in range(half):
            out[i] = first[i] * cos[i] - second[i] * (sign * sin[i])
        for i in range(half):
            out[half + i] = second[i] * cos[i] + first[i] * (sign * sin[i])


@jit(parallel=True)
def _rotary(x, cos, sin, positions, sign, y):
    """x and y (N, H, D); cos and sin (M, D/2); positions (P,), N a multiple of P: used again for each batch row."""
    n_places = positions.size
    if x.size <= SERIAL:
        for n in range(x.shape[0]):
            m = positions[n % n_places]
            turn(x[n], cos[m], sin[m], sign, y[n])
    else:
        for n in prange(x.shape[0]):
            m = positions[np.int64(n) % n_places]
            turn(x[n], cos[m], sin[m], sign, y[n])


def _rotate(x: ndarray, cos: ndarray, sin: ndarray, positions: ndarray, sign: float) -> ndarray:
    batch, n_positions, n_heads, width = x.shape
    y = np.empty(x.shape, x.dtype)
    if x.size:
        shape, places = (batch * n_positions, n_heads, width), np.array(positions, np.int64, order="C").ravel()
        _rotary(rows(x).reshape(shape), rows(cos), rows(sin), places, x.dtype.type(sign), y.reshape(shape))
    return y


def rotary_forward(x: ndarray, cos: ndarray, sin: ndarray, positions: ndarray) -> ndarray:
    """x (B, T, H, D), cos and sin (M, D/2), positions (B or 1, T), below M -> (B, T, H, D)."""
    return _rotate(x, cos, sin, positions, 1.0)


def rotary_backward(dy: ndarray, cos: ndarray, sin: ndarray, positions: ndarray) -> ndarray:
    """The transpose of a rotation is the rotation back: dy (B, T, H, D) -> dx."""
    return _rotate(dy, cos, sin, positions, -1.0)
