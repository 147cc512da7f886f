"""Rotary position embedding: turn each pair of coordinates of a query or key by an angle proportional to its position.

    (x₁, x₂) -> (x₁ cos θ - x₂ sin θ, x₂ cos θ + x₁ sin θ)       θ = position · base^(-2i/D)

A product of a query at t and a key at s then depends on t - s alone: the model sees distances, not addresses. A rotation's
inverse is its transpose, so backward turns the other way. Su et al. 2021, eq. 15 and 34. Pairs are (i, i + D/2), as in
Llama on Hugging Face, where the paper pairs neighbours (2i, 2i + 1). Loops: `kernels/rotary.py`.
"""

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op
from tinyllm.ops.cross_entropy import check_ids


@op
def rotary(x, *, cos: np.ndarray, sin: np.ndarray, positions: np.ndarray):
    """x (B, T, H, D), of tokens at positions (B or 1, T) whole numbers -> (B, T, H, D).

    cos, sin  (M, D/2): a row for each position, `nn/rotary.py` makes them
    """
    check_dtypes("rotary", x=x)
    B, T, _, D = x.shape
    if cos.ndim != 2 or cos.shape != sin.shape or 2 * cos.shape[1] != D:
        raise ValueError(f"rotary: cos {cos.shape} and sin {sin.shape} do not fit x {x.shape}; (positions, D/2) expected")
    if positions.shape not in ((1, T), (B, T)):
        raise ValueError(f"rotary: positions {positions.shape} do not fit x {x.shape}; (B or 1, T) expected")
    check_ids(positions, len(cos), "positions")
    cos, sin = cos.astype(x.dtype, copy=False), sin.astype(x.dtype, copy=False)
    return kernels.rotary_forward(x, cos, sin, positions), lambda dy: kernels.rotary_backward(dy, cos, sin, positions)
