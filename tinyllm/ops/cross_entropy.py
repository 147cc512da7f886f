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


def counted_targets(
    op_name: str,
    targets: np.ndarray,
    *,
    shape: tuple[int, ...],
    n_vocab: int,
    mask: np.ndarray | None,
    n_counted: float | None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the targets (N,), which of them count (N,) bool, and what to divide by; ValueError for what does not fit."""
    if mask is not None and mask.dtype != np.bool_:
        raise ValueError(f"{op_name}: mask is {mask.dtype}, bool expected (True = counts)")
    if targets.shape != shape:
        raise ValueError(f"{op_name}: targets {targets.shape} came, {shape} expected, one for each position")
    counted = np.ones(targets.size, bool) if mask is None else np.broadcast_to(mask, targets.shape).ravel()
    ids = targets.ravel() if mask is None else np.where(counted, targets.ravel(), 0)
    check_ids(ids, n_vocab, "targets")
    divisor = float(counted.sum() if n_counted is None else n_counted)
    if divisor <= 0:
        raise ValueError(f"{op_name}: no position counts (the mask is False everywhere, or there are no targets)")
    return ids, counted, divisor


@op
def cross_entropy(logits, targets, *, mask: np.ndarray | None = None, n_counted: float | None = None):
    """Mean negative log-likelihood of `targets` in nats, a scalar.

    logits (..., V); targets (...) int; mask (...) bool, True = counts (all by default).
    n_counted: what to divide by (default: the number of counted positions). Gradient accumulation passes the number
    counted in all its micro-batches, so that their losses and gradients add up to those of one large batch.
    """
    check_dtypes("cross_entropy", logits=logits)
    n_vocab = logits.shape[-1]
    shape = logits.shape[:-1]
    settings: dict = {"shape": shape, "n_vocab": n_vocab, "mask": mask, "n_counted": n_counted}
    ids, counted, divisor = counted_targets("cross_entropy", targets, **settings)
    rows = logits.reshape(-1, n_vocab)
    nll, log_normalizer = kernels.cross_entropy_forward(rows, ids)

    def backward(dy):
        dnll = np.full(len(ids), dy / divisor, rows.dtype) * counted
        return kernels.cross_entropy_backward(dnll, rows, ids, log_normalizer).reshape(logits.shape), None

    return np.asarray(nll[counted].sum() / divisor, dtype=logits.dtype), backward


@op
def token_log_probs(logits, targets):
    """log p(target) in nats at every position: the language of policies, where cross-entropy is that of losses.

    logits (..., V), targets (...) int -> (...).   d logits = (onehot(target) - softmax(logits)) dy
    """
    check_dtypes("token_log_probs", logits=logits)
    settings: dict = {"shape": logits.shape[:-1], "n_vocab": logits.shape[-1], "mask": None, "n_counted": 1}
    ids, _, _ = counted_targets("token_log_probs", targets, **settings)
    rows = logits.reshape(-1, logits.shape[-1])
    nll, log_normalizer = kernels.cross_entropy_forward(rows, ids)

    def backward(dy):
        dnll = -np.ascontiguousarray(dy).reshape(-1)
        return kernels.cross_entropy_backward(dnll, rows, ids, log_normalizer).reshape(logits.shape), None

    return -nll.reshape(targets.shape), backward
