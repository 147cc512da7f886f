"""Layer norm and RMS norm: each row is brought to a fixed size, so that depth neither blows activations up nor fades them.

    layer norm   y = weight (x - mean) rstd + bias,   rstd = 1 / √(var + eps)      (Ba et al. 2016, eq. 4)
    RMS norm     y = weight x rstd,                   rstd = 1 / √(mean(x²) + eps)  (Zhang & Sennrich 2019, eq. 4)
The backward of the input is a matter of one row. The weight's gradient is a sum over all rows: they are dealt out to a number
of chunks that depends on the shape alone, each chunk adds up its own rows, and the chunks are added in order; therefore one
thread and sixteen give the same bits. The loops are short and touch few arrays each, or LLVM will not vectorise them.
"""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows

SERIAL = 16384  # numbers; fewer are not worth waking another core
MOST_CHUNKS = 32


@inlined
def layer_norm_row(x, weight, bias, eps, y):
    """Write y, return the row's mean and rstd. A bias of length 0 is no bias."""
    dtype = x.dtype.type
    total, square = dtype(0), dtype(0)
    for j in range(x.size):
        total += x[j]
    mean = total / dtype(x.size)
    for j in range(x.size):
        square += (x[j] - mean) * (x[j] - mean)
    rstd = dtype(1) / np.sqrt(square / dtype(x.size) + dtype(eps))
    if bias.size:
        for j in range(x.size):
            y[j] = (x[j] - mean) * rstd * weight[j] + bias[j]
    else:
        for j in range(x.size):
            y[j] = (x[j] - mean) * rstd * weight[j]
    return mean, rstd


@inlined
def rms_norm_row(x, weight, eps, y):
    """Write y, return the row's rstd."""
    dtype = x.dtype.type
    square = dtype(0)
    for j in range(x.size):
        square += x[j] * x[j]
    rstd = dtype(1) / np.sqrt(square / dtype(x.size) + dtype(eps))
    for j in range(x.size):
        y[j] = x[j] * rstd * weight[j]
    return rstd


@inlined
def _layer_norm_backward_row(dy, x, weight, mean, rstd, dx, dweight, dbias):
    """Write dx; add this row's part to dweight and dbias."""
    dtype = x.dtype.type
    total, along = dtype(0), dtype(0)
    for j in range(x.size):
        g = dy[j] * weight[j]
        total += g
        along += g * (x[j] - mean)
    total, along = total / dtype(x.size), along * rstd / dtype(x.size)
    for j in range(x.size):
        dx[j] = rstd * (dy[j] * weight[j] - total - (x[j] - mean) * rstd * along)
    for j in range(x.size):
        dweight[j] += dy[j] * ((x[j] - mean) * rstd)
    for j in range(x.size):
        dbias[j] += dy[j]


@inlined
def _rms_norm_backward_row(dy, x, weight, rstd, dx, dweight):
    """Write dx; add this row's part to dweight."""
    dtype = x.dtype.type
    along = dtype(0)
    for j in range(x.size):
        along += dy[j] * weight[j] * x[j]
    along = along * rstd / dtype(x.size)
    for j in range(x.size):
        dx[j] = rstd * (dy[j] * weight[j] - x[j] * rstd * along)
    for j in range(x.size):
        dweight[j] += dy[j] * (x[j] * rstd)


@jit(parallel=True)
def _layer_norm_forward(x, weight, bias, eps, y, mean, rstd):
    if x.size <= SERIAL:
        for i in range(x.shape[0]):
            mean[i], rstd[i] = layer_norm_row(x[i], weight, bias, eps, y[i])
    else:
        for i in prange(x.shape[0]):
            mean[i], rstd[i] = layer_norm_row(x[i], weight, bias, eps, y[i])


@jit(parallel=True)
def _rms_norm_forward(x, weight, eps, y, rstd):
    if x.size <= SERIAL:
        for i in range(x.shape[0]):
            rstd[i] = rms_norm_row(x[i], weight, eps, y[i])
    else:
        for i in prange(x.shape[0]):
            rstd[i] = rms_norm_row(x[i], weight, eps, y[i])


@inlined
def _layer_norm_backward_chunk(chunk, dy, x, weight, mean, rstd, dx, dweights, dbiases):
    n, chunks = x.shape[0], dweights.shape[0]
    for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
        _layer_norm_backward_row(dy[i], x[i], weight, mean[i], rstd[i], dx[i], dweights[chunk], dbiases[chunk])


@jit(parallel=True)
def _layer_norm_backward(dy, x, weight, mean, rstd, dx, dweights, dbiases):
    if dweights.shape[0] == 1:
        _layer_norm_backward_chunk(0, dy, x, weight, mean, rstd, dx, dweights, dbiases)
    else:
        for chunk in prange(dweights.shape[0]):
            _layer_norm_backward_chunk(np.int64(chunk), dy, x, weight, mean, rstd, dx, dweights, dbiases)


@inlined
def _rms_norm_backward_chunk(chunk, dy, x, weight, rstd, dx, dweights):
    n, chunks = x.shape[0], dweights.shape[0]
    for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
        _rms_norm_backward_row(dy[i], x[i], weight, rstd[i], dx[i], dweights[chunk])


@jit(parallel=True)
def _rms_norm_backward(dy, x, weight, rstd, dx, dweights):
    if dweights.shape[0] == 1:
        _rms_norm_backward_chunk(0, dy, x, weight, rstd, dx, dweights)
    else:
        for chunk in prange(dweights.shape[0]):
            _rms_norm_backward_chunk(np.int64(chunk), dy, x, weight, rstd, dx, dweights)


def _line(x: ndarray) -> ndarray:
    return rows(x.reshape(1, -1))[0]


def _partial_sums(x: ndarray, n: int) -> ndarray:
    """(n, chunks, C) zeros: at least 8 rows and SERIAL / 2 numbers a chunk, whatever the number of threads."""
    chunks = min(MOST_CHUNKS, x.shape[0] // 8, x.size // (SERIAL // 2))
    return np.zeros((n, max(chunks, 1), x.shape[1]), x.dtype)


def layer_norm_forward(x: ndarray, weight: ndarray, bias: ndarray | None, eps: float) -> tuple[ndarray, ndarray, ndarray]:
    """x (..., C), weight and bias (C,) -> y (..., C), mean (...), rstd (...)."""
    y = np.empty(x.shape, x.dtype)
    mean, rstd = np.empty(x.shape[:-1], x.dtype), np.empty(x.shape[:-1], x.dtype)
    bias = _line(bias) if bias is not None else np.empty(0, x.dtype)
    _layer_norm_forward(rows(x), _line(weight), bias, float(eps), rows(y), mean.reshape(-1), rstd.reshape(-1))
    return y, mean, rstd


def layer_norm_backward(
    dy: ndarray, x: ndarray, weight: ndarray, mean: ndarray, rstd: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """With x̂ = (x - mean) rstd and g = dy weight:   dx = rstd (g - mean(g) - x̂ mean(g x̂)); dweight (C,); dbias (C,)."""
    dx, x = np.empty(x.shape, x.dtype), rows(x)
    sums = _partial_sums(x, 2)
    _layer_norm_backward(rows(dy), x, _line(weight), _line(mean), _line(rstd), rows(dx), *sums)
    dweight, dbias = sums.sum(axis=1)
    return dx, dweight, dbias


def rms_norm_forward(x: ndarray, weight: ndarray, eps: float) -> tuple[ndarray, ndarray]:
    """x (..., C), weight (C,) -> y (..., C), rstd (...)."""
    y, rstd = np.empty(x.shape, x.dtype), np.empty(x.shape[:-1], x.dtype)
    _rms_norm_forward(rows(x), _line(weight), float(eps), rows(y), rstd.reshape(-1))
    return y, rstd


def rms_norm_backward(dy: ndarray, x: ndarray, weight: ndarray, rstd: ndarray) -> tuple[ndarray, ndarray]:
    """With x̂ = x rstd and g = dy weight:   dx = rstd (g - x̂ mean(g x̂)); dweight = Σ dy x̂ (C,)."""
    dx, x = np.empty(x.shape, x.dtype), rows(x)
    (dweights,) = _partial_sums(x, 1)
    _rms_norm_backward(rows(dy), x, _line(weight), _line(rstd), rows(dx), dweights)
    return dx, dweights.sum(axis=0)
