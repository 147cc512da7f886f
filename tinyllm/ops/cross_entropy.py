"""Cross-entropy: how surprised the model is by the token that really came.

    loss = -1/n Σ log p(target)        dlogits = (softmax(logits) - onehot(target)) / n

in nats, averaged over the n counted positions. The gradient is the difference between what was predicted and what came:
that is the whole of pre-training. Softmax and logarithm are one op, since log(softmax) of a very unlikely token would be
log(0), and since the probabilities need not be kept. Label smoothing ε takes (1 - ε) onehot + ε/V for the truth, so that no
logit need run away to infinity. Shannon 1948; Goodfellow et al., "Deep Learning", 6.2.2.3; Szegedy et al. 2016, section 7.
"""

import math

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import check_dtypes, op

REDUCTIONS = ("mean", "sum", "none")


def check_ids(ids: np.ndarray, size: int, name: str) -> None:
    """ValueError unless every id is in 0..size-1: kernels index with them unchecked."""
    if ids.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got {ids.dtype}")
    if ids.size and not (0 <= ids.min() and ids.max() < size):
        bad = ids[(ids < 0) | (ids >= size)].flat[0]
        raise ValueError(f"{name}: id {bad} is outside the vocabulary of {size} (0..{size - 1})")


def counted_targets(
    op_name: str, targets: np.ndarray, *, shape: tuple[int, ...], n_vocab: int, loss_mask: np.ndarray | None = None,
    n_counted: float | None = None,
) -> tuple[np.ndarray, np.ndarray, float]:  # fmt: skip
    """Return the targets (N,), which of them count (N,) bool, and what to divide by; ValueError for what does not fit."""
    if loss_mask is not None and loss_mask.dtype != np.bool_:
        raise ValueError(f"{op_name}: loss_mask is {loss_mask.dtype}, bool expected (True = counts)")
    if targets.shape != shape:
        raise ValueError(f"{op_name}: targets {targets.shape} came, {shape} expected, one for each position")
    counted = np.ones(targets.size, bool) if loss_mask is None else np.broadcast_to(loss_mask, targets.shape).ravel()
    ids = targets.ravel() if loss_mask is None else np.where(counted, targets.ravel(), 0)
    check_ids(ids, n_vocab, "targets")
    divisor = float(counted.sum() if n_counted is None else n_counted)
    if divisor <= 0:
        raise ValueError(f"{op_name}: no position counts (the loss mask is False everywhere, or there are no targets)")
    return ids, counted, divisor


def _rows(op_name: str, logits: np.ndarray) -> np.ndarray:
    """logits (..., V) as (N, V)."""
    check_dtypes(op_name, logits=logits)
    if not logits.ndim:
        raise ValueError(f"{op_name}: logits is one number; (..., V) expected, a score for each token of the vocabulary")
    return logits.reshape(math.prod(logits.shape[:-1]), logits.shape[-1])


@op
def cross_entropy(
    logits, targets, *, loss_mask: np.ndarray | None = None, n_counted: float | None = None, reduction: str = "mean",
    label_smoothing: float = 0.0,
):  # fmt: skip
    """Mean negative log-likelihood of `targets` in nats, a scalar.

    logits (..., V); targets (...) int; loss_mask (...) bool, True = counts (all by default).
    n_counted: what to divide by (default: the number of counted positions). Gradient accumulation passes the number
    counted in all its micro-batches, so that their losses and gradients add up to those of one large batch.
    reduction: "mean", "sum", or "none" for each position's own loss (...), 0 where it does not count.
    """
    rows, shape, n_vocab = _rows("cross_entropy", logits), logits.shape[:-1], logits.shape[-1]
    if reduction not in REDUCTIONS:
        raise ValueError(f"cross_entropy: reduction is {reduction!r}, expected one of {', '.join(REDUCTIONS)}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, expected at least 0 and less than 1")
    n_counted = n_counted if reduction == "mean" else 1
    ids, counted, divisor = counted_targets(
        "cross_entropy", targets, shape=shape, n_vocab=n_vocab, loss_mask=loss_mask, n_counted=n_counted
    )
    nll, normalizer = kernels.cross_entropy_forward(rows, ids)
    if label_smoothing:  # ε of the mean over all tokens in place of the target; differences first, for the sake of decimals
        nll = nll + label_smoothing * np.mean(np.take_along_axis(rows, ids[:, None], axis=1) - rows, axis=1)

    def backward(dy):
        dnll = np.where(counted, np.ravel(dy) / divisor, 0).astype(rows.dtype)
        drows = kernels.cross_entropy_backward(dnll, rows, ids, normalizer)
        if label_smoothing:
            drows -= (label_smoothing / n_vocab) * dnll[:, None]
            drows[np.arange(len(ids)), ids] += label_smoothing * dnll
        return drows.reshape(logits.shape), None

    if reduction == "none":
        return np.where(counted, nll, 0).astype(logits.dtype).reshape(shape), backward
    return np.asarray(nll[counted].sum() / divisor, dtype=logits.dtype), backward


@op
def token_log_probs(logits, targets):
    """log p(target) in nats at every position: the language of policies, where cross-entropy is that of losses.

    logits (..., V), targets (...) int -> (...).   d logits = (onehot(target) - softmax(logits)) dy
    """
    rows = _rows("token_log_probs", logits)
    ids, _, _ = counted_targets("token_log_probs", targets, shape=logits.shape[:-1], n_vocab=logits.shape[-1], n_counted=1)
    nll, normalizer = kernels.cross_entropy_forward(rows, ids)

    def backward(dy):
        dnll = -np.ascontiguousarray(dy).reshape(-1)
        return kernels.cross_entropy_backward(dnll, rows, ids, normalizer).reshape(logits.shape), None

    return -nll.reshape(targets.shape), backward
