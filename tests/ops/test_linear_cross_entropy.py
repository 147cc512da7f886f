"""The loss in chunks against the loss in one piece: the same value and gradients, however the rows are cut."""

import sys

import numpy as np
import pytest

from tinyllm import Tensor, ops
from tinyllm.autograd import no_grad

V, C, SHAPE = 11, 4, (3, 5)


def operands(dtype=np.float64):
    rng = np.random.default_rng(0)
    hidden, weight = rng.standard_normal((*SHAPE, C)).astype(dtype), rng.standard_normal((V, C)).astype(dtype)
    return hidden, weight, rng.integers(0, V, SHAPE), rng.random(SHAPE) < 0.6


def loss_and_gradients(loss_of, hidden, weight, scale=1.0):
    hidden, weight = Tensor(hidden, requires_grad=True), Tensor(weight, requires_grad=True)
    loss = loss_of(hidden, weight)
    (loss * scale).backward()
    return loss.item(), hidden.grad, weight.grad


@pytest.mark.parametrize("rows", [1, 2, 4, 15, 100])
@pytest.mark.parametrize("scale", [1.0, -2.5])
def test_chunks_of_any_size_give_the_loss_and_the_gradients_of_one_piece(monkeypatch, rows, scale):
    monkeypatch.setattr(sys.modules["tinyllm.ops.linear_cross_entropy"], "CHUNK", rows * V)
    hidden, weight, targets, mask = operands()

    def chunked(h, w):
        return ops.linear_cross_entropy(h, w, targets, loss_mask=mask)

    def whole(h, w):
        return ops.cross_entropy(ops.linear(h, w), targets, loss_mask=mask)

    for got, wanted in zip(*(loss_and_gradients(f, hidden, weight, scale) for f in (chunked, whole)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15)


def test_no_more_than_a_chunk_of_logits_is_made(monkeypatch):
    from tinyllm import kernels

    made = []
    monkeypatch.setattr(sys.modules["tinyllm.ops.linear_cross_entropy"], "CHUNK", 3 * V)
    forward = kernels.cross_entropy_forward
    monkeypatch.setattr(kernels, "cross_entropy_forward", lambda logits, ids: made.append(logits.size) or forward(logits, ids))
    hidden, weight, targets, _ = operands()
    with no_grad():
        ops.linear_cross_entropy(hidden, weight, targets)
    assert made == [3 * V] * 5


def test_only_what_needs_a_gradient_gets_one():
    hidden, weight, targets, _ = operands(np.float32)
    table = Tensor(weight, requires_grad=True)
    ops.linear_cross_entropy(hidden, table, targets).backward()
    assert table.grad is not None and table.grad.dtype == np.float32


def test_what_does_not_fit_is_refused():
    hidden, weight, targets, mask = operands()
    for arguments, settings, text in [
        ((hidden, weight, targets[:, :2]), {}, r"linear_cross_entropy: targets \(3, 2\) came, \(3, 5\) expected"),
        ((hidden, weight, targets + V), {}, "outside the vocabulary of 11"),
        ((hidden, weight[:, :2], targets), {}, r"weight \(11, 2\) came with x"),
        ((hidden, weight, targets), {"loss_mask": np.zeros(SHAPE, bool)}, "no position counts"),
        ((hidden, weight, targets), {"loss_mask": mask.astype(int)}, "loss_mask is int64, bool expected"),
    ]:
        with pytest.raises(ValueError, match=text):
            ops.linear_cross_entropy(*arguments, **settings)
