"""Softmax, its logarithm and cross-entropy in plain NumPy."""

import numpy as np
from numpy import ndarray


def softmax_forward(x: ndarray, mask: ndarray | None = None) -> ndarray:
    """yᵢ = exp(xᵢ - max x) / Σⱼ exp(xⱼ - max x) over the last axis.

    Only places where `mask` is True count; the others get 0, and a row with none gets zeros. The maximum changes
    nothing in the quotient but keeps exp from overflowing. An x of -inf is the same as a masked place.
    """
    e, total, _ = shifted_exp(x, mask)
    return e / np.where(total == 0, 1.0, total).astype(x.dtype)


def softmax_backward(dy: ndarray, y: ndarray) -> ndarray:
    """dxᵢ = yᵢ (dyᵢ - Σⱼ dyⱼ yⱼ)"""
    return y * (dy - np.sum(dy * y, axis=-1, keepdims=True))


def log_softmax_forward(x: ndarray, mask: ndarray | None = None) -> ndarray:
    """yᵢ = xᵢ - log Σⱼ exp(xⱼ), with -inf where masked."""
    _, total, largest = shifted_exp(x, mask)
    log_total = np.log(np.where(total == 0, 1.0, total).astype(x.dtype))
    with np.errstate(invalid="ignore", over="ignore"):
        return hide(x - largest - log_total, mask)


def log_softmax_backward(dy: ndarray, y: ndarray) -> ndarray:
    """dxᵢ = dyᵢ - exp(yᵢ) Σⱼ dyⱼ; a masked place (y = -inf) neither gives nor gets a gradient."""
    counts = y != -np.inf
    dy = np.where(counts, dy, 0.0)
    return np.where(counts, dy - np.exp(y) * np.sum(dy, axis=-1, keepdims=True), 0.0).astype(y.dtype)


def hide(x: ndarray, mask: ndarray | None) -> ndarray:
    """x, with -inf where `mask` is False."""
    return x if mask is None else np.where(mask, x, -np.inf).astype(x.dtype)


def shifted_exp(x: ndarray, mask: ndarray | None) -> tuple[ndarray, ndarray, ndarray]:
    """exp(x - max), its sum and the max over the last axis (kept with length 1); a row of -inf has max 0."""
    x = hide(x, mask)
    largest = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    largest = np.where(largest == -np.inf, 0.0, largest).astype(x.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf: a row with +inf is nan, and shall be
        e = np.exp(x - largest)
    return e, np.sum(e, axis=-1, keepdims=True), largest


def cross_entropy_forward(logits: ndarray, targets: ndarray) -> tuple[ndarray, ndarray]:
    """nllₙ = log Σₙ - (logitsₙ[targetsₙ] - mₙ),   mₙ = maxᵥ logitsₙᵥ,   Σₙ = Σᵥ exp(logitsₙᵥ - mₙ)

    logits (N, V), targets (N,) integers in [0, V) -> nll (N,) in nats, normalizer (N, 2): m and Σ, kept apart because their
    sum m + log Σ would lose the decimals of log Σ next to a large m.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        _, total, largest = shifted_exp(logits, None)
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
