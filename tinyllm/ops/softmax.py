"""Softmax: scores to probabilities, over the last axis or another.

    pᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)          dxᵢ = pᵢ (dyᵢ - Σⱼ dyⱼ pⱼ)
    log pᵢ = xᵢ - log Σⱼ exp(xⱼ)       dxᵢ = dyᵢ - pᵢ Σⱼ dyⱼ

The largest xⱼ is subtracted first, which changes nothing but keeps exp in range. `mask` (bool, broadcastable to x):
True = takes part, False = probability 0. Bridle 1990. Loops, over the last axis: `kernels/softmax.py`.
"""

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op


def _check(op_name: str, x: np.ndarray, mask: np.ndarray | None) -> None:
    check_dtypes(op_name, x=x)
    if not x.ndim:
        raise ValueError(f"{op_name}: x is one number without axes; probabilities need an axis to add up along")
    if mask is None:
        return
    fits = mask.ndim <= x.ndim and all(m in (1, n) for m, n in zip(mask.shape[::-1], x.shape[::-1], strict=False))
    if mask.dtype != np.bool_ or not fits:
        raise ValueError(f"{op_name}: mask {mask.dtype} {mask.shape} came, bool broadcastable to x {x.shape} expected")


def _last(x: np.ndarray, mask: np.ndarray | None, axis: int) -> tuple[np.ndarray, np.ndarray | None]:
    """x and its mask with `axis` last."""
    if axis in (-1, x.ndim - 1):
        return x, mask
    return x.swapaxes(axis, -1), None if mask is None else np.broadcast_to(mask, x.shape).swapaxes(axis, -1)


@op
def softmax(x, *, axis: int = -1, mask: np.ndarray | None = None):
    """Probabilities over `axis`, same shape as x. A row with nothing unmasked is all zeros."""
    _check("softmax", x, mask)
    y = kernels.softmax_forward(*_last(x, mask, axis))
    return y.swapaxes(axis, -1), lambda dy: kernels.softmax_backward(dy.swapaxes(axis, -1), y).swapaxes(axis, -1)


@op
def log_softmax(x, *, axis: int = -1, mask: np.ndarray | None = None):
    """Log-probabilities over `axis` (nats), -inf where masked; exact where softmax would round to 0."""
    _check("log_softmax", x, mask)
    y = kernels.log_softmax_forward(*_last(x, mask, axis))
    return y.swapaxes(axis, -1), lambda dy: kernels.log_softmax_backward(dy.swapaxes(axis, -1), y).swapaxes(axis, -1)


@op
def entropy(logits):
    """H = -Σ p log p in nats, over the last axis: how undecided the distribution softmax(logits) is. (..., V) -> (...).

    d logitsᵢ = -pᵢ (log pᵢ + H)         Shannon 1948. What cannot happen (logit -inf) adds nothing: 0 log 0 = 0.
    """
    _check("entropy", logits, None)
    log_p, p = kernels.log_softmax_forward(logits), kernels.softmax_forward(logits)
    np.maximum(log_p, float(np.finfo(log_p.dtype).min), out=log_p)  # 0 times a large number is 0, 0 times -inf is not
    value = np.asarray(-np.einsum("...v,...v->...", p, log_p))
    return value, lambda dy: -dy[..., None] * p * (log_p + value[..., None])
