import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, arrays_with_layout, laid_out, shapes
from twin import assert_gradient, assert_like_twin, assert_same_bits_on_any_number_of_threads, numeric_gradient

from tinyllm import kernels
from tinyllm.kernels import reference

NAMES = ["gelu_tanh", "gelu_erf", "silu"]
SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 5.0, -5.0, 20.0, -20.0, -90.0, 1e4, -1e4, 1e30, -1e30, np.inf, np.nan]


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), shape=st.one_of(st.just(()), shapes()), dtype=DTYPES, scale=st.sampled_from([0.01, 1.0, 10.0]))
def test_values_and_gradients_match_the_twin(name, data, shape, dtype, scale):
    x = data.draw(arrays_with_layout(shape, dtype, scale=scale))
    dy = data.draw(arrays_with_layout(shape, dtype))
    assert_like_twin(f"{name}_forward", x, ulps=8, size=float(np.abs(x).max(initial=0)))
    # The slope of gelu_tanh multiplies a small s (1 - s) by a large 2u', hence the room.
    assert_like_twin(f"{name}_backward", dy, x, ulps=16, size=float(np.abs(dy).max(initial=0)))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_match_central_differences(name):
    rng = np.random.default_rng(1)
    x, dy = 3 * rng.standard_normal((7, 5)), rng.standard_normal((7, 5))
    wanted = numeric_gradient(getattr(reference, f"{name}_forward"), x, dy)
    assert_gradient(getattr(kernels, f"{name}_backward")(dy, x), wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_numbers_give_the_limits_and_nan_stays_nan(name, dtype):
    x = np.array(SPECIAL, dtype)
    y = assert_like_twin(f"{name}_forward", x, ulps=8, size=20.0)[0]
    assert np.isnan(y[-1]) and not np.isnan(y[:-1]).any()
    dx = assert_like_twin(f"{name}_backward", np.ones_like(x), x, ulps=16, size=1.0)[0][:-1]
    assert np.isfinite(dx).all() and abs(dx[-2]) <= 1e-30 and dx[-1] == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [16384, 16385, 70001])
def test_the_parallel_loop_gives_the_bits_of_the_serial_one(name, size):
    x = np.linspace(-9, 9, size, dtype=np.float32)
    forward, backward = getattr(kernels, f"{name}_forward"), getattr(kernels, f"{name}_backward")
    pieces = np.array_split(x, 8)
    np.testing.assert_allclose(forward(x), np.concatenate([forward(p) for p in pieces]), rtol=3e-7, atol=1e-9)
    assert_same_bits_on_any_number_of_threads(f"{name}_forward", x)
    assert_same_bits_on_any_number_of_threads(f"{name}_backward", laid_out(x, "strided"), x)
    assert backward(x, x).shape == x.shape


def test_known_values():
    """gelu(1) = Φ(1) = 0.8413447; silu(1) = σ(1) = 0.7310586; the tanh form is 3e-4 off at most, here 1.5e-4."""
    one = np.array([1.0])
    assert kernels.gelu_erf_forward(one)[0] == pytest.approx(0.8413447460685429, abs=1e-15)
    assert kernels.silu_forward(one)[0] == pytest.approx(0.7310585786300049, abs=1e-15)
    assert kernels.gelu_tanh_forward(one)[0] == pytest.approx(0.8411919906082768, abs=1e-15)
