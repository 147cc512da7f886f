"""Attention in plain NumPy: all scores at once, then a weighted mean."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy import ndarray

from tinyllm.kernels.attention.visibility import Visibility
from tinyllm.kernels.reference.softmax import hide, shifted_exp


def attention_forward(
    query: ndarray, key: ndarray, value: ndarray, *, scale: float, visible: Visibility
) -> tuple[ndarray, ndarray]:
    """out = softmax(scale · query keyᵀ) value, head by head      (Vaswani et al. 2017, eq. 1)

    query (B, T, H, D), key and value (B, S, G, D) -> out (B, T, H, D), log_normalizer (B, H, T).
    Head h reads key/value head h // (H // G). A query that may see nothing gets zeros and log_normalizer -inf.
    """
    if visible.sequences is not None:
        out, log_normalizer = np.empty(query.shape, query.dtype), np.empty((1, query.shape[2], query.shape[1]), query.dtype)
        for t, s, alone in _sequences(visible):
            one = attention_forward(query[:, t], key[:, s], value[:, s], scale=scale, visible=alone)
            out[:, t], log_normalizer[:, :, t] = one
        return out, log_normalizer
    scores, seen = _attention_scores(query, key, scale, visible)
    e, total, largest = shifted_exp(scores, seen)
    probability = e / np.where(total == 0, 1.0, total).astype(query.dtype)
    with np.errstate(divide="ignore"):
        log_normalizer = (np.log(total) + largest)[..., 0]
    out = probability @ _heads_first(value, query.shape[2])
    return np.ascontiguousarray(out.transpose(0, 2, 1, 3)), log_normalizer


def attention_backward(
    dout: ndarray, query: ndarray, key: ndarray, value: ndarray, out: ndarray, log_normalizer: ndarray, *,
    scale: float, visible: Visibility, grads: tuple[ndarray, ndarray, ndarray] | None = None,
) -> tuple[ndarray, ndarray, ndarray]:  # fmt: skip
    """With P the probabilities and dP = dout valueᵀ:

    dvalue = Pᵀ dout,   dS = P (dP - Σ dout · out),   dquery = scale dS key,   dkey = scale dSᵀ query.
    Heads that share a key/value head add their gradients. Writes into `grads` (three arrays) if given.
    """
    if visible.sequences is not None:
        grads = grads or (np.empty(query.shape, query.dtype), np.empty(key.shape, key.dtype), np.empty(key.shape, key.dtype))
        for gradient in grads:
            gradient[...] = 0
        for t, s, alone in _sequences(visible):
            one = dout[:, t], query[:, t], key[:, s], value[:, s], out[:, t], log_normalizer[:, :, t]
            attention_backward(*one, scale=scale, visible=alone, grads=(grads[0][:, t], grads[1][:, s], grads[2][:, s]))
        return grads
    n_heads, n_groups = query.shape[2], key.shape[2]
    scores, seen = _attention_scores(query, key, scale, visible)
    shift = np.where(np.isneginf(log_normalizer), 0.0, log_normalizer)[..., None].astype(query.dtype)
    probability = np.exp(hide(scores, seen) - shift)
    dout_, query_ = dout.transpose(0, 2, 1, 3), query.transpose(0, 2, 1, 3)
    dprobability = dout_ @ _heads_first(value, n_heads).swapaxes(-1, -2)
    dscores = probability * (dprobability - np.sum(dout_ * out.transpose(0, 2, 1, 3), axis=-1, keepdims=True))
    dquery = (scale * (dscores @ _heads_first(key, n_heads))).transpose(0, 2, 1, 3)
    dkey = _add_groups(scale * (dscores.swapaxes(-1, -2) @ query_), n_groups)
    dvalue = _add_groups(probability.swapaxes(-1, -2) @ dout_, n_groups)
    if grads is None:
        return np.ascontiguousarray(dquery), np.ascontiguousarray(dkey), np.ascontiguousarray(dvalue)
    for array, gradient in zip(grads, (dquery, dkey, dvalue), strict=True):
        array[...] = gradient
    return grads


def _sequences(visible: Visibility) -> Iterator[tuple[slice, slice, Visibility]]:
    """Where each sequence has its queries and its keys, and who sees whom in it."""
    assert visible.sequences is not None
    for b, (t, n, s, m) in enumerate(visible.sequences.tolist()):
        prefix = None if visible.prefix is None else visible.prefix[b : b + 1]
        yield slice(t, t + n), slice(s, s + m), replace(visible, sequences=None, prefix=prefix)


def _attention_scores(query: ndarray, key: ndarray, scale: float, visible: Visibility) -> tuple[ndarray, ndarray]:
    """scale · query keyᵀ (B, H, T, S), and which of them may be looked at (broadcastable to the same shape)."""
    keys = _heads_first(key, query.shape[2])
    scores = (query.transpose(0, 2, 1, 3) @ keys.swapaxes(-1, -2)) * scale
    return scores, visible.mask(query.shape[1], key.shape[1])[:, None]


def _heads_first(x: ndarray, n_heads: int) -> ndarray:
    """(B, S, G, D) -> (B, H, S, D), each of the G heads repeated for the H / G query heads that read it."""
    return np.repeat(x, n_heads // max(x.shape[2], 1), axis=2).transpose(0, 2, 1, 3)


def _add_groups(x: ndarray, n_groups: int) -> ndarray:
    """(B, H, S, D) -> (B, S, G, D): the gradients of the query heads that read one key/value head are added."""
    batch, n_heads, n_keys, width = x.shape
    grouped = x.reshape(batch, n_groups, n_heads // max(n_groups, 1), n_keys, width)
    return np.sum(grouped, axis=2).transpose(0, 2, 1, 3)
