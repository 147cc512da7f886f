"""Cross-entropy: how surprised the model is by the right token, in nats.

    nllₙ = log Σₙ - (logitsₙ[targetₙ] - mₙ),   mₙ = maxᵥ logitsₙᵥ,   Σₙ = Σᵥ exp(logitsₙᵥ - mₙ)
    dlogitsₙᵥ = dnllₙ (exp(logitsₙᵥ - mₙ) / Σₙ - [v = targetₙ])
Fused with softmax: probabilities (N, V) are the largest array of a training step and are never stored; the backward makes
them again from m and Σ. The largest logit is taken out before exp, so nothing overflows. Both numbers are kept, not their
sum m + log Σ: with logits around 10,000 it would have no decimals left. A nan among the logits makes nll nan: the training
loop must see it. Rows with dnll = 0 (not counted in the loss) are zeros, whatever their logits are.
"""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows
from tinyllm.kernels.simd_math import exp, largest, log, minus

SERIAL = 8192  # numbers; fewer are not worth waking another core


@inlined
def _forward_row(logits, target):
    m = largest(logits)
    if m == -np.inf:
        m = logits.dtype.type(0)
    total = logits.dtype.type(0)
    for j in range(logits.size):
        total += exp(logits[j] - m)
    log_total = log(total)
    # (logit - max) before the logarithm: with logits around 1e6 the other order has no decimals left.
    return minus(log_total, minus(logits[target], m)), m, total


@inlined
def _backward_row(dnll, logits, target, normalizer, dlogits):
    if dnll == 0:
        for j in range(logits.size):
            dlogits[j] = 0
        return
    m, factor = normalizer[0], dnll / normalizer[1]
    for j in range(logits.size):
        dlogits[j] = factor * exp(logits[j] - m)
    dlogits[target] -= dnll


@jit(parallel=True)
def _forward(logits, targets, nll, normalizer):
    if logits.size <= SERIAL:
        for i in range(logits.shape[0]):
            nll[i], normalizer[i, 0], normalizer[i, 1] = _forward_row(logits[i], targets[i])
    else:
        for i in prange(logits.shape[0]):
            nll[i], normalizer[i, 0], normalizer[i, 1] = _forward_row(logits[i], targets[i])


@inlined
def _backward_row_in_place(dnll, logits, target, normalizer):
    """The same with one name for both: told of two arrays that overlap, the compiler would work number by number."""
    m, factor = normalizer[0], dnll / normalizer[1]
    for j in range(logits.size):
        logits[j] = factor * exp(logits[j] - m) if dnll != 0 else 0
    logits[target] -= dnll


@jit(parallel=True)
def _backward(dnll, logits, targets, normalizer, dlogits):
    """dlogits (0, 0): in place of the logits."""
    if dlogits.size == 0:
        for i in prange(logits.shape[0]):
            _backward_row_in_place(dnll[i], logits[i], targets[i], normalizer[i])
    elif logits.size <= SERIAL:
        for i in range(logits.shape[0]):
            _backward_row(dnll[i], logits[i], targets[i], normalizer[i], dlogits[i])
    else:
        for i in prange(logits.shape[0]):
            _backward_row(dnll[i], logits[i], targets[i], normalizer[i], dlogits[i])


def _line(x: ndarray, dtype: np.dtype | type) -> ndarray:
    """x (N,) as one contiguous, writeable line of `dtype`."""
    return rows(np.asarray(x, dtype).reshape(1, -1))[0]


def cross_entropy_forward(logits: ndarray, targets: ndarray) -> tuple[ndarray, ndarray]:
    """logits (N, V), targets (N,) integers in [0, V) -> nll (N,) in nats, normalizer (N, 2): each row's m and Σ."""
    nll, normalizer = np.empty(len(targets), logits.dtype), np.empty((len(targets), 2), logits.dtype)
    _forward(rows(logits), _line(targets, np.int64), nll, normalizer)
    return nll, normalizer


def cross_entropy_backward(
    dnll: ndarray, logits: ndarray, targets: ndarray, normalizer: ndarray, out: ndarray | None = None
) -> ndarray:
    """dnll (N,), what the forward was given and its normalizer (N, 2) -> dlogits (N, V).

    `out`, C-contiguous, if given, is written and returned; it may be `logits` itself.
    """
    dtype = logits.dtype
    dlogits = np.empty(logits.shape, dtype) if out is None else out
    separate = np.empty((0, 0), dtype) if out is logits else dlogits
    if dlogits.size:
        _backward(_line(dnll, dtype), rows(logits), _line(targets, np.int64), rows(np.asarray(normalizer, dtype)), separate)
    return dlogits
