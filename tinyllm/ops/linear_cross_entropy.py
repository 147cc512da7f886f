"""The loss of a language model's last layer, a piece of the batch at a time, so that all its logits are never there at once.

    logits = h Wᵀ        loss = -1/n Σ log p(target)        dlogits = (softmax(logits) - onehot(target)) / n
    dh = dlogits W       dW = dlogitsᵀ h

With 50,257 tokens in the vocabulary the logits of 1,024 positions are 206 MB, their gradient as much again: more than everything
else a small model remembers. But the gradient of a row of logits is known as soon as the row is, since the loss is a sum over
rows. So each chunk of rows goes all the way, to its share of the loss, of dh and of dW, and its memory serves the next chunk.
Backward only multiplies by dL/dloss, which is 1 in training. Hsu et al. 2024 (Liger Kernel), "FusedLinearCrossEntropy".
"""

import math

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import op
from tinyllm.ops.cross_entropy import counted_targets
from tinyllm.ops.linear import check_linear

CHUNK = 1 << 24  # logits made at a time: 64 MB in float32


@op
def linear_cross_entropy(hidden, weight, targets, *, loss_mask: np.ndarray | None = None, n_counted: float | None = None, needs):
    """Mean negative log-likelihood of `targets` in nats, a scalar: cross_entropy(linear(hidden, weight), targets).

    hidden (..., C), weight (V, C), targets (...) int; loss_mask and n_counted as in `cross_entropy`. `needs` comes from `op`.
    """
    check_linear("linear_cross_entropy", hidden, weight)
    n_vocab, dtype = weight.shape[0], hidden.dtype
    shape = hidden.shape[:-1]
    ids, counted, divisor = counted_targets(
        "linear_cross_entropy", targets, shape=shape, n_vocab=n_vocab, loss_mask=loss_mask, n_counted=n_counted
    )
    rows = hidden.reshape(math.prod(shape), hidden.shape[-1])  # (N, C)
    dnll = np.full(len(ids), 1 / divisor, dtype) * counted
    drows = np.empty(rows.shape, dtype) if needs[0] else None
    dweight: np.ndarray | None = None
    total, step = 0.0, max(1, CHUNK // n_vocab)
    for first in range(0, len(ids), step):
        part = slice(first, first + step)
        logits = kernels.matmul(rows[part], weight.T)
        nll, normalizer = kernels.cross_entropy_forward(logits, ids[part])
        total += float(nll[counted[part]].sum())
        if not any(needs):
            continue
        dlogits = kernels.cross_entropy_backward(dnll[part], logits, ids[part], normalizer, out=logits)
        if drows is not None:
            kernels.matmul(dlogits, weight, out=drows[part])
        if needs[1]:
            known = dweight is not None
            dweight = (kernels.matmul_add if known else kernels.matmul)(dlogits.T, rows[part], dweight)

    def backward(dy):
        drows_, dweight_ = (None if d is None else d if dy == 1 else d * dy for d in (drows, dweight))
        return None if drows_ is None else drows_.reshape(hidden.shape), dweight_, None

    return np.asarray(total / divisor, dtype=dtype), backward
