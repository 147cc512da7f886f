"""Products with an epilogue against their twins: with and without each part, every edge of the tile, in place where promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, laid_out

from tinyllm import kernels
from tinyllm.kernels import reference

DTYPES = ["float32", "float64"]
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([47, 64, 97, 130]))


def assert_same(got, expected):
    eps = np.finfo(got.dtype).eps
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=50 * eps, atol=200 * eps * max(1, np.abs(expected).max(initial=0)))


@given(
    sizes=st.tuples(SIZES, SIZES, SIZES),
    parts=st.tuples(st.booleans(), st.booleans()),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 4),
    dtype=st.sampled_from(DTYPES),
)
def test_linear_is_the_product_plus_what_is_there(sizes, parts, layouts, dtype):
    (n, n_in, n_out), rng = sizes, np.random.default_rng(sum(sizes))
    shapes = [(n, n_in), (n_out, n_in), (n_out,), (n, n_out)]
    x, weight, bias, residual = (
        laid_out(rng.standard_normal(shape).astype(dtype), layout) for shape, layout in zip(shapes, layouts, strict=True)
    )
    arguments = (x, weight, bias if parts[0] else None, residual if parts[1] else None)
    assert_same(kernels.linear_forward(*arguments), reference.linear_forward(*arguments))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 8, 9, 12, 13, 300])
@pytest.mark.parametrize("n_out", [1, 31, 32, 33, 300])
def test_gelu_forward_and_backward(n, n_out, dtype):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype(dtype) for shape in [(n, 20), (n_out, 20), (n_out,)])
    for one in (None, bias):
        for got, expected in zip(
            kernels.linear_gelu_forward(x, weight, one), reference.linear_gelu_forward(x, weight, one), strict=True
        ):
            assert_same(got, expected)
    dy, down = rng.standard_normal((n, 20)).astype(dtype), rng.standard_normal((20, n_out)).astype(dtype)
    hidden = rng.standard_normal((n, n_out)).astype(dtype)
    mine, twin = hidden.copy(), hidden.copy()
    assert_same(kernels.gelu_linear_backward(dy, down, mine), reference.gelu_linear_backward(dy, down, twin))
    assert_same(mine, twin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 8, 9, 12, 13, 300])
@pytest.mark.parametrize("width", [1, 31, 32, 33, 300])
def test_silu_gate_forward_and_backward(n, width, dtype):
    rng = np.random.default_rng(0)
    x, weight, gate = (rng.standard_normal(shape).astype(dtype) for shape in [(n, 20), (width, 20), (n, width)])
    up, y = kernels.linear_silu_gate_forward(x, weight, gate)
    twin_up, twin_y = reference.linear_silu_gate_forward(x, weight, gate)
    assert_same(up, twin_up)
    assert_same(y, twin_y)
    dy, down = rng.standard_normal((n, 20)).astype(dtype), rng.standard_normal((20, width)).astype(dtype)
    mine, twin = [gate.copy(), up.copy()], [gate.copy(), up.copy()]
    assert_same(kernels.silu_gate_linear_backward(dy, down, *mine), reference.silu_gate_linear_backward(dy, down, *twin))
    for got, expected in zip(mine, twin, strict=True):
        assert_same(got, expected)


def test_values_that_are_not_finite_are_not_hidden():
    x, weight = np.full((20, 4), np.nan, np.float32), np.ones((6, 4), np.float32)
    assert all(np.isnan(part).all() for part in kernels.linear_gelu_forward(x, weight))


@given(sizes=st.tuples(SIZES, SIZES, SIZES), layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 2), dtype=st.sampled_from(DTYPES))
def test_matmul_add_adds_to_what_is_there(sizes, layouts, dtype):
    (m, n, k), rng = sizes, np.random.default_rng(sum(sizes))
    a, b = (
        laid_out(rng.standard_normal(shape).astype(dtype), layout)
        for shape, layout in zip([(m, k), (k, n)], layouts, strict=True)
    )
    there = rng.standard_normal((m, n)).astype(dtype)
    mine, twin = there.copy(), there.copy()
    assert kernels.matmul_add(a, b, mine) is mine
    assert_same(mine, reference.matmul_add(a, b, twin))


def test_matmul_add_over_a_deep_product_adds_once():
    a, b, out = np.ones((50, 2000), np.float32), np.ones((2000, 70), np.float32), np.full((50, 70), 5, np.float32)
    assert (kernels.matmul_add(a, b, out) == 2005).all()
