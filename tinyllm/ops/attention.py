"""Scaled dot-product attention: each position asks a question of all others and takes a weighted mean of their answers.

    P = softmax(scale · Q Kᵀ + bias, of what is visible)      out = P V      scale = 1/√D      Vaswani et al. 2017, eq. 1

    dV = Pᵀ dout     dP = dout Vᵀ     dS = P ∘ (dP - rowsum(P ∘ dP))     dQ = scale · dS K     dK = scale · dSᵀ Q     dbias = dS

Read `plain_attention.py` first: these lines as eight lines of NumPy. Here is what can be had beside it, and how it becomes fast.

The T x S matrix P is never stored: forward keeps one number per row, the log of its normaliser, from which backward
recomputes P tile by tile (Dao et al. 2022, algorithms 1 and 4). Layout (B, T, H, D), so that splitting a projection
into heads is a reshape. With G < H key/value heads, each serves H/G query heads (Ainslie et al. 2023).
Who may see whom is one object, drawn in `kernels/attention/visibility.py`. Loops: `kernels/attention/forward.py`; weights:
`nn/attention.py`.
"""

import math
from typing import Protocol

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op
from tinyllm.kernels.attention.visibility import EVERYTHING, Visibility
from tinyllm.ops.plain_attention import attend, attend_backward


class Cache(Protocol):
    """What remembers the keys and values of earlier calls (`nn/kv_cache.py`)."""

    def append(self, key: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take this call's key and value (B, T, G, D); give all so far, (B, S, G, D) each."""
        ...


def _check(query: np.ndarray, key: np.ndarray, value: np.ndarray, visible: Visibility) -> None:
    check_dtypes("attention", query=query, key=key, value=value)
    if query.ndim != 4 or key.ndim != 4:
        raise ValueError(f"attention: query {query.shape} and key {key.shape} came, (B, T, H, D) and (B, S, G, D) expected")
    B, _, H, D = query.shape
    S, G = key.shape[1:3]
    if key.shape != (B, S, G, D) or value.shape != key.shape or not G or H % G:
        raise ValueError(
            f"attention: query (B, T, H, D) = {query.shape} with key {key.shape} and value {value.shape}; expected key "
            "and value (B, S, G, D) with H divisible by G"
        )
    visible.places(query, key)


@op
def attention(
    query, key, value, bias=None, *, visible: Visibility = EVERYTHING, attention_mask: np.ndarray | None = None,
    cache: Cache | None = None,
):  # fmt: skip
    """query (B, T, H, D), key and value (B, S, G, D) -> (B, T, H, D).

    bias            added to the scores, broadcastable to (B, H, T, S), or None
    visible         who sees whom: CAUSAL, or a Visibility with a window, padding, a prefix, sequences end to end
    attention_mask  (T, S) bool, or broadcastable to (B, H, T, S), True = may be attended: any pattern at all
    cache           key and value are appended to it, and all that it holds is attended to; for no_grad only
    A query that has nothing to attend to gets zeros. bias and attention_mask go by `plain_attention.py`, which stores P.
    """
    if cache is not None:
        return _cached(query, key, value, visible=visible, cache=cache)
    _check(query, key, value, visible)
    if attention_mask is not None or bias is not None:
        return _plainly(query, key, value, bias, mask=_whole_mask(query, key, attention_mask, visible))
    settings = {"scale": 1 / math.sqrt(query.shape[-1]), "visible": visible}
    out, log_normalizer = kernels.attention_forward(query, key, value, **settings)

    def backward(dout):
        return *kernels.attention_backward(dout, query, key, value, out, log_normalizer, **settings), None

    return out, backward


def _cached(query: np.ndarray, key: np.ndarray, value: np.ndarray, *, visible: Visibility, cache: Cache) -> tuple:
    """`attention` that also sees the keys and values of earlier calls, and leaves its own with them: (value, backward)."""
    keys, values = cache.append(key, value)
    _check(query, keys, values, visible)
    out, _ = kernels.attention_forward(query, keys, values, scale=1 / math.sqrt(keys.shape[-1]), visible=visible)

    def backward(dy):
        raise RuntimeError("attention to a cache has no gradient: it keeps numbers, not where they came from; use no_grad()")

    return out, backward


def _whole_mask(query: np.ndarray, key: np.ndarray, attention_mask: np.ndarray | None, visible: Visibility) -> np.ndarray:
    """All that says who sees whom as one mask that broadcasts to (B, H, T, S)."""
    (B, T, H, _), S = query.shape, key.shape[1]
    if visible.sequences is not None:
        raise ValueError("attention: a bias or an attention_mask came with sequences end to end; give padded rows instead")
    seen, shape = visible.mask(T, S)[:, None], (B, H, T, S)
    if attention_mask is None:
        return seen
    if attention_mask.dtype != np.bool_ or not _broadcasts(attention_mask.shape, shape):
        expected = f"bool (T, S) = {(T, S)} expected, or what broadcasts to (B, H, T, S) = {shape}; True = may be attended"
        raise ValueError(f"attention: attention_mask {attention_mask.dtype} {attention_mask.shape} came, {expected}")
    return attention_mask & seen


def _broadcasts(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array of `shape` broadcasts to `whole`."""
    return len(shape) <= len(whole) and all(m in (1, n) for m, n in zip(shape[::-1], whole[::-1], strict=False))


def _plainly(query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, *, mask: np.ndarray) -> tuple:
    """`attention` with any bias under any mask, (value, backward)."""
    G, whole = key.shape[2], (len(query), query.shape[2], query.shape[1], key.shape[1])
    if bias is not None and not _broadcasts(bias.shape, whole):
        raise ValueError(f"attention: bias {bias.shape} came, what broadcasts to (B, H, T, S) = {whole} expected")
    repeats = query.shape[2] // G
    keys, values = (np.repeat(x, repeats, axis=2) for x in (key, value))  # (B, S, H, D): one for each query head
    out, P = attend(query, keys, values, mask=mask, bias=bias)

    def backward(dout):
        dquery, dkeys, dvalues, dscores = attend_backward(dout, (query, keys, values), P)
        dkey, dvalue = (d.reshape(*d.shape[:2], G, repeats, d.shape[3]).sum(axis=3) for d in (dkeys, dvalues))
        return dquery, dkey, dvalue, None if bias is None else dscores

    return out, backward


def _parts(x: np.ndarray, n_heads: int, n_kv_heads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (B, T, (H + 2G)·D) as views query (B, T, H, D), key and value (B, T, G, D)."""
    if x.ndim != 3:
        raise ValueError(f"self_attention: qkv {x.shape} came, (B, T, (H + 2G)·D) expected")
    B, T, width = x.shape
    n_parts = n_heads + 2 * n_kv_heads
    if width % n_parts:
        found = f"3 x {n_heads}" if n_kv_heads == n_heads else f"{n_heads} + 2 x {n_kv_heads}"
        raise ValueError(f"self_attention: width {width} is not {found} heads x a whole head width")
    heads = x.reshape(B, T, n_parts, width // n_parts)
    return heads[:, :, :n_heads], heads[:, :, n_heads : n_heads + n_kv_heads], heads[:, :, n_heads + n_kv_heads :]


@op
def self_attention(qkv, *, n_heads: int, n_kv_heads: int | None = None, visible: Visibility, cache: Cache | None = None):
    """`attention` of a sequence to itself, reading query, key and value where one projection wrote them.

    qkv (B, T, (H + 2G)·D), all query heads first, then keys, then values -> (B, T, H·D); of `visible.read` only those that ask.
    Its gradients land side by side in one array, ready for the projection's backward. cache: as in `attention`.
    """
    query, key, value = _parts(qkv, n_heads, n_kv_heads or n_heads)
    read = visible.read
    asked = query if read is None else query[:, read]
    if cache is not None:
        out, refuse = _cached(asked, key, value, visible=visible, cache=cache)
        return out.reshape(*out.shape[:2], n_heads * out.shape[3]), refuse
    _check(asked, key, value, visible)
    settings = {"scale": 1 / math.sqrt(query.shape[-1]), "visible": visible}
    out, log_normalizer = kernels.attention_forward(asked, key, value, **settings)

    def backward(dy):
        dqkv = np.empty(qkv.shape, qkv.dtype)  # not empty_like, which would copy an odd memory order
        dquery, dkey, dvalue = _parts(dqkv, n_heads, n_kv_heads or n_heads)
        grads = dquery if read is None else np.empty(asked.shape, asked.dtype), dkey, dvalue
        dout = dy.reshape(out.shape)
        kernels.attention_backward(dout, asked, key, value, out, log_normalizer, grads=grads, **settings)
        if read is not None:
            dquery[:, read], dquery[:, ~read] = grads[0], 0
        return dqkv

    return out.reshape(*out.shape[:2], n_heads * query.shape[-1]), backward
