"""Attention written out, in plain NumPy: read this first, then `attention.py`, which does the same without ever storing P.

    P = softmax(Q Kᵀ / √D)        out = P V                                    Vaswani et al. 2017, eq. 1

Row t of P says how position t of the text shares its attention among all positions s; its numbers add up to 1, and `out` is
the mean of the values so weighted. Any mask (T, S) can be had this way, at the price of B·H·T·S numbers of memory.
"""

import math

import numpy as np


def attend(query: np.ndarray, key: np.ndarray, value: np.ndarray, *, mask: np.ndarray | None = None) -> tuple:
    """query (B, T, H, D), key and value (B, S, H, D) -> out (B, T, H, D) and P (B, H, T, S).

    mask  bool, (T, S) or broadcastable to (B, H, T, S), True = may be seen; who sees nothing gets zeros
    """
    q, k, v = (x.swapaxes(1, 2) for x in (query, key, value))  # (B, H, T, D), (B, H, S, D), (B, H, S, D)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)  # exp(-inf) = 0: no share
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-1e30))  # the largest is 1: nothing overflows
    total = shares.sum(axis=-1, keepdims=True)
    P = shares / np.where(total == 0, 1, total).astype(shares.dtype)
    return (P @ v).swapaxes(1, 2), P


def attend_backward(dout: np.ndarray, inputs: tuple[np.ndarray, np.ndarray, np.ndarray], P: np.ndarray) -> tuple:
    """The gradients of the inputs (query, key, value): the chain rule through P V, the softmax and Q Kᵀ."""
    q, k, v, do = (x.swapaxes(1, 2) for x in (*inputs, dout))
    dv = P.swapaxes(-1, -2) @ do
    dP = do @ v.swapaxes(-1, -2)
    dscores = P * (dP - (P * dP).sum(axis=-1, keepdims=True)) / math.sqrt(q.shape[-1])
    dq, dk = dscores @ k, dscores.swapaxes(-1, -2) @ q
    return dq.swapaxes(1, 2), dk.swapaxes(1, 2), dv.swapaxes(1, 2)


def causal_mask(n_queries: int, n_keys: int) -> np.ndarray:
    """(T, S) bool: query t sees keys s <= t + S - T, that is, nothing that comes later in the text. T = 3, S = 5:

        s 0 1 2 3 4
    t 0   1 1 1 . .        position 2 of the text
    t 1   1 1 1 1 .
    t 2   1 1 1 1 1
    """
    return np.arange(n_keys) <= np.arange(n_queries)[:, None] + (n_keys - n_queries)
