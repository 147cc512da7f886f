"""Attention written out, in plain NumPy: read this first, then `attention.py`, which does the same without ever storing P.

    P = softmax(Q Kᵀ / √D)        out = P V                                    Vaswani et al. 2017, eq. 1

Row t of P says how position t of the text shares its attention among all positions s; its numbers add up to 1, and `out` is
the mean of the values so weighted. The causal mask and its relatives are
drawn in `kernels/attention/visibility.py`. Any mask (T, S) can be had this way, at the price of B·H·T·S numbers of memory.
"""

import math

import numpy as np


def attend(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, *, mask: np.ndarray | None = None, bias: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """query (B, T, H, D), key and value (B, S, H, D) -> out (B, T, H, D) and P (B, H, T, S).

    mask  bool, (T, S) or broadcastable to (B, H, T, S), True = may be seen; who sees nothing gets zeros
    bias  added to the scores, broadcastable to them
    """
    q, k, v = (x.swapaxes(1, 2) for x in (query, key, value))  # (B, H, T, D), (B, H, S, D), (B, H, S, D)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)  # exp(-inf) = 0: no share
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-1e30))  # the largest is 1: nothing overflows
    total = shares.sum(axis=-1, keepdims=True)
    P = shares / np.where(total == 0, 1, total).astype(shares.dtype)
    return (P @ v).swapaxes(1, 2), P


def attend_backward(dout: np.ndarray, inputs: tuple[np.ndarray, np.ndarray, np.ndarray], P: np.ndarray) -> tuple:
    """The gradients of the inputs (query, key, value) and of the scores: the chain rule through P V, the softmax and Q Kᵀ."""
    q, k, v, do = (x.swapaxes(1, 2) for x in (*inputs, dout))
    dv = P.swapaxes(-1, -2) @ do
    dP = do @ v.swapaxes(-1, -2)
    dscores = P * (dP - (P * dP).sum(axis=-1, keepdims=True))
    scaled = dscores / math.sqrt(q.shape[-1])
    dq, dk = scaled @ k, scaled.swapaxes(-1, -2) @ q
    return dq.swapaxes(1, 2), dk.swapaxes(1, 2), dv.swapaxes(1, 2), dscores
