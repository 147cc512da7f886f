"""The activation functions: one number in, one number out, so a kernel is one loop over memory.

    gelu_tanh   y = ½ x (1 + tanh u) = x σ(2u),   u = √(2/π) (x + 0.044715 x³)     (Hendrycks & Gimpel 2016, §2)
    gelu_erf    y = x Φ(x),   Φ(x) = ½ (1 + erf(x / √2))                            (the same paper, eq. 1)
    silu        y = x σ(x)                                                          (Elfwing et al. 2017, eq. 1)
Each has a scalar function for the value, one for the slope, and two loops. Vector code comes from simd_math.py. Below
SERIAL numbers a loop stays on one core, where waking the others would cost more than they save.
"""

import math

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows
from tinyllm.kernels.simd_math import erf, exp, sigmoid

SERIAL = 16384
# Beyond ±1000 σ and Φ are 0 or 1 in any precision, and their slope is 0: the limit only keeps powers of x from overflowing.
LIMIT = 1000.0


@inlined
def _limited(x):
    high = type(x)(LIMIT)
    x = high if x > high else x  # nan fails both comparisons and goes through
    return -high if x < -high else x


@inlined
def gelu_tanh(x):
    """x σ(2u)."""
    c, cubic, z = type(x)(2.0 * math.sqrt(2.0 / math.pi)), type(x)(0.044715), _limited(x)
    return x * sigmoid(c * (z + cubic * z * z * z))


@inlined
def gelu_tanh_slope(x):
    """Its derivative by x."""
    return gelu_tanh_both(x)[1]


@inlined
def gelu_tanh_both(x):
    """Value and slope, for little more than the price of one."""
    one, c, cubic, z = type(x)(1.0), type(x)(2.0 * math.sqrt(2.0 / math.pi)), type(x)(0.044715), _limited(x)
    s = sigmoid(c * (z + cubic * z * z * z))
    return x * s, s + z * s * (one - s) * c * (one + type(x)(3.0) * cubic * z * z)


@inlined
def gelu_erf(x):
    """x Φ(x)."""
    half, root_half = type(x)(0.5), type(x)(math.sqrt(0.5))
    return x * (half + half * erf(x * root_half))


@inlined
def gelu_erf_slope(x):
    """Its derivative by x."""
    half, root_half, z = type(x)(0.5), type(x)(math.sqrt(0.5)), _limited(x)
    density = type(x)(1.0 / math.sqrt(2.0 * math.pi)) * exp(-half * z * z)
    return half + half * erf(x * root_half) + z * density


@inlined
def silu(x):
    """x σ(x)."""
    return x * sigmoid(x)


@inlined
def silu_slope(x):
    """Its derivative by x."""
    one, s = type(x)(1.0), sigmoid(x)
    return s * (one + _limited(x) * (one - s))


# The six loops differ in one word. They are written out because Numba finds code on disk by the source of one function.


@jit(parallel=True)
def _gelu_tanh_forward(x, y):
    if x.size <= SERIAL:
        for i in range(x.size):
            y[i] = gelu_tanh(x[i])
    else:
        for i in prange(x.size):
            y[i] = gelu_tanh(x[i])


@jit(parallel=True)
def _gelu_tanh_backward(dy, x, dx):
    if x.size <= SERIAL:
        for i in range(x.size):
            dx[i] = dy[i] * gelu_tanh_slope(x[i])
    else:
        for i in prange(x.size):
            dx[i] = dy[i] * gelu_tanh_slope(x[i])


@jit(parallel=True)
def _gelu_erf_forward(x, y):
    if x.size <= SERIAL:
        for i in range(x.size):
            y[i] = gelu_erf(x[i])
    else:
        for i in prange(x.size):
            y[i] = gelu_erf(x[i])


@jit(parallel=True)
def _gelu_erf_backward(dy, x, dx):
    if x.size <= SERIAL:
        for i in range(x.size):
            dx[i] = dy[i] * gelu_erf_slope(x[i])
    else:
        for i in prange(x.size):
            dx[i] = dy[i] * gelu_erf_slope(x[i])


@jit(parallel=True)
def _silu_forward(x, y):
    if x.size <= SERIAL:
        for i in range(x.size):
            y[i] = silu(x[i])
    else:
        for i in prange(x.size):
            y[i] = silu(x[i])


@jit(parallel=True)
def _silu_backward(dy, x, dx):
    if x.size <= SERIAL:
        for i in range(x.size):
            dx[i] = dy[i] * silu_slope(x[i])
    else:
        for i in prange(x.size):
            dx[i] = dy[i] * silu_slope(x[i])


def _flat(x: ndarray) -> ndarray:
    """x as one contiguous line; the same memory if it lies so already."""
    return rows(x.reshape(1, -1))[0]


def _forward(kernel, x: ndarray) -> ndarray:
    y = np.empty(x.shape, x.dtype)
    kernel(_flat(x), y.reshape(-1))
    return y


def _backward(kernel, dy: ndarray, x: ndarray) -> ndarray:
    dx = np.empty(x.shape, x.dtype)
    kernel(_flat(dy), _flat(x), dx.reshape(-1))
    return dx


def gelu_tanh_forward(x: ndarray) -> ndarray:
    """y = x σ(2u), any shape: GELU as GPT-2 computes it."""
    return _forward(_gelu_tanh_forward, x)


def gelu_tanh_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy (s + x s (1 - s) 2u'),   s = σ(2u)"""
    return _backward(_gelu_tanh_backward, dy, x)


def gelu_erf_forward(x: ndarray) -> ndarray:
    """y = x Φ(x), any shape: GELU as BERT computes it."""
    return _forward(_gelu_erf_forward, x)


def gelu_erf_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy (Φ(x) + x φ(x)),   φ the normal density"""
    return _backward(_gelu_erf_backward, dy, x)


def silu_forward(x: ndarray) -> ndarray:
    """y = x σ(x), any shape: the gate of Llama's feed-forward layer."""
    return _forward(_silu_forward, x)


def silu_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy σ(x) (1 + x (1 - σ(x)))"""
    return _backward(_silu_backward, dy, x)
