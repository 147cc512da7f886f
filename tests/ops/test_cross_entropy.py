"""Cross-entropy: the worked example everybody knows, masks, micro-batches, and bad input."""

import numpy as np
import pytest

from tinyllm import Tensor, ops

RNG = np.random.default_rng(0)


def test_equal_scores_cost_the_logarithm_of_the_vocabulary():
    assert ops.cross_entropy(np.zeros((4, 50)), np.arange(4)).item() == pytest.approx(np.log(50))


def test_gradient_is_prediction_minus_what_came():
    logits = Tensor(RNG.standard_normal((3, 5)), requires_grad=True)
    targets = np.array([0, 4, 2])
    ops.cross_entropy(logits, targets).backward()
    np.testing.assert_allclose(logits.grad, (ops.softmax(logits.data).data - np.eye(5)[targets]) / 3, atol=1e-15)
    np.testing.assert_allclose(logits.grad.sum(axis=-1), 0, atol=1e-15)


def test_it_is_the_picked_log_softmax():
    logits, targets = RNG.standard_normal((6, 9)), RNG.integers(0, 9, 6)
    picked = ops.take_along(ops.log_softmax(logits), indices=targets[:, None])
    assert ops.cross_entropy(logits, targets).item() == pytest.approx(-picked.data.mean(), abs=1e-14)


def test_a_very_unlikely_token_has_a_finite_loss():
    logits = np.array([[0.0, 1e4]], np.float32)
    assert ops.cross_entropy(logits, np.array([0])).item() == 1e4


def test_uncounted_positions_neither_cost_nor_learn_whatever_their_target():
    logits = Tensor(RNG.standard_normal((2, 3, 5)), requires_grad=True)
    targets = np.array([[1, -100, 2], [99, 0, 3]])
    mask = np.array([[True, False, True], [False, False, True]])
    loss = ops.cross_entropy(logits, targets, loss_mask=mask)
    loss.backward()
    assert loss.item() == pytest.approx(ops.cross_entropy(logits.data[mask], targets[mask]).item(), abs=1e-14)
    assert (logits.grad[~mask] == 0).all() and (logits.grad[mask] != 0).all()


def test_micro_batches_with_n_counted_add_up_to_one_batch():
    logits, targets = RNG.standard_normal((6, 5)), RNG.integers(0, 5, 6)
    mask = np.array([True, True, True, False, True, False])
    whole = Tensor(logits, requires_grad=True)
    ops.cross_entropy(whole, targets, loss_mask=mask).backward()
    parts = Tensor(logits, requires_grad=True)
    total = 0.0
    for rows in (slice(0, 2), slice(2, 5), slice(5, 6)):  # the last has nothing that counts
        loss = ops.cross_entropy(parts[rows], targets[rows], loss_mask=mask[rows], n_counted=4)
        loss.backward()
        total += loss.item()
    np.testing.assert_allclose(parts.grad, whole.grad, atol=1e-15)
    assert total == pytest.approx(ops.cross_entropy(logits, targets, loss_mask=mask).item(), abs=1e-14)


@pytest.mark.parametrize(
    "logits, targets, settings, text",
    [
        ((2, 5), [1, 5], {}, r"targets: id 5 is outside the vocabulary of 5 \(0..4\)"),
        ((2, 5), [-1, 0], {}, "targets: id -1 is outside"),
        ((2, 5), [1.0, 0.0], {}, "targets must be integers, got float32"),
        ((2, 5), [1], {}, r"targets \(1,\) came, \(2,\) expected"),
        ((2, 5), [1, 0], {"loss_mask": np.zeros(2, bool)}, "no position counts.*mask is False everywhere"),
        ((0, 5), np.zeros(0, int), {}, "no position counts"),
        ((2, 5), [1, 0], {"loss_mask": np.ones(2)}, "loss_mask is float64, bool expected"),
        ((2, 5), [1, 0], {"n_counted": 0}, "no position counts"),
    ],
)
def test_bad_input_is_refused_in_words(logits, targets, settings, text):
    with pytest.raises(ValueError, match=text):
        ops.cross_entropy(np.zeros(logits), targets, **settings)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e5])
def test_the_gradient_in_float32_is_exact_however_high_the_logits_are(offset):
    """Backward works with the distance to the largest logit, as forward does; log Σ exp alone has no decimals up there."""
    high = (RNG.standard_normal((4, 6, 30)) + offset).astype(np.float32)
    targets, table = RNG.integers(0, 30, (4, 6)), np.eye(30)
    exact = Tensor(high.astype(np.float64), requires_grad=True)
    ops.cross_entropy(exact, targets).backward()
    for loss_of in (lambda x: ops.cross_entropy(x, targets), lambda x: -ops.mean(ops.token_log_probs(x, targets)),
                    lambda x: ops.linear_cross_entropy(x, table.astype(np.float32), targets)):  # fmt: skip
        logits = Tensor(high, requires_grad=True)
        loss_of(logits).backward()
        assert np.abs(logits.grad - exact.grad).max() < 1e-6 * np.abs(exact.grad).max()


@pytest.mark.parametrize(
    "settings, text",
    [({"reduction": "average"}, "reduction is 'average', expected one of mean, sum, none"),
     ({"label_smoothing": 1.0}, "label_smoothing is 1.0"), ({"label_smoothing": -0.1}, "label_smoothing is -0.1")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        ops.cross_entropy(np.zeros((2, 5)), np.array([1, 0]), **settings)


def test_each_positions_own_loss_backs_up_into_its_own_logits():
    logits = Tensor(RNG.standard_normal((2, 3, 5)), requires_grad=True)
    targets = RNG.integers(0, 5, (2, 3))
    each = ops.cross_entropy(logits, targets, reduction="none")
    assert each.shape == (2, 3) and each.data.mean() == pytest.approx(ops.cross_entropy(logits.data, targets).item())
    each.backward(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    assert (logits.grad != 0).any(axis=2).tolist() == [[False, False, True], [False] * 3]
