"""Elementwise ops and activations at their corners: ties, kinks, tails."""

import numpy as np
import pytest

from tinyllm import Tensor, ops


def slopes(function, *values):
    x = Tensor(np.array(values), requires_grad=True)
    ops.sum(function(x)).backward()
    return x.grad.tolist()


def test_a_tie_gives_each_side_half_the_gradient():
    for function in (ops.maximum, ops.minimum):
        a, b = (Tensor(np.array([1.0, 2.0]), requires_grad=True) for _ in range(2))
        ops.sum(function(a, b)).backward()
        assert a.grad.tolist() == b.grad.tolist() == [0.5, 0.5]


def test_max_shares_the_gradient_among_ties():
    assert slopes(lambda x: ops.max(x), 1.0, 3.0, 3.0, 2.0) == [0, 0.5, 0.5, 0]


def test_kinks_have_the_gradients_their_docstrings_say():
    assert slopes(ops.relu, -1.0, 0.0, 1.0) == [0, 0, 1]
    assert slopes(ops.absolute, -2.0, 0.0, 2.0) == [-1, 0, 1]
    assert slopes(lambda x: ops.clip(x, low=-1, high=1), -2.0, -1.0, 0.0, 1.0, 2.0) == [0, 1, 1, 1, 0]


def test_sigmoid_keeps_its_digits_in_both_tails():
    x = np.array([-80.0, -20.0, 0.0, 20.0, 80.0], np.float32)
    np.testing.assert_allclose(ops.sigmoid(x).data, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-6)
    np.testing.assert_array_equal(ops.sigmoid(np.array([-1e4, 1e4], np.float32)).data, [0, 1])


@pytest.mark.parametrize("function", [ops.gelu, ops.silu, lambda x: ops.gelu(x, approximate="erf"), ops.relu])
def test_activations_are_zero_at_the_far_left_and_the_identity_at_the_far_right(function):
    x = Tensor(np.array([-1e4, -100.0, 0.0, 100.0, 1e4], np.float32), requires_grad=True)
    y = function(x)
    ops.sum(y).backward()
    np.testing.assert_allclose(y.data, [0, 0, 0, 100, 1e4], atol=1e-30)
    np.testing.assert_allclose(x.grad[[0, 1, 3, 4]], [0, 0, 1, 1], atol=1e-30)


def test_gelu_values_of_the_paper():
    assert ops.gelu(np.array([1.0]), approximate="erf").item() == pytest.approx(0.8413447460685429, abs=1e-15)  # Φ(1)
    assert ops.gelu(np.array([1.0])).item() == pytest.approx(0.8411919906082768, abs=1e-12)
    with pytest.raises(ValueError, match="approximate is 'tanh' or 'erf', got 'none'"):
        ops.gelu(np.array([1.0]), approximate="none")


def test_where_takes_integers_and_lists_as_condition():
    a, b = (Tensor(np.array([1.0, 2.0]), requires_grad=True) for _ in range(2))
    ops.sum(ops.where(a, b, condition=[1, 0])).backward()
    assert a.grad.tolist() == [1, 0] and b.grad.tolist() == [0, 1]


@pytest.mark.parametrize("x", [np.array([1, 2]), np.array([1, 2], np.float16), np.array([1, 2], ">f4")], ids=str)
@pytest.mark.parametrize("function", [ops.gelu, ops.silu])
def test_kernels_get_native_float32_or_float64_only(function, x):
    with pytest.raises(ValueError, match="all float32 or all float64 expected"):
        function(x)
