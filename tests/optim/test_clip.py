"""Gradient clipping: the length is cut, the direction stays, what is not finite is left to be seen."""

import numpy as np
import pytest

from tinyllm import Tensor
from tinyllm.optim import clip_grad_norm, grad_norm


def with_grad(*values, dtype=np.float64):
    param = Tensor(np.zeros(len(values), dtype), requires_grad=True)
    param.grad = np.array(values, dtype)
    return param


def test_a_long_gradient_is_cut_to_the_norm_and_keeps_its_direction():
    a, b = with_grad(3.0, 0.0), with_grad(4.0)
    assert clip_grad_norm([a, b], 1.0) == 5.0
    np.testing.assert_allclose([*a.grad, *b.grad], [0.6, 0, 0.8])
    assert grad_norm([a, b]) == pytest.approx(1)


def test_a_short_gradient_is_left_to_the_bit():
    a = with_grad(0.1, 0.7, dtype=np.float32)
    before = a.grad.copy()
    assert clip_grad_norm([a], 1.0) == pytest.approx(np.hypot(0.1, 0.7))
    np.testing.assert_array_equal(a.grad, before)


def test_weights_without_gradient_do_not_count():
    assert clip_grad_norm([Tensor([1.0], requires_grad=True), with_grad(3.0)], 9.0) == 3.0
    assert grad_norm([]) == 0


def test_a_generator_of_weights_is_read_once():
    a = with_grad(10.0)
    clip_grad_norm((param for param in [a]), 1.0)
    assert a.grad[0] == pytest.approx(1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_reported_and_nothing_is_scaled(bad):
    a, b = with_grad(bad, 1.0), with_grad(5.0)
    assert not np.isfinite(clip_grad_norm([a, b], 1.0))
    assert a.grad[1] == 1 and b.grad[0] == 5


def test_any_layout_has_the_same_norm():
    grad = np.random.default_rng(0).standard_normal((6, 4))
    params = []
    for array in (grad, np.asfortranarray(grad), np.repeat(grad, 2, axis=1)[:, ::2]):
        params.append(Tensor(np.zeros((6, 4)), requires_grad=True))
        params[-1].grad = array
    assert grad_norm(params) == pytest.approx(np.sqrt(3) * np.linalg.norm(grad))
    clip_grad_norm(params, 1.0)
    assert grad_norm(params) == pytest.approx(1)


def test_the_norm_of_many_float32_numbers_is_accurate():
    param = with_grad(*np.full(1_000_000, 0.1), dtype=np.float32)
    assert grad_norm([param]) == pytest.approx(100, rel=1e-5)


def test_gradients_that_may_not_be_written_to_are_replaced():
    param = with_grad(3.0, 4.0)
    param.grad = np.broadcast_to(5.0, (2,))
    clip_grad_norm([param], 1.0)
    assert grad_norm([param]) == pytest.approx(1)


def test_gradients_of_several_dtypes_have_one_norm():
    """float32 times np.float64(...) is float64: such a gradient counts as the numbers it holds."""
    a, b = with_grad(3.0, dtype=np.float32), with_grad(4.0)
    assert grad_norm([a, b]) == pytest.approx(5) and grad_norm([with_grad(1e30, dtype=np.float32), with_grad(1e60)]) == 1e60


@pytest.mark.parametrize("grad", [np.array([1, 2]), 1.0, Tensor([1.0])], ids=["int", "number", "Tensor"])
def test_what_is_no_gradient_is_refused(grad):
    param = with_grad(1.0)
    param.grad = grad
    with pytest.raises(ValueError, match="a gradient is .*, an array of floats expected"):
        clip_grad_norm([param], 1.0)


@pytest.mark.parametrize("max_norm", [-1.0, float("nan")])
def test_a_negative_limit_would_turn_gradients_round_and_is_refused(max_norm):
    param = with_grad(3.0)
    with pytest.raises(ValueError, match="max_norm is"):
        clip_grad_norm([param], max_norm)
    assert param.grad[0] == 3
