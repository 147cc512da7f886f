"""Softmax and its logarithm over the last axis: scores become probabilities.

    yᵢ = exp(xᵢ - max x) / Σⱼ exp(xⱼ - max x)      dxᵢ = yᵢ (dyᵢ - Σⱼ dyⱼ yⱼ)
Subtracting the maximum changes nothing in the quotient and keeps exp from overflowing. A row is short enough to stay in
the cache, so it is read three times there and once from memory. Masked places act like x = -inf: they get 0 (logarithm:
-inf), and a row in which nothing counts gets zeros instead of 0/0.
"""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows
from tinyllm.kernels.simd_math import exp, largest, log, minus

SERIAL = 8192  # numbers; fewer are not worth waking another core
NO_MASK = np.zeros((0, 0), np.bool_)
NO_ROWS = np.zeros(0, np.int64)


@inlined
def _copy_shown(i, x, mask, mask_row, y):
    """y[i] = x[i] where the mask counts, else -inf. Rows of the mask have the length of x's, or 1; no rows is no mask."""
    source, target, hidden = x[i], y[i], x.dtype.type(-np.inf)
    if mask.shape[0] == 0 or (mask.shape[1] == 1 and mask[mask_row[i], 0]):
        for j in range(source.size):
            target[j] = source[j]
    elif mask.shape[1] == 1:
        for j in range(source.size):
            target[j] = hidden
    else:
        shown = mask[mask_row[i]]
        for j in range(source.size):
            v = source[j]  # read in any case, so that there is a choice of two values and no branch
            target[j] = v if shown[j] else hidden


@inlined
def _finite_largest(y):
    m = largest(y)
    return y.dtype.type(0) if m == -np.inf else m  # a row of -inf: exp(-inf - 0) = 0, where -inf + inf would be nan


# In place: with one array there is no second one that it could overlap, and the loops vectorise.


@inlined
def _softmax_row(y):
    m = _finite_largest(y)
    total = y.dtype.type(0)
    for j in range(y.size):
        e = exp(y[j] - m)
        y[j] = e
        total += e
    factor = y.dtype.type(1) / (y.dtype.type(1) if total == 0 else total)
    for j in range(y.size):
        y[j] *= factor


@inlined
def _log_softmax_row(y):
    m = _finite_largest(y)
    total = y.dtype.type(0)
    for j in range(y.size):
        total += exp(y[j] - m)
    log_total = log(y.dtype.type(1) if total == 0 else total)
    for j in range(y.size):
        y[j] = minus(minus(y[j], m), log_total)  # the large numbers first


@inlined
def _softmax_backward_row(dy, y, dx):
    along = y.dtype.type(0)
    for j in range(y.size):
        along += dy[j] * y[j]
    for j in range(y.size):
        dx[j] = y[j] * (dy[j] - along)


@inlined
def _log_softmax_backward_row(dy, y, dx):
    total, nothing = y.dtype.type(0), y.dtype.type(0)
    for j in range(y.size):
        total += nothing if y[j] == -np.inf else dy[j]
    for j in range(y.size):
        dx[j] = nothing if y[j] == -np.inf else dy[j] - exp(y[j]) * total


@jit(parallel=True)
def _softmax_forward(x, mask, mask_row, y):
    if x.size <= SERIAL:
        for i in range(x.shape[0]):
            _copy_shown(i, x, mask, mask_row, y)
            _softmax_row(y[i])
    else:
        for i in prange(x.shape[0]):
            _copy_shown(np.int64(i), x, mask, mask_row, y)
            _softmax_row(y[i])


@jit(parallel=True)
def _log_softmax_forward(x, mask, mask_row, y):
    if x.size <= SERIAL:
        for i in range(x.shape[0]):
            _copy_shown(i, x, mask, mask_row, y)
            _log_softmax_row(y[i])
    else:
        for i in prange(x.shape[0]):
            _copy_shown(np.int64(i), x, mask, mask_row, y)
            _log_softmax_row(y[i])


@jit(parallel=True)
def _softmax_backward(dy, y, dx):
    if y.size <= SERIAL:
        for i in range(y.shape[0]):
            _softmax_backward_row(dy[i], y[i], dx[i])
    else:
        for i in prange(y.shape[0]):
            _softmax_backward_row(dy[i], y[i], dx[i])


@jit(parallel=True)
def _log_softmax_backward(dy, y, dx):
    if y.size <= SERIAL:
        for i in range(y.shape[0]):
            _log_softmax_backward_row(dy[i], y[i], dx[i])
    else:
        for i in prange(y.shape[0]):
            _log_softmax_backward_row(dy[i], y[i], dx[i])


def _mask_rows(mask: ndarray | None, x: ndarray) -> tuple[ndarray, ndarray]:
    """The mask's own rows, and for each row of x which of them to use: a broadcast mask is not written out."""
    if mask is None:
        return NO_MASK, NO_ROWS
    mask = np.asarray(mask, np.bool_)
    mask = mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
    own = rows(mask)
    which = np.arange(own.shape[0]).reshape(mask.shape[:-1])
    return own, np.array(np.broadcast_to(which, x.shape[:-1]), order="C").reshape(-1)  # never a read-only view, another type


def _forward(kernel, x: ndarray, mask: ndarray | None) -> ndarray:
    y = np.empty(x.shape, x.dtype)
    if x.size:
        kernel(rows(x), *_mask_rows(mask, x), rows(y))
    return y


def _backward(kernel, dy: ndarray, y: ndarray) -> ndarray:
    dx = np.empty(y.shape, y.dtype)
    kernel(rows(dy), rows(y), rows(dx))
    return dx


def softmax_forward(x: ndarray, mask: ndarray | None = None) -> ndarray:
    """Probabilities over the last axis of x (..., C). mask: bool, broadcastable to x, True counts."""
    return _forward(_softmax_forward, x, mask)


def softmax_backward(dy: ndarray, y: ndarray) -> ndarray:
    """dxᵢ = yᵢ (dyᵢ - Σⱼ dyⱼ yⱼ), from the probabilities y (..., C)."""
    return _backward(_softmax_backward, dy, y)


def log_softmax_forward(x: ndarray, mask: ndarray | None = None) -> ndarray:
    """Logarithms of the probabilities over the last axis of x (..., C), -inf where masked."""
    return _forward(_log_softmax_forward, x, mask)


def log_softmax_backward(dy: ndarray, y: ndarray) -> ndarray:
    """dxᵢ = dyᵢ - exp(yᵢ) Σⱼ dyⱼ, from y (..., C); 0 where y is -inf."""
    return _backward(_log_softmax_backward, dy, y)
