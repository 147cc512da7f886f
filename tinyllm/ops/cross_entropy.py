"""Cross-entropy: how surprised the model is by the token that really came.

    loss = -1/n Σ log p(target)        dlogits = (softmax(logits) - onehot(target)) / n

in nats, averaged over the n counted positions. The gradient is the difference between what was predicted and what came:
that is the whole of pre-training. Softmax and logarithm are one op, since log(softmax) of a very unlikely token would be
log(0), and since the probabilities need not be kept. Shannon 1948; Goodfellow et al., "Deep Learning", 6.2.2.3.
"""

from __future__ import annotations

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op


def check_ids(ids: np.ndarray, size: int, name: str) -> None:
    """ValueError unless every id is in 0..size-1: kernels index with them unchecked."""
    if ids.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got {ids.dtype}")
    if ids.size and not (0 <= ids.min() and ids.max() < size):
        bad = ids[(ids < 0) | (ids >= size)].flat[0]
        raise ValueError(f"{name}: id {bad} is outside the vocabulary of {size} (0..{size - 1})")


@op
def cross_entropy(logits, targets, *, mask: np.ndarray | None = None, n_counted: float | None = None):
    """Mean negative log-likelihood of `targets` in nats, a scalar.

    logits (..., V); targets (...) int; mask (...) bool, True = counts (all by default).
    n_counted: what to divide by (default: the number of counted positions). Gradient accumulation passes the number
    counted in all its micro-batches, so that their losses and gradients add up to those of one large batch.
    """
    check_dtypes("cross_entropy", logits=logits)
    n_vocab = logits.shape[-1]
    if mask is not None and mask.dtype != np.bool_:
        raise ValueError(f"cross_entropy: mask is {mask.dtype}, bool expected (True = counts)")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"cross_entropy: targets {targets.shape} came, {logits.shape[:-1]} expected (logits without V)")
    counted = None if mask is None else np.broadcast_to(mask, targets.shape).ravel()
    ids = targets.ravel() if counted is None else np.where(counted, targets.ravel(), 0)
    check_ids(ids, n_vocab, "targets")
    rows = logits.reshape(-1, n_vocab)
    divisor = float(n_counted if n_counted is not None else len(ids) if counted is None else counted.sum())
    if divisor <= 0:
        raise ValueError("cross_entropy: no position counts (the mask is False everywhere, or there are no targets)")
    nll, log_normalizer = kernels.cross_entropy_forward(rows, ids)
    if counted is not None:
        nll = np.where(counted, nll, 0)

    def backward(dy):
        dnll = np.full(len(ids), dy / divisor, rows.dtype)
        if counted is not None:
            dnll *= counted
        return kernels.cross_entropy_backward(dnll, rows, ids, log_normalizer).reshape(logits.shape), None

    return np.asarray(nll.sum() / divisor, dtype=logits.dtype), backward
