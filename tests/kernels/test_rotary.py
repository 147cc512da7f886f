import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, arrays_with_layout
from twin import assert_gradient, assert_like_twin, assert_same_bits_on_any_number_of_threads, numeric_gradient

from tinyllm import kernels
from tinyllm.kernels import reference

SIDES = st.integers(0, 4)
PLACES = np.arange(90)[None]


def angles(n_positions, half, *, base=10000.0):
    """t · base^(-i / half): cos and sin (T, D/2)."""
    theta = np.arange(n_positions)[:, None] * base ** (-np.arange(half) / half)
    return np.cos(theta), np.sin(theta)


@given(data=st.data(), b=SIDES, t=SIDES, h=SIDES, half=st.sampled_from([1, 3, 8, 16, 17]), shared=st.booleans(), dtype=DTYPES)
def test_values_and_gradients_match_the_twin(data, b, t, h, half, shared, dtype):
    x = data.draw(arrays_with_layout((b, t, h, 2 * half), dtype))
    cos, sin = (data.draw(arrays_with_layout((5, half), dtype)) for _ in range(2))
    positions = np.random.default_rng(0).integers(0, 5, (1 if shared else b, t))
    size = float(np.abs(x).max(initial=0) * max(np.abs(cos).max(initial=0), np.abs(sin).max(initial=0)))
    assert_like_twin("rotary_forward", x, cos, sin, positions, ulps=2, size=size)
    assert_like_twin("rotary_backward", x, cos, sin, positions, ulps=2, size=size)


def test_gradients_match_central_differences():
    rng = np.random.default_rng(7)
    x, dy, (cos, sin) = rng.standard_normal((2, 3, 2, 6)), rng.standard_normal((2, 3, 2, 6)), angles(3, 3)
    wanted = numeric_gradient(lambda v: reference.rotary_forward(v, cos, sin, PLACES[:, :3]), x, dy)
    assert_gradient(kernels.rotary_backward(dy, cos, sin, PLACES[:, :3]), wanted)


@pytest.mark.parametrize("shape", [(2, 5, 3, 8), (3, 90, 4, 32)])
def test_turning_there_and_back_is_no_turn_and_keeps_lengths(shape):
    x, (cos, sin) = np.random.default_rng(0).standard_normal(shape), angles(shape[1], shape[3] // 2)
    places = PLACES[:, : shape[1]]
    y = kernels.rotary_forward(x, cos, sin, places)
    np.testing.assert_allclose(kernels.rotary_backward(y, cos, sin, places), x, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-13)
    np.testing.assert_array_equal(y[:, 0], x[:, 0])


def test_products_of_queries_and_keys_depend_only_on_their_distance():
    rng = np.random.default_rng(0)
    query, key = rng.standard_normal(16), rng.standard_normal(16)
    cos, sin = angles(30, 8)
    turned = [kernels.rotary_forward(np.tile(v, (1, 30, 1, 1)), cos, sin, PLACES[:, :30])[0, :, 0] for v in (query, key)]
    for distance in (0, 1, 9):
        products = [turned[0][t + distance] @ turned[1][t] for t in range(20)]
        np.testing.assert_allclose(products, products[0], rtol=1e-12)


def test_any_number_of_threads_gives_the_same_bits():
    x = np.random.default_rng(0).standard_normal((3, 70, 4, 32), np.float32)
    cos, sin = (a.astype(np.float32) for a in angles(70, 16))
    assert_same_bits_on_any_number_of_threads("rotary_forward", x, cos, sin, PLACES[:, :70])
    assert_same_bits_on_any_number_of_threads("rotary_backward", x, cos, sin, PLACES[:, :70])
    assert_like_twin("rotary_forward", x, cos, sin, np.tile(PLACES[:, 69::-1], (3, 1)), ulps=2, size=5.0)
