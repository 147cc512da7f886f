"""Embedding and rotary position embedding in plain NumPy."""

import numpy as np
from numpy import ndarray


def embedding_forward(weight: ndarray, ids: ndarray) -> ndarray:
    """y[...] = weight[ids[...]].      weight (V, C), ids (...) integers in [0, V) -> (..., C)"""
    return np.take(weight, ids, axis=0)


def embedding_backward(dy: ndarray, ids: ndarray, n_rows: int, out: ndarray | None = None) -> ndarray:
    """dweight[v] = Σ dy over the places where ids = v, in the order of the places      -> (n_rows, C); added to `out` if given"""
    dweight = np.zeros((n_rows, dy.shape[-1]), dy.dtype) if out is None else out
    np.add.at(dweight, ids.reshape(-1), dy.reshape(-1, dy.shape[-1]))
    return dweight


def rotary_forward(x: ndarray, cos: ndarray, sin: ndarray, positions: ndarray) -> ndarray:
    """Turn the pair (xᵢ, xᵢ₊D/₂) by an angle that grows with the position      (Su et al. 2021, eq. 34)

    yᵢ = xᵢ cos - xᵢ₊D/₂ sin,   yᵢ₊D/₂ = xᵢ₊D/₂ cos + xᵢ sin.      x (B, T, H, D), positions (B or 1, T)
    cos and sin (M, D/2) have a row for each position.
    The paper pairs neighbours (x₂ᵢ, x₂ᵢ₊₁). Halves, as in Llama's published weights, only reorder the columns.
    """
    first, second = np.split(x, 2, axis=-1)
    cos, sin = cos[positions][:, :, None, :], sin[positions][:, :, None, :]  # the same angle for every head
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rotary_backward(dy: ndarray, cos: ndarray, sin: ndarray, positions: ndarray) -> ndarray:
    """The transpose of a rotation is the rotation back."""
    return rotary_forward(dy, cos, -sin, positions)
