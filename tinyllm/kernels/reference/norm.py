"""Layer norm and RMS norm in plain NumPy."""

import numpy as np
from numpy import ndarray


def layer_norm_forward(x: ndarray, weight: ndarray, bias: ndarray | None, eps: float) -> tuple[ndarray, ndarray, ndarray]:
    """y = weight (x - mean) rstd + bias,   rstd = 1 / √(var + eps)      (Ba et al. 2016, eq. 4)

    x (..., C), weight and bias (C,) -> y (..., C), mean (...), rstd (...). The variance divides by C.
    """
    mean = np.mean(x, axis=-1, keepdims=True)
    rstd = 1.0 / np.sqrt(np.mean(np.square(x - mean), axis=-1, keepdims=True) + eps)
    y = (x - mean) * rstd * weight
    return y if bias is None else y + bias, mean[..., 0], rstd[..., 0]


def layer_norm_backward(
    dy: ndarray, x: ndarray, weight: ndarray, mean: ndarray, rstd: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """With x̂ = (x - mean) rstd and g = dy weight:   dx = rstd (g - mean(g) - x̂ mean(g x̂))

    dweight = Σ dy x̂,   dbias = Σ dy over all rows.
    """
    normal = (x - mean[..., None]) * rstd[..., None]
    g = dy * weight
    along_normal = np.mean(g * normal, axis=-1, keepdims=True)
    dx = rstd[..., None] * (g - np.mean(g, axis=-1, keepdims=True) - normal * along_normal)
    return dx, _sum_rows(dy * normal), _sum_rows(dy)


def rms_norm_forward(x: ndarray, weight: ndarray, eps: float) -> tuple[ndarray, ndarray]:
    """y = weight x rstd,   rstd = 1 / √(mean(x²) + eps)      (Zhang & Sennrich 2019, eq. 4)"""
    rstd = 1.0 / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + eps)
    return x * rstd * weight, rstd[..., 0]


def rms_norm_backward(dy: ndarray, x: ndarray, weight: ndarray, rstd: ndarray) -> tuple[ndarray, ndarray]:
    """With x̂ = x rstd and g = dy weight:   dx = rstd (g - x̂ mean(g x̂)),   dweight = Σ dy x̂"""
    normal = x * rstd[..., None]
    g = dy * weight
    dx = rstd[..., None] * (g - normal * np.mean(g * normal, axis=-1, keepdims=True))
    return dx, _sum_rows(dy * normal)


def _sum_rows(x: ndarray) -> ndarray:
    """Sum over all axes but the last: a weight shared by every row gathers the gradient of every row."""
    return np.sum(x, axis=tuple(range(x.ndim - 1)))
