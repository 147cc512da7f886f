"""Norms: what they take out, and what they keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm import ops

RNG = np.random.default_rng(0)
X, ONE, ZERO = RNG.standard_normal((4, 16)), np.ones(16), np.zeros(16)


@given(st.floats(0.01, 1e3), st.floats(-1e3, 1e3))
def test_layer_norm_ignores_scale_and_shift(scale, shift):
    y = ops.layer_norm(X * scale + shift, ONE, ZERO, eps=1e-30).data
    np.testing.assert_allclose(y, ops.layer_norm(X, ONE, ZERO, eps=1e-30).data, atol=1e-9)


@given(st.floats(0.01, 1e3))
def test_rms_norm_ignores_scale_but_not_shift(scale):
    y = ops.rms_norm(X, ONE, eps=0.0).data
    np.testing.assert_allclose(ops.rms_norm(X * scale, ONE, eps=0.0).data, y, atol=1e-12)
    assert np.abs(ops.rms_norm(X + 1, ONE, eps=0.0).data - y).max() > 0.1


def test_a_normed_row_has_mean_zero_and_variance_one():
    y = ops.layer_norm(X * 5 + 3, ONE, ZERO, eps=0.0).data
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(axis=-1), 1, atol=1e-14)


def test_a_constant_row_becomes_the_bias_without_dividing_by_zero():
    np.testing.assert_allclose(ops.layer_norm(np.full((1, 16), 7.0), ONE, ONE * 2).data, 2)
    np.testing.assert_array_equal(ops.rms_norm(np.zeros((1, 16)), ONE).data, 0)


def test_a_large_mean_does_not_eat_the_variance_in_float32():
    x = (RNG.standard_normal((4, 64)) + 1000).astype(np.float32)
    exact = ops.layer_norm(x.astype(np.float64), np.ones(64), np.zeros(64)).data
    ours = ops.layer_norm(x, np.ones(64, np.float32), np.zeros(64, np.float32)).data
    np.testing.assert_allclose(ours, exact, atol=1e-3)  # one unit in the last place of the mean is 6e-5


def test_weights_that_do_not_fit_are_refused_since_kernels_do_not_look():
    with pytest.raises(ValueError, match=r"layer_norm: weight \(8,\) came, \(16,\) expected"):
        ops.layer_norm(X, np.ones(8), None)
    with pytest.raises(ValueError, match=r"layer_norm: bias \(1,\) came, \(16,\) expected"):
        ops.layer_norm(X, ONE, np.ones(1))
    with pytest.raises(ValueError, match=r"rms_norm: weight \(1, 16\) came"):
        ops.rms_norm(X, ONE[None])
    with pytest.raises(ValueError, match="rms_norm: x float64, weight float32"):
        ops.rms_norm(X, ONE.astype(np.float32))
