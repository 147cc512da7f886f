"""Softmax: invariances, extremes, masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm import Tensor, ops

RNG = np.random.default_rng(0)


@given(st.floats(-1e4, 1e4), st.booleans())
def test_adding_a_constant_changes_nothing(shift, masked):
    x = RNG.standard_normal((3, 7))
    mask = RNG.random((3, 7)) < 0.5 if masked else None
    np.testing.assert_allclose(ops.softmax(x + shift, mask=mask).data, ops.softmax(x, mask=mask).data, atol=1e-11)


def test_probabilities_are_positive_and_sum_to_one():
    y = ops.softmax(RNG.standard_normal((5, 100)).astype(np.float32) * 10).data
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1, atol=1e-6)


def test_extreme_scores_stay_finite():
    x = np.array([[1e30, 0.0, -1e30], [-3e38, -3e38, -3e38], [88.0, 89.0, 90.0]], np.float32)
    y = ops.softmax(x).data
    np.testing.assert_allclose(y[0], [1, 0, 0])
    np.testing.assert_allclose(y[1], 1 / 3, rtol=1e-6)
    assert np.isfinite(ops.log_softmax(x[2:]).data).all()


def test_log_softmax_keeps_what_softmax_rounds_to_zero():
    x = np.array([0.0, 500.0], np.float32)
    assert ops.softmax(x).data[0] == 0
    np.testing.assert_allclose(ops.log_softmax(x).data, [-500, 0])


def test_a_row_with_nothing_unmasked_is_all_zeros_with_zero_gradient():
    x = Tensor(RNG.standard_normal((2, 4)), requires_grad=True)
    mask = np.array([[False] * 4, [True, False, True, True]])
    y = ops.softmax(x, mask=mask)
    ops.sum(y * y).backward()
    assert (y.data[0] == 0).all() and (x.grad[0] == 0).all() and x.grad[1, 1] == 0 and x.grad[1, 0] != 0


def test_masked_log_probabilities_are_minus_infinity_and_get_no_gradient():
    x = Tensor(RNG.standard_normal(5), requires_grad=True)
    mask = np.array([True, False, True, True, False])
    y = ops.log_softmax(x, mask=mask)
    np.testing.assert_array_equal(np.isneginf(y.data), ~mask)
    np.testing.assert_allclose(y.data[mask], ops.log_softmax(x.data[mask]).data, atol=1e-14)
    y[2].backward()
    expected = -ops.softmax(x.data, mask=mask).data
    expected[2] += 1
    np.testing.assert_allclose(x.grad, expected, atol=1e-14)


@pytest.mark.parametrize("function", [ops.softmax, ops.log_softmax])
def test_a_mask_of_another_dtype_or_shape_is_refused(function):
    for mask in [np.ones((2, 3)), np.ones((2, 4), bool), np.ones((3, 2, 3), bool)]:
        with pytest.raises(ValueError, match=r"mask .* came, bool broadcastable to x \(2, 3\) expected"):
            function(np.zeros((2, 3)), mask=mask)


def test_integers_are_refused():
    with pytest.raises(ValueError, match="softmax: x int64; all float32 or all float64 expected"):
        ops.softmax(Tensor([1, 2]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_cannot_happen_adds_nothing_to_the_entropy_and_gets_no_gradient(dtype):
    logits = Tensor(np.array([[0.0, -np.inf, 0.0], [-np.inf, 3.0, -np.inf], [1.0, 2.0, -1e5]], dtype), requires_grad=True)
    entropy = ops.entropy(logits)
    ops.sum(entropy).backward()
    assert entropy.data[:2] == pytest.approx([np.log(2), 0], abs=1e-6)
    assert np.isfinite(logits.grad).all() and not logits.grad[np.isneginf(logits.data)].any()
    np.testing.assert_allclose(logits.grad[0], 0, atol=1e-7)  # the flattest there is


@pytest.mark.parametrize("function", [ops.softmax, ops.log_softmax, ops.entropy])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_number_without_axes_is_refused_at_the_call(function, gradient):
    with pytest.raises(ValueError, match="one number without axes"):
        function(Tensor(np.float32(1.0), requires_grad=gradient))


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        ops.softmax(np.zeros((2, 3)), axis=2)
