"""The judge itself: right gradients pass, wrong ones do not."""

import numpy as np
import pytest

from tinyllm import Tensor, op, ops
from tinyllm.autograd import gradcheck, numerical_gradient


def wrong(slope):
    @op
    def square(x):
        return x * x, lambda dy: dy * slope(x)

    return square


@pytest.fixture(autouse=True)
def keep_registry(monkeypatch):
    from tinyllm.autograd import tensor

    monkeypatch.setattr(tensor, "OPS", dict(tensor.OPS))


def test_a_right_gradient_passes_with_a_tiny_error():
    assert gradcheck(wrong(lambda x: 2 * x), np.array([[0.5, -2.0], [3.0, 0.0]])) < 1e-8


@pytest.mark.parametrize(
    "slope", [lambda x: 2.001 * x, lambda x: x, lambda x: -2 * x, lambda x: 0 * x, lambda x: 2 * x[::-1], lambda x: x * np.nan]
)
def test_a_wrong_gradient_does_not(slope):
    with pytest.raises(AssertionError, match="gradient of input 0: relative error"):
        gradcheck(wrong(slope), np.array([0.5, -2.0, 3.0]))


def test_the_wrong_input_is_named():
    @op
    def forgets_b(a, b):
        return a * b, lambda dy: (dy * b, None)

    with pytest.raises(AssertionError, match="gradient of input 1"):
        gradcheck(forgets_b, np.ones(2), np.ones(2))


def test_float32_is_refused():
    with pytest.raises(ValueError, match="input 0 is float32; float64 is needed"):
        gradcheck(ops.tanh, np.ones(2, np.float32))


def test_inputs_are_left_as_they_were():
    x = np.array([0.5, -2.0])
    x.flags.writeable = False
    gradcheck(ops.tanh, x)
    np.testing.assert_array_equal(x, [0.5, -2.0])


def test_errors_of_different_outputs_do_not_cancel():
    @op
    def swapped(x):
        return x * np.array([1.0, 2.0]), lambda dy: dy * np.array([2.0, 1.0])  # wrong, but the sum is right

    with pytest.raises(AssertionError):
        gradcheck(swapped, np.ones(2))


def test_numerical_gradient_of_a_quadratic_is_exact_up_to_rounding():
    x = np.array([1.0, -3.0])
    np.testing.assert_allclose(numerical_gradient(lambda: float((x**2).sum()), x), [2.0, -6.0], atol=1e-8)


def test_empty_inputs_have_no_error():
    assert gradcheck(lambda x: x * 2.0, np.zeros((0, 3))) == 0
    assert isinstance(Tensor(np.zeros(0)).data, np.ndarray)
