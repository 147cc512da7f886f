"""Scaled dot-product attention: each position asks a question of all others and takes a weighted mean of their answers.

    P = softmax(scale · Q Kᵀ + mask)      out = P V            scale = 1/√D        Vaswani et al. 2017, eq. 1

    dV = Pᵀ dout     dP = dout Vᵀ     dS = P ∘ (dP - rowsum(P ∘ dP))     dQ = scale · dS K     dK = scale · dSᵀ Q

Read `plain_attention.py` first: these lines as eight lines of NumPy. Here is what can be had beside it, and how it becomes fast.

The T x S matrix P is never stored: forward keeps one number per row, the log of its normaliser, from which backward
recomputes P tile by tile (Dao et al. 2022, algorithms 1 and 4). Layout (B, T, H, D), so that splitting a projection
into heads is a reshape. With G < H key/value heads, each serves H/G query heads (Ainslie et al. 2023).
Sequences of different lengths need no padding: they may lie end to end, (1, N, ...), each seeing only itself.
Loops: `kernels/attention/forward.py`; weights: `nn/attention.py`.
"""

import math
from typing import Any

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op
from tinyllm.ops.plain_attention import attend, attend_backward, causal_mask


def _check(query: np.ndarray, key: np.ndarray, value: np.ndarray, key_mask: np.ndarray | None) -> None:
    check_dtypes("attention", query=query, key=key, value=value)
    if query.ndim != 4 or key.ndim != 4:
        raise ValueError(f"attention: query {query.shape} and key {key.shape} came, (B, T, H, D) and (B, S, G, D) expected")
    B, T, H, D = query.shape
    S, G = key.shape[1:3]
    if key.shape != (B, S, G, D) or value.shape != key.shape or not G or H % G:
        raise ValueError(
            f"attention: query (B, T, H, D) = {query.shape} with key {key.shape} and value {value.shape}; expected key "
            "and value (B, S, G, D) with H divisible by G"
        )
    if key_mask is not None and (key_mask.shape != (B, S) or key_mask.dtype != np.bool_):
        raise ValueError(f"attention: key_mask {key_mask.dtype} {key_mask.shape} came, bool (B, S) = {(B, S)} expected")


def _whole_mask(
    query: np.ndarray, key: np.ndarray, attention_mask: np.ndarray, *, causal: bool, key_mask: np.ndarray | None
) -> np.ndarray:
    """All masks as one that broadcasts to (B, H, T, S)."""
    (B, T, H, _), S = query.shape, key.shape[1]
    shape = (B, H, T, S)
    fits = attention_mask.ndim <= 4 and all(m in (1, n) for m, n in zip(attention_mask.shape[::-1], shape[::-1], strict=False))
    if attention_mask.dtype != np.bool_ or not fits:
        expected = f"bool (T, S) = {(T, S)} expected, or what broadcasts to (B, H, T, S) = {shape}; True = may be attended"
        raise ValueError(f"attention: attention_mask {attention_mask.dtype} {attention_mask.shape} came, {expected}")
    mask = attention_mask & causal_mask(T, S) if causal else attention_mask
    return mask if key_mask is None else mask & key_mask[:, None, None, :]


@op
def attention(
    query, key, value, *, causal: bool = False, key_mask: np.ndarray | None = None, attention_mask: np.ndarray | None = None
):
    """query (B, T, H, D), key and value (B, S, G, D) -> (B, T, H, D).

    causal          position t sees keys s <= t + S - T (queries are the last T of S positions)
    key_mask        (B, S) bool, True = may be attended; a query with nothing to attend to gets zeros
    attention_mask  (T, S) bool, or broadcastable to (B, H, T, S): any pattern, by `plain_attention.py`, which stores P
    """
    _check(query, key, value, key_mask)
    if attention_mask is not None:
        mask = _whole_mask(query, key, attention_mask, causal=causal, key_mask=key_mask)
        return _masked(query, key, value, mask)
    settings = {"scale": 1 / math.sqrt(query.shape[-1]), "causal": causal, "key_mask": key_mask}
    out, log_normalizer = kernels.attention_forward(query, key, value, **settings)

    def backward(dout):
        return kernels.attention_backward(dout, query, key, value, out, log_normalizer, **settings)

    return out, backward


def _masked(query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> tuple:
    """`attention` under any mask, (value, backward)."""
    G = key.shape[2]
    repeats = query.shape[2] // G
    keys, values = (np.repeat(x, repeats, axis=2) for x in (key, value))  # (B, S, H, D): one for each query head
    out, P = attend(query, keys, values, mask=mask)

    def backward(dout):
        dquery, *rest = attend_backward(dout, (query, keys, values), P)
        dkey, dvalue = (d.reshape(*d.shape[:2], G, repeats, d.shape[3]).sum(axis=3) for d in rest)
        return dquery, dkey, dvalue

    return out, backward


def _parts(qkv: np.ndarray, n_heads: int) -> np.ndarray:
    """qkv (B, T, 3·H·D) as (B, T, 3, H, D)."""
    if qkv.ndim != 3:
        raise ValueError(f"self_attention: qkv {qkv.shape} came, (B, T, 3·H·D) expected")
    B, T, width = qkv.shape
    if width % (3 * n_heads):
        raise ValueError(f"self_attention: width {width} is not 3 x {n_heads} heads x a whole head width")
    return qkv.reshape(B, T, 3, n_heads, width // (3 * n_heads))


@op
def self_attention(qkv, *, n_heads: int, causal: bool, key_mask: np.ndarray | None = None):
    """Attention of a sequence to itself, reading query, key and value where one projection wrote them.

    qkv (B, T, 3·H·D), query first, then key, then value -> (B, T, H·D). Same as `attention` on the three parts; its
    gradients land side by side in one array, ready for the projection's backward.
    """
    parts = _parts(qkv, n_heads)
    query, key, value = (parts[:, :, i] for i in range(3))
    _check(query, key, value, key_mask)
    settings = {"scale": 1 / math.sqrt(query.shape[-1]), "causal": causal, "key_mask": key_mask}
    out, log_normalizer = kernels.attention_forward(query, key, value, **settings)

    def backward(dy):
        dparts = np.empty(parts.shape, parts.dtype)  # not empty_like, which would copy an odd memory order
        grads = tuple(dparts[:, :, i] for i in range(3))
        dout = dy.reshape(out.shape)
        kernels.attention_backward(dout, query, key, value, out, log_normalizer, grads=grads, **settings)
        return dparts.reshape(qkv.shape)

    return out.reshape(*qkv.shape[:2], qkv.shape[2] // 3), backward


def _queries_and_keys(lengths: np.ndarray, read: np.ndarray | None, n_positions: int) -> np.ndarray:
    """How many of each every sequence has, (B, 2)."""
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any() or lengths.sum() != n_positions:
        expected = f"whole numbers expected that add up to {n_positions} positions"
        raise ValueError(f"ragged_self_attention: lengths {lengths} came, {expected}")
    if read is None:
        return np.stack([lengths, lengths], axis=1)
    ends = np.cumsum(lengths)
    fits = read.dtype == np.bool_ and read.shape == (n_positions,)
    if not fits or not np.isin(np.flatnonzero(read[:-1] > read[1:]) + 1, ends).all():
        expected = f"bool {(n_positions,)} expected, True at the last positions of each sequence"
        raise ValueError(f"ragged_self_attention: read {read.dtype} {read.shape} came, {expected}")
    n_read = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[read], minlength=len(lengths))
    return np.stack([n_read, lengths], axis=1)


@op
def ragged_self_attention(qkv, *, n_heads: int, causal: bool, lengths: np.ndarray, read: np.ndarray | None = None):
    """`self_attention` of sequences that lie end to end, without padding; each gives the same bits whatever the others are.

        padded   . . a a a         end to end   a a a b b b b b c c        lengths 3, 5, 2
                 b b b b b
                 . . . c c

    qkv (1, N, 3·H·D), lengths (B,) that add up to N -> (1, N, H·D)
    read  (N,) bool, the last positions of each sequence: only these ask -> (1, M, H·D)
    """
    parts = _parts(qkv, n_heads)
    query, key, value = (parts[:, :, i] for i in range(3))
    _check(query, key, value, None)
    if len(qkv) != 1:
        raise ValueError(f"ragged_self_attention: qkv {qkv.shape} came, (1, N, 3·H·D) expected: all sequences in one row")
    pairs = _queries_and_keys(lengths, read, qkv.shape[1])
    settings = {"scale": 1 / math.sqrt(query.shape[-1]), "causal": causal, "lengths": pairs}
    query = query if read is None else query[:, read]
    out, log_normalizer = kernels.attention_forward(query, key, value, **settings)

    def backward(dy):
        dparts = np.empty(parts.shape, parts.dtype)
        dquery, dkey, dvalue = (dparts[:, :, i] for i in range(3))
        grads = dquery if read is None else np.empty(query.shape, query.dtype), dkey, dvalue
        dout = dy.reshape(out.shape)
        kernels.attention_backward(dout, query, key, value, out, log_normalizer, grads=grads, **settings)
        if read is not None:
            dquery[:, read], dquery[:, ~read] = grads[0], 0
        return dparts.reshape(qkv.shape)

    return out.reshape(*out.shape[:2], qkv.shape[2] // 3), backward


@op
def cached_attention(qkv, *, cache: Any, n_heads: int, causal: bool, key_mask: np.ndarray | None = None):
    """`self_attention` that also sees the keys and values of earlier calls, and leaves its own with them. For no_grad only.

    qkv (B, T, 3·H·D) -> (B, T, H·D). cache: `append(key, value)` takes this call's (B, T, H, D) and gives all, (B, S, H, D) each
    (`nn/kv_cache.py`). key_mask (B, S) bool over all of them.
    """
    parts = _parts(qkv, n_heads)
    keys, values = cache.append(parts[:, :, 1], parts[:, :, 2])
    _check(parts[:, :, 0], keys, values, key_mask)
    scale = 1 / math.sqrt(keys.shape[-1])
    out, _ = kernels.attention_forward(parts[:, :, 0], keys, values, scale=scale, causal=causal, key_mask=key_mask)

    def backward(dy):
        raise RuntimeError("cached_attention has no gradient: a cache keeps numbers, not where they came from; use no_grad()")

    return out.reshape(*qkv.shape[:2], qkv.shape[2] // 3), backward
