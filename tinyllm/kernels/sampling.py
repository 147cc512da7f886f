"""Drawing a token from each row of logits: p(i) = exp(xᵢ) / Σⱼ exp(xⱼ), by inverting the cumulative distribution.

For a number u, uniform in [0, 1), the token drawn is the first at which p(0) + p(1) + ... exceeds u. Adding up V numbers one
after the other cannot be vectorised, so the row is taken in two strides: the sums of its blocks of 64, to find the block, then
the tokens in it.
"""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows
from tinyllm.kernels.simd_math import exp, largest, log

BLOCK = 64  # tokens that are added up at once
SERIAL = 16384  # numbers; fewer are not worth waking another core


@inlined
def _sample_row(x, uniform, weights, ends):
    """The token drawn, and its log-probability. weights (V,), ends (blocks,): room."""
    most, total = largest(x), 0.0
    for j in range(x.size):
        weights[j] = exp(x[j] - most)
    for block in range(ends.size):
        part = x.dtype.type(0)
        for j in range(block * BLOCK, min((block + 1) * BLOCK, x.size)):
            part += weights[j]
        total += part
        ends[block] = total
    target, block = uniform * total, 0
    while block < ends.size - 1 and ends[block] <= target:
        block += 1
    so_far, token = ends[block - 1] if block else 0.0, -1
    for j in range(block * BLOCK, min((block + 1) * BLOCK, x.size)):
        if weights[j] > 0:  # rounding may leave a target that no sum in the block exceeds: then the last one it is
            token = j
            so_far += weights[j]
            if so_far > target:
                break
    return token, x[token] - most - log(x.dtype.type(total))


@jit(parallel=True)
def _sample(x, uniform, weights, ends, tokens, log_probs):
    if x.size <= SERIAL:
        for i in range(x.shape[0]):
            tokens[i], log_probs[i] = _sample_row(x[i], uniform[i], weights[i], ends[i])
    else:
        for i in prange(x.shape[0]):
            tokens[i], log_probs[i] = _sample_row(x[i], uniform[i], weights[i], ends[i])


def sample_rows(logits: ndarray, uniform: ndarray) -> tuple[ndarray, ndarray]:
    """logits (N, V) of which some may be -inf, uniform (N,) in [0, 1) -> tokens (N,) int64, their log-probabilities (N,)."""
    x = rows(logits)
    ends = np.empty((len(x), -(-x.shape[1] // BLOCK)))
    tokens, log_probs = np.empty(len(x), np.int64), np.empty(len(x), x.dtype)
    _sample(x, np.asarray(uniform, np.float64), np.empty_like(x), ends, tokens, log_probs)
    return tokens, log_probs
