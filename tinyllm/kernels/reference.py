"""Every kernel in plain NumPy: the slow, obvious twin of the compiled code, and the file to read first.

Each function has the name, arguments and results of its compiled twin, and does nothing but write the equation down.
The tests compare the two, so what stands here is what the kernels mean. TINYLLM_KERNELS=numpy runs the whole library
on this file: no compiler, no threads, the same mathematics.
Letters: rows are everything but the last axis, C long (V for logits); `dname` is the gradient of the loss by `name`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from tinyllm.kernels.reference_generation import RowProgram, sample_rows  # noqa: F401

_erf_of_number = np.vectorize(math.erf, otypes=[np.float64])

# ------------------------------------------------------------------------------------------------ matrix product


def matmul(a: ndarray, b: ndarray, out: ndarray | None = None) -> ndarray:
    """out[..., m, n] = Σₖ a[..., m, k] · b[..., k, n]; leading axes broadcast; `out` is written and returned if it is given."""
    return np.matmul(a, b, out=out)


def matmul_add(a: ndarray, b: ndarray, out: ndarray) -> ndarray:
    """out += a @ b, in place"""
    out += matmul(a, b)
    return out


def linear_forward(x: ndarray, weight: ndarray, bias: ndarray | None = None, residual: ndarray | None = None) -> ndarray:
    """y = x Wᵀ + b + residual"""
    return matmul(x, weight.T) + (0 if bias is None else bias) + (0 if residual is None else residual)


def linear_gelu_forward(x: ndarray, weight: ndarray, bias: ndarray | None = None) -> tuple[ndarray, ndarray]:
    """h = x Wᵀ + b,   y = gelu(h)"""
    hidden = linear_forward(x, weight, bias)
    return hidden, gelu_tanh_forward(hidden)


def gelu_linear_backward(dy: ndarray, weight: ndarray, hidden: ndarray) -> ndarray:
    """dh = (dy W) ∘ gelu'(h);   h ← gelu(h), in place"""
    dhidden = gelu_tanh_backward(matmul(dy, weight), hidden)
    hidden[...] = gelu_tanh_forward(hidden)
    return dhidden


def linear_silu_gate_forward(x: ndarray, weight: ndarray, gate: ndarray) -> tuple[ndarray, ndarray]:
    """u = x Wᵀ,   y = silu(g) ∘ u"""
    up = matmul(x, weight.T)
    return up, silu_forward(gate) * up


def silu_gate_linear_backward(dy: ndarray, weight: ndarray, gate: ndarray, up: ndarray) -> ndarray:
    """du = (dy W) ∘ silu(g);   g ← dg = (dy W) ∘ u ∘ silu'(g),   u ← silu(g) ∘ u, in place"""
    both, value = matmul(dy, weight), silu_forward(gate)
    gate[...] = silu_backward(both * up, gate)
    up *= value
    return both * value


def int8_linear_forward(x: ndarray, weight: ndarray, scale: ndarray, bias: ndarray | None = None) -> ndarray:
    """y = (x Qᵀ) ∘ scale + b for int8 weights Q (out, in) that stand for scale[o] · Q[o, k]; a scale for each output."""
    return (x @ weight.T.astype(x.dtype)) * scale + (0 if bias is None else bias)


# ------------------------------------------------------------------------------------------------ activations
def gelu_tanh_forward(x: ndarray) -> ndarray:
    """y = ½ x (1 + tanh u) = x σ(2u),   u = √(2/π) (x + 0.044715 x³)

    As in GPT-2 (Hendrycks & Gimpel 2016, §2). The second form keeps its digits where 1 + tanh u would lose them.
    """
    return x * _sigmoid(_gelu_angle(x)[0])


def gelu_tanh_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy (s + x s (1 - s) 2u'),   s = σ(2u)"""
    angle, slope = _gelu_angle(x)
    s = _sigmoid(angle)
    return dy * (s + np.clip(x, -1000.0, 1000.0) * s * (1.0 - s) * slope)


def _gelu_angle(x: ndarray) -> tuple[ndarray, ndarray]:
    """2u and its derivative by x. Beyond |x| = 1000 σ(2u) is 0 or 1 in any precision; without the limit x³ overflows."""
    x = np.clip(x, -1000.0, 1000.0)
    scale = 2.0 * math.sqrt(2.0 / math.pi)
    return scale * (x + 0.044715 * x * x * x), scale * (1.0 + 3 * 0.044715 * x * x)


def gelu_erf_forward(x: ndarray) -> ndarray:
    """y = x Φ(x) = ½ x (1 + erf(x / √2))      the exact form, with Φ the normal distribution function"""
    return x * _normal_distribution(x)


def gelu_erf_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy (Φ(x) + x φ(x)),   φ(x) = exp(-x²/2) / √(2π)"""
    density = np.exp(-0.5 * np.square(np.clip(x, -1000.0, 1000.0))) / math.sqrt(2.0 * math.pi)
    return dy * (_normal_distribution(x) + np.clip(x, -1000.0, 1000.0) * density)


def _normal_distribution(x: ndarray) -> ndarray:
    """Φ(x), computed in float64 because 1 + erf loses every digit in the left tail."""
    return (0.5 * (1.0 + _erf_of_number(np.asarray(x, np.float64) * math.sqrt(0.5)))).astype(x.dtype)


def silu_forward(x: ndarray) -> ndarray:
    """y = x σ(x),   σ(x) = 1 / (1 + exp(-x))      also called swish"""
    return x * _sigmoid(x)


def silu_backward(dy: ndarray, x: ndarray) -> ndarray:
    """dx = dy σ(x) (1 + x (1 - σ(x)))"""
    s = _sigmoid(x)
    return dy * s * (1.0 + np.clip(x, -1000.0, 1000.0) * (1.0 - s))


def _sigmoid(x: ndarray) -> ndarray:
    """1 / (1 + exp(-x)) with exp only of negative numbers, so that it cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


# ------------------------------------------------------------------------------------------------ softmax
def softmax_forward(x: ndarray, mask: ndarray | None = None) -> ndarray:
    """yᵢ = exp(xᵢ - max x) / Σⱼ exp(xⱼ - max x) over the last axis.

    Only places where `mask` is True count; the others get 0, and a row with none gets zeros. The maximum changes
    nothing in the quotient but keeps exp from overflowing. An x of -inf is the same as a masked place.
    """
    e, total, _ = _shifted_exp(x, mask)
    return e / np.where(total == 0, 1.0, total).astype(x.dtype)


def softmax_backward(dy: ndarray, y: ndarray) -> ndarray:
    """dxᵢ = yᵢ (dyᵢ - Σⱼ dyⱼ yⱼ)"""
    return y * (dy - np.sum(dy * y, axis=-1, keepdims=True))


def log_softmax_forward(x: ndarray, mask: ndarray | None = None) -> ndarray:
    """yᵢ = xᵢ - log Σⱼ exp(xⱼ), with -inf where masked."""
    _, total, largest = _shifted_exp(x, mask)
    log_total = np.log(np.where(total == 0, 1.0, total).astype(x.dtype))
    with np.errstate(invalid="ignore", over="ignore"):
        return _hide(x - largest - log_total, mask)


def log_softmax_backward(dy: ndarray, y: ndarray) -> ndarray:
    """dxᵢ = dyᵢ - exp(yᵢ) Σⱼ dyⱼ; a masked place (y = -inf) neither gives nor gets a gradient."""
    counts = y != -np.inf
    dy = np.where(counts, dy, 0.0)
    return np.where(counts, dy - np.exp(y) * np.sum(dy, axis=-1, keepdims=True), 0.0).astype(y.dtype)


def _hide(x: ndarray, mask: ndarray | None) -> ndarray:
    return x if mask is None else np.where(mask, x, -np.inf).astype(x.dtype)


def _shifted_exp(x: ndarray, mask: ndarray | None) -> tuple[ndarray, ndarray, ndarray]:
    """exp(x - max), its sum and the max over the last axis (kept with length 1); a row of -inf has max 0."""
    x = _hide(x, mask)
    largest = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    largest = np.where(largest == -np.inf, 0.0, largest).astype(x.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf: a row with +inf is nan, and shall be
        e = np.exp(x - largest)
    return e, np.sum(e, axis=-1, keepdims=True), largest


# ------------------------------------------------------------------------------------------------ cross-entropy
def cross_entropy_forward(logits: ndarray, targets: ndarray) -> tuple[ndarray, ndarray]:
    """nllₙ = log Σₙ - (logitsₙ[targetsₙ] - mₙ),   mₙ = maxᵥ logitsₙᵥ,   Σₙ = Σᵥ exp(logitsₙᵥ - mₙ)

    logits (N, V), targets (N,) integers in [0, V) -> nll (N,) in nats, normalizer (N, 2): m and Σ, kept apart because their
    sum m + log Σ would lose the decimals of log Σ next to a large m.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        _, total, largest = _shifted_exp(logits, None)
        nll = np.log(total[:, 0]) - (logits[np.arange(len(targets)), targets] - largest[:, 0])
    return nll, np.concatenate([largest, total], axis=1)


def cross_entropy_backward(
    dnll: ndarray, logits: ndarray, targets: ndarray, normalizer: ndarray, out: ndarray | None = None
) -> ndarray:
    """dlogitsₙᵥ = dnllₙ (exp(logitsₙᵥ - mₙ) / Σₙ - [v = targetₙ]).   A row with dnll 0 is 0, whatever its logits are."""
    largest, total = normalizer[:, :1], normalizer[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        probability = np.exp(logits - largest) / total
        probability[np.arange(len(targets)), targets] -= 1.0
        dlogits = np.where(dnll[:, None] == 0, 0.0, dnll[:, None] * probability).astype(logits.dtype)
    if out is None:
        return dlogits
    out[...] = dlogits
    return out


# ------------------------------------------------------------------------------------------------ normalisation
def layer_norm_forward(x: ndarray, weight: ndarray, bias: ndarray | None, eps: float) -> tuple[ndarray, ndarray, ndarray]:
    """y = weight (x - mean) rstd + bias,   rstd = 1 / √(var + eps)      (Ba et al. 2016, eq. 4)

    x (..., C), weight and bias (C,) -> y (..., C), mean (...), rstd (...). The variance divides by C.
    """
    mean = np.mean(x, axis=-1, keepdims=True)
    rstd = 1.0 / np.sqrt(np.mean(np.square(x - mean), axis=-1, keepdims=True) + eps)
    y = (x - mean) * rstd * weight
    return y if bias is None else y + bias, mean[..., 0], rstd[..., 0]


def layer_norm_backward(
    dy: ndarray, x: ndarray, weight: ndarray, mean: ndarray, rstd: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """With x̂ = (x - mean) rstd and g = dy weight:   dx = rstd (g - mean(g) - x̂ mean(g x̂))

    dweight = Σ dy x̂,   dbias = Σ dy over all rows.
    """
    normal = (x - mean[..., None]) * rstd[..., None]
    g = dy * weight
    along_normal = np.mean(g * normal, axis=-1, keepdims=True)
    dx = rstd[..., None] * (g - np.mean(g, axis=-1, keepdims=True) - normal * along_normal)
    return dx, _sum_rows(dy * normal), _sum_rows(dy)


def rms_norm_forward(x: ndarray, weight: ndarray, eps: float) -> tuple[ndarray, ndarray]:
    """y = weight x rstd,   rstd = 1 / √(mean(x²) + eps)      (Zhang & Sennrich 2019, eq. 4)"""
    rstd = 1.0 / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + eps)
    return x * rstd * weight, rstd[..., 0]


def rms_norm_backward(dy: ndarray, x: ndarray, weight: ndarray, rstd: ndarray) -> tuple[ndarray, ndarray]:
    """With x̂ = x rstd and g = dy weight:   dx = rstd (g - x̂ mean(g x̂)),   dweight = Σ dy x̂"""
    normal = x * rstd[..., None]
    g = dy * weight
    dx = rstd[..., None] * (g - normal * np.mean(g * normal, axis=-1, keepdims=True))
    return dx, _sum_rows(dy * normal)


def _sum_rows(x: ndarray) -> ndarray:
    """Sum over all axes but the last: a weight shared by every row gathers the gradient of every row."""
    return np.sum(x, axis=tuple(range(x.ndim - 1)))


# ------------------------------------------------------------------------------------------------ attention
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
    e, total, largest = _shifted_exp(scores, seen)
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
    probability = np.exp(_hide(scores, seen) - shift)
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


# ------------------------------------------------------------------------------------------------ embedding, rotary
def embedding_forward(weight: ndarray, ids: ndarray) -> ndarray:
    """y[...] = weight[ids[...]].      weight (V, C), ids (...) integers in [0, V) -> (..., C)"""
    return np.take(weight, ids, axis=0)


def embedding_backward(dy: ndarray, ids: ndarray, n_rows: int, out: ndarray | None = None) -> ndarray:
    """dweight[v] = Σ dy over the places where ids = v, in the order of the places      -> (n_rows, C); added to `out` if given"""
    dweight = np.zeros((n_rows, dy.shape[-1]), dy.dtype) if out is None else out
    np.add.at(dweight, ids.reshape(-1), dy.reshape(-1, dy.shape[-1]))
    return dweight


def rotary_forward(x: ndarray, cos: ndarray, sin: ndarray) -> ndarray:
    """Turn the pair (xᵢ, xᵢ₊D/₂) by an angle that grows with the position      (Su et al. 2021, eq. 34)

    yᵢ = xᵢ cos - xᵢ₊D/₂ sin,   yᵢ₊D/₂ = xᵢ₊D/₂ cos + xᵢ sin.      x (B, T, H, D), cos and sin (B or 1, T, D/2)
    The paper pairs neighbours (x₂ᵢ, x₂ᵢ₊₁). Halves, as in Llama's published weights, only reorder the columns.
    """
    first, second = np.split(x, 2, axis=-1)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]  # the same angle for every head
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rotary_backward(dy: ndarray, cos: ndarray, sin: ndarray) -> ndarray:
    """The transpose of a rotation is the rotation back."""
    return rotary_forward(dy, cos, -sin)


# ------------------------------------------------------------------------------------------------ optimizer
def sum_of_squares(arrays: Sequence[ndarray]) -> float:
    """Σ x² over all numbers of all arrays, in the widest of their dtypes (where it may overflow), the arrays' sums in double."""
    dtype = np.result_type(np.float32, *(x.dtype for x in arrays))
    with np.errstate(over="ignore", invalid="ignore"):
        return float(sum(float(np.square(x, dtype=dtype).sum()) for x in arrays))


def adamw_update(
    params: Sequence[ndarray], grads: Sequence[ndarray], exp_avgs: Sequence[ndarray], exp_avg_sqs: Sequence[ndarray], *,
    lr: float, betas: tuple[float, float], eps: float, weight_decays: Sequence[float], step: int, grad_scale: float = 1.0,
) -> None:  # fmt: skip
    """One step of Adam with decoupled weight decay, in place      (Loshchilov & Hutter 2019, algorithm 2)

    θ ← θ (1 - lr·λ);   m ← β₁m + (1-β₁)g;   v ← β₂v + (1-β₂)g²;   θ ← θ - lr · m/(1-β₁ᵗ) / (√(v/(1-β₂ᵗ)) + eps)
    `step` is t and counts from 1. The paper's schedule multiplier η is part of lr here; g is grad · grad_scale.
    """
    beta1, beta2 = betas
    for param, grad, m, v, decay in zip(params, grads, exp_avgs, exp_avg_sqs, weight_decays, strict=True):
        g = grad.astype(param.dtype) * param.dtype.type(grad_scale)
        param *= 1.0 - lr * decay
        m *= beta1
        m += (1.0 - beta1) * g
        v *= beta2
        v += (1.0 - beta2) * g * g
        param -= lr * (m / (1.0 - beta1**step)) / (np.sqrt(v / (1.0 - beta2**step)) + eps)
