import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, arrays_with_layout, masks, shapes
from twin import assert_gradient, assert_like_twin, assert_same_bits_on_any_number_of_threads, numeric_gradient

from tinyllm import kernels
from tinyllm.kernels import reference


@given(data=st.data(), shape=shapes(max_dims=4), dtype=DTYPES, scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_values_match_the_twin_under_any_broadcast_mask(data, shape, dtype, scale):
    x, mask = data.draw(arrays_with_layout(shape, dtype, scale=scale)), data.draw(masks(shape))
    largest = float(np.abs(x).max(initial=0))
    # exp of a difference: an error of half a unit in x - max becomes that much of the result
    assert_like_twin("softmax_forward", x, mask, ulps=4 + largest)
    assert_like_twin("log_softmax_forward", x, mask, ulps=4, size=largest + 5)


@given(data=st.data(), shape=shapes(max_dims=4), dtype=DTYPES)
def test_gradients_match_the_twin(data, shape, dtype):
    x, mask = data.draw(arrays_with_layout(shape, dtype, scale=2.0)), data.draw(masks(shape))
    dy = data.draw(arrays_with_layout(shape, dtype))
    size = float(np.abs(dy).sum(axis=-1).max(initial=0)) if dy.size else 0.0
    assert_like_twin("softmax_backward", dy, kernels.softmax_forward(x, mask), ulps=4, size=size)
    assert_like_twin("log_softmax_backward", dy, kernels.log_softmax_forward(x, mask), ulps=4, size=size)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradients_match_central_differences(name):
    rng = np.random.default_rng(2)
    x, dy = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    mask = rng.random((4, 6)) < 0.7
    mask[2] = False
    forward, backward = getattr(reference, f"{name}_forward"), getattr(kernels, f"{name}_backward")
    y = getattr(kernels, f"{name}_forward")
    assert_gradient(backward(dy, y(x)), numeric_gradient(forward, x, dy))

    def shown(x):  # -inf - -inf would be nan: a masked place is a constant
        return np.where(mask, forward(x, mask), 0.0)

    assert_gradient(backward(dy, y(x, mask)), numeric_gradient(shown, x, dy))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fully_masked_row_gives_zeros_and_minus_infinity(dtype):
    x, mask = np.ones((2, 3), dtype), np.array([[True, False, True], [False, False, False]])
    np.testing.assert_array_equal(kernels.softmax_forward(x, mask), np.array([[0.5, 0, 0.5], [0, 0, 0]], dtype))
    y = kernels.log_softmax_forward(x, mask)
    assert np.isneginf(y[1]).all() and np.isneginf(y[0, 1])
    assert (kernels.log_softmax_backward(np.ones_like(x), y)[1] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores_do_not_overflow_and_nan_is_seen(dtype):
    x = np.array([[1e30, 1e30, -1e30], [3e38, 0, -3e38], [-np.inf, 2, 2], [np.nan, 0, 0], [0, np.inf, 0]], dtype)
    y = kernels.softmax_forward(x)
    np.testing.assert_array_equal(y[:3], np.array([[0.5, 0.5, 0], [1, 0, 0], [0, 0.5, 0.5]], dtype))
    assert np.isnan(y[3]).all() and np.isnan(y[4]).any()
    logs = kernels.log_softmax_forward(x)
    np.testing.assert_allclose(logs[0, :2], -np.log(2), rtol=1e-6)
    assert np.isnan(logs[3]).all() and np.isnan(logs[4]).any()


def test_nan_behind_a_mask_does_not_come_through():
    x = np.array([[np.nan, 1.0, 1.0]], np.float32)
    np.testing.assert_array_equal(kernels.softmax_forward(x, np.array([False, True, True])), [[0, 0.5, 0.5]])


def test_rows_are_probabilities_whatever_constant_is_added():
    x = np.random.default_rng(0).standard_normal((50, 300)).astype(np.float32)
    y = kernels.softmax_forward(x)
    np.testing.assert_allclose(y.sum(axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(kernels.softmax_forward(x + 64), y, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 2000), (2000, 17), (40, 11, 65)])
def test_any_number_of_threads_gives_the_same_bits(shape):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(shape, np.float32), rng.standard_normal(shape, np.float32)
    mask = rng.random(shape[1:]) < 0.5
    for name in ("softmax", "log_softmax"):
        y = getattr(kernels, f"{name}_forward")(x)
        assert_same_bits_on_any_number_of_threads(f"{name}_forward", x)
        assert_same_bits_on_any_number_of_threads(f"{name}_forward", x, mask)
        assert_same_bits_on_any_number_of_threads(f"{name}_backward", dy, y)
        assert_like_twin(f"{name}_forward", x, mask, ulps=8, size=8.0)
        assert_like_twin(f"{name}_backward", dy, y, ulps=8, size=float(np.abs(dy).sum(-1).max()))
