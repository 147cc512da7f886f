import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, arrays_with_layout, shapes
from twin import (
    assert_close,
    assert_gradient,
    assert_like_twin,
    assert_same_bits_on_any_number_of_threads,
    numeric_gradient,
    twin,
)

from tinyllm import kernels
from tinyllm.kernels import reference

EPS = 1e-5


def size_of(*arrays):
    """The product of the largest magnitudes: how large an intermediate result can be."""
    return float(np.prod([np.abs(a).max(initial=0) + 1 for a in arrays]))


@given(data=st.data(), shape=shapes(), dtype=DTYPES, scale=st.sampled_from([0.1, 1.0, 10.0]), has_bias=st.booleans())
def test_layer_norm_matches_the_twin(data, shape, dtype, scale, has_bias):
    x, dy = data.draw(arrays_with_layout(shape, dtype, scale=scale)), data.draw(arrays_with_layout(shape, dtype))
    weight, bias = (data.draw(arrays_with_layout(shape[-1:], dtype)) for _ in range(2))
    y, mean, rstd = kernels.layer_norm_forward(x, weight, bias if has_bias else None, EPS)
    wanted = twin("layer_norm_forward", x, weight, bias if has_bias else None, EPS)
    # x - mean cancels when a row is nearly constant: what is left of x's last digit is multiplied by rstd
    shrunk = size_of(x) * float(rstd.max(initial=0))
    assert_close(mean, wanted[1], ulps=4, size=size_of(x))
    assert_close(rstd, wanted[2], ulps=8 + 4 * shrunk)
    assert_close(y, wanted[0], ulps=8, size=size_of(weight) * (1 + shrunk))
    size = size_of(dy, weight, rstd) * (1 + shrunk) * (1 + shrunk) * max(x.size / shape[-1], 1)
    assert_like_twin("layer_norm_backward", dy, x, weight, mean, rstd, ulps=16, size=size)


@given(data=st.data(), shape=shapes(), dtype=DTYPES, scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_rms_norm_matches_the_twin(data, shape, dtype, scale):
    x, dy = data.draw(arrays_with_layout(shape, dtype, scale=scale)), data.draw(arrays_with_layout(shape, dtype))
    weight = data.draw(arrays_with_layout(shape[-1:], dtype))
    _, rstd = assert_like_twin("rms_norm_forward", x, weight, EPS, ulps=8)
    size = size_of(dy, weight, rstd) * np.sqrt(shape[-1]) * max(x.size / shape[-1], 1)
    assert_like_twin("rms_norm_backward", dy, x, weight, rstd, ulps=16, size=size)


def test_layer_norm_gradients_match_central_differences():
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal((3, 2, 6)), rng.standard_normal((3, 2, 6))
    weight, bias = rng.standard_normal(6), rng.standard_normal(6)
    _, mean, rstd = kernels.layer_norm_forward(x, weight, bias, EPS)
    dx, dweight, dbias = kernels.layer_norm_backward(dy, x, weight, mean, rstd)

    def forward(x, weight, bias):
        return reference.layer_norm_forward(x, weight, bias, EPS)[0]

    assert_gradient(dx, numeric_gradient(lambda v: forward(v, weight, bias), x, dy))
    assert_gradient(dweight, numeric_gradient(lambda v: forward(x, v, bias), weight, dy))
    assert_gradient(dbias, numeric_gradient(lambda v: forward(x, weight, v), bias, dy))


def test_rms_norm_gradients_match_central_differences():
    rng = np.random.default_rng(5)
    x, dy, weight = rng.standard_normal((3, 2, 6)), rng.standard_normal((3, 2, 6)), rng.standard_normal(6)
    _, rstd = kernels.rms_norm_forward(x, weight, EPS)
    dx, dweight = kernels.rms_norm_backward(dy, x, weight, rstd)
    assert_gradient(dx, numeric_gradient(lambda v: reference.rms_norm_forward(v, weight, EPS)[0], x, dy))
    assert_gradient(dweight, numeric_gradient(lambda v: reference.rms_norm_forward(x, v, EPS)[0], weight, dy))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_comes_out_with_mean_zero_and_variance_one(dtype):
    x = (5 + 3 * np.random.default_rng(0).standard_normal((20, 300))).astype(dtype)
    y, mean, rstd = kernels.layer_norm_forward(x, np.ones(300, dtype), None, EPS)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(-1), 1, rtol=1e-4)
    assert mean.shape == rstd.shape == (20,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_width_one_has_nothing_left_but_the_bias(dtype):
    x, one = np.array([[3.0], [-8.0]], dtype), np.ones(1, dtype)
    y, mean, rstd = kernels.layer_norm_forward(x, one, 2 * one, EPS)
    np.testing.assert_array_equal(y, np.full((2, 1), 2, dtype))
    dx, dweight, dbias = kernels.layer_norm_backward(np.ones_like(x), x, one, mean, rstd)
    assert (dx == 0).all() and dweight[0] == 0 and dbias[0] == 2


def test_no_rows_give_empty_results_and_zero_weight_gradients():
    x, weight = np.zeros((0, 5), np.float32), np.ones(5, np.float32)
    y, mean, rstd = kernels.layer_norm_forward(x, weight, weight, EPS)
    dx, dweight, dbias = kernels.layer_norm_backward(x, x, weight, mean, rstd)
    assert y.shape == dx.shape == (0, 5) and mean.shape == (0,)
    assert dweight.tolist() == dbias.tolist() == [0.0] * 5


def test_nan_stays_in_its_row_and_reaches_the_weight_gradient():
    x, weight = np.random.default_rng(0).standard_normal((4, 40)), np.ones(40)
    x[2, 7] = np.nan
    y, mean, rstd = kernels.layer_norm_forward(x, weight, None, EPS)
    assert np.isnan(y).all(axis=-1).tolist() == np.isnan(y).any(axis=-1).tolist() == [False, False, True, False]
    dx, dweight, _ = kernels.layer_norm_backward(np.ones_like(x), x, weight, mean, rstd)
    assert np.isnan(dx).any(axis=-1).tolist() == [False, False, True, False] and np.isnan(dweight).all()


@pytest.mark.parametrize("shape", [(257, 65), (5, 9000), (3000, 16)])
def test_any_number_of_threads_gives_the_same_bits_and_the_twin_s_sums(shape):
    rng = np.random.default_rng(0)
    x, dy, weight = (rng.standard_normal(s, np.float32) for s in (shape, shape, shape[1:]))
    _, mean, rstd = kernels.layer_norm_forward(x, weight, weight, EPS)
    assert_same_bits_on_any_number_of_threads("layer_norm_forward", x, weight, weight, EPS)
    assert_same_bits_on_any_number_of_threads("layer_norm_backward", dy, x, weight, mean, rstd)
    assert_like_twin("layer_norm_backward", dy, x, weight, mean, rstd, ulps=4, size=20 * np.sqrt(shape[0]))
    _, rstd = kernels.rms_norm_forward(x, weight, EPS)
    assert_same_bits_on_any_number_of_threads("rms_norm_forward", x, weight, EPS)
    assert_same_bits_on_any_number_of_threads("rms_norm_backward", dy, x, weight, rstd)
    assert_like_twin("rms_norm_backward", dy, x, weight, rstd, ulps=4, size=20 * np.sqrt(shape[0]))
