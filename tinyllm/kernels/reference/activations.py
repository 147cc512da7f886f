"""The activation functions in plain NumPy, each with its slope."""

import math

import numpy as np
from numpy import ndarray

_erf_of_number = np.vectorize(math.erf, otypes=[np.float64])


def gelu_tanh_forward(x: ndarray) -> ndarray:
    """y = ½ x (1 + tanh u) = x σ(2u),   u = √(2/π) (x + 0.044715 x³)

    As in GPT-2 (Hendrycks & Gimpel 2016, §2). The second form keeps its digits where 1 + tanh u would lose them.
    """
    return x * _sigmoid(_gelu_angle(x)[0])


def gelu_tanh_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy (s + x s (1 - s) 2u'),   s = σ(2u)"""
    angle, slope = _gelu_angle(x)
    s = _sigmoid(angle)
    return dy * (s + np.clip(x, -1000.0, 1000.0) * s * (1.0 - s) * slope)


def _gelu_angle(x: ndarray) -> tuple[ndarray, ndarray]:
    """2u and its derivative by x. Beyond |x| = 1000 σ(2u) is 0 or 1 in any precision; without the limit x³ overflows."""
    x = np.clip(x, -1000.0, 1000.0)
    scale = 2.0 * math.sqrt(2.0 / math.pi)
    return scale * (x + 0.044715 * x * x * x), scale * (1.0 + 3 * 0.044715 * x * x)


def gelu_erf_forward(x: ndarray) -> ndarray:
    """y = x Φ(x) = ½ x (1 + erf(x / √2))      the exact form, with Φ the normal distribution function"""
    return x * _normal_distribution(x)


def gelu_erf_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy (Φ(x) + x φ(x)),   φ(x) = exp(-x²/2) / √(2π)"""
    density = np.exp(-0.5 * np.square(np.clip(x, -1000.0, 1000.0))) / math.sqrt(2.0 * math.pi)
    return dy * (_normal_distribution(x) + np.clip(x, -1000.0, 1000.0) * density)


def _normal_distribution(x: ndarray) -> ndarray:
    """Φ(x), computed in float64 because 1 + erf loses every digit in the left tail."""
    return (0.5 * (1.0 + _erf_of_number(np.asarray(x, np.float64) * math.sqrt(0.5)))).astype(x.dtype)


def silu_forward(x: ndarray) -> ndarray:
    """y = x σ(x),   σ(x) = 1 / (1 + exp(-x))      also called swish"""
    return x * _sigmoid(x)


def silu_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy σ(x) (1 + x (1 - σ(x)))"""
    s = _sigmoid(x)
    return dy * s * (1.0 + np.clip(x, -1000.0, 1000.0) * (1.0 - s))


def _sigmoid(x: ndarray) -> ndarray:
    """1 / (1 + exp(-x)) with exp only of negative numbers, so that it cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)
