"""Attention in plain NumPy: all scores at once, then a weighted mean."""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.reference.softmax import hide, shifted_exp


def attention_forward(
    query: ndarray, key: ndarray, value: ndarray, *, scale: float, causal: bool,
    key_mask: ndarray | None = None, lengths: ndarray | None = None,
) -> tuple[ndarray, ndarray]:  # fmt: skip
    """out = softmax(scale · query keyᵀ) value, head by head      (Vaswani et al. 2017, eq. 1)

    query (B, T, H, D), key and value (B, S, G, D), key_mask (B, S) -> out (B, T, H, D), log_normalizer (B, H, T).
    Head h reads key/value head h // (H // G). Causal: query t sees keys s ≤ t + (S - T), so that the last query sees
    the last key. A query that may see nothing gets zeros and log_normalizer -inf.
    lengths (B, 2): the arrays hold B sequences end to end, (1, ...), with so many queries and keys; each is on its own.
    """
    if lengths is not None:
        out, log_normalizer = np.empty(query.shape, query.dtype), np.empty((1, query.shape[2], query.shape[1]), query.dtype)
        for t, s in _sequences(lengths):
            one = attention_forward(query[:, t], key[:, s], value[:, s], scale=scale, causal=causal)
            out[:, t], log_normalizer[:, :, t] = one
        return out, log_normalizer
    scores, seen = _attention_scores(query, key, scale, causal, key_mask)
    e, total, largest = shifted_exp(scores, seen)
    probability = e / np.where(total == 0, 1.0, total).astype(query.dtype)
    with np.errstate(divide="ignore"):
        log_normalizer = (np.log(total) + largest)[..., 0]
    out = probability @ _heads_first(value, query.shape[2])
    return np.ascontiguousarray(out.transpose(0, 2, 1, 3)), log_normalizer


def attention_backward(
    dout: ndarray, query: ndarray, key: ndarray, value: ndarray, out: ndarray, log_normalizer: ndarray, *,
    scale: float, causal: bool, key_mask: ndarray | None = None, lengths: ndarray | None = None,
    grads: tuple[ndarray, ndarray, ndarray] | None = None,
) -> tuple[ndarray, ndarray, ndarray]:  # fmt: skip
    """With P the probabilities and dP = dout valueᵀ:

    dvalue = Pᵀ dout,   dS = P (dP - Σ dout · out),   dquery = scale dS key,   dkey = scale dSᵀ query.
    Heads that share a key/value head add their gradients. Writes into `grads` (three arrays) if given.
    """
    if lengths is not None:
        grads = grads or (np.empty(query.shape, query.dtype), np.empty(key.shape, key.dtype), np.empty(key.shape, key.dtype))
        for t, s in _sequences(lengths):
            one = dout[:, t], query[:, t], key[:, s], value[:, s], out[:, t], log_normalizer[:, :, t]
            attention_backward(*one, scale=scale, causal=causal, grads=(grads[0][:, t], grads[1][:, s], grads[2][:, s]))
        return grads
    n_heads, n_groups = query.shape[2], key.shape[2]
    scores, seen = _attention_scores(query, key, scale, causal, key_mask)
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


def _sequences(lengths: ndarray) -> list[tuple[slice, slice]]:
    """Where each sequence of a ragged batch has its queries and its keys."""
    ends = np.cumsum(lengths, axis=0)
    return [(slice(t - n, t), slice(s - m, s)) for (t, s), (n, m) in zip(ends, lengths, strict=True)]


def _attention_scores(
    query: ndarray, key: ndarray, scale: float, causal: bool, key_mask: ndarray | None
) -> tuple[ndarray, ndarray]:
    """scale · query keyᵀ (B, H, T, S), and which of them may be looked at (broadcastable to the same shape)."""
    n_queries, n_keys = query.shape[1], key.shape[1]
    keys = _heads_first(key, query.shape[2])
    scores = (query.transpose(0, 2, 1, 3) @ keys.swapaxes(-1, -2)) * scale
    seen = np.ones((1, 1, n_queries, n_keys), bool)
    if causal:
        seen = seen & (np.arange(n_keys) <= np.arange(n_queries)[:, None] + (n_keys - n_queries))
    if key_mask is not None:
        seen = seen & key_mask[:, None, None, :]
    return scores, seen


def _heads_first(x: ndarray, n_heads: int) -> ndarray:
    """(B, S, G, D) -> (B, H, S, D), each of the G heads repeated for the H / G query heads that read it."""
    return np.repeat(x, n_heads // max(x.shape[2], 1), axis=2).transpose(0, 2, 1, 3)


def _add_groups(x: ndarray, n_groups: int) -> ndarray:
    """(B, H, S, D) -> (B, S, G, D): the gradients of the query heads that read one key/value head are added."""
    batch, n_heads, n_keys, width = x.shape
    grouped = x.reshape(batch, n_groups, n_heads // max(n_groups, 1), n_keys, width)
    return np.sum(grouped, axis=2).transpose(0, 2, 1, 3)
