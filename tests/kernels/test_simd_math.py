"""The scalar functions are compiled into a bare loop here, as they are in the kernels."""

import math
import os
import platform

import numpy as np
import pytest

if os.environ.get("NUMBA_DISABLE_JIT") == "1":
    pytest.skip("without Numba these are NumPy's own functions", allow_module_level=True)

import numba

from tinyllm.kernels import simd_math

jit = numba.njit(error_model="numpy")  # not kept on disk: the machine code of a cached kernel cannot be looked at

erf64 = np.vectorize(math.erf, otypes=[float])


@jit
def exp_loop(x, y):
    for i in range(x.size):
        y[i] = simd_math.exp(x[i])


@jit
def power_loop(x, y):
    for i in range(x.size):
        y[i] = simd_math.power_of_two(x[i])


@jit
def log_loop(x, y):
    for i in range(x.size):
        y[i] = simd_math.log(x[i])


@jit
def tanh_loop(x, y):
    for i in range(x.size):
        y[i] = simd_math.tanh(x[i])


@jit
def erf_loop(x, y):
    for i in range(x.size):
        y[i] = simd_math.erf(x[i])


@jit
def sigmoid_loop(x, y):
    for i in range(x.size):
        y[i] = simd_math.sigmoid(x[i])


@jit
def largest_of(x):
    return simd_math.largest(x)


def sigmoid64(x):
    return np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


# name: loop, float64 reference, where to look, worst error in units of the last place in float32 and float64
FUNCTIONS = {
    "exp": (exp_loop, np.exp, (-104.5, 89.5), 1.1, 1.0),
    "power_of_two": (power_loop, np.exp2, (-126.0, 127.5), 2.1, 1.0),
    "log": (log_loop, np.log, (0.0, 10.0), 1.0, 1.0),
    "tanh": (tanh_loop, np.tanh, (-12.0, 12.0), 2.6, 4.0),
    "erf": (erf_loop, erf64, (-5.0, 5.0), 2.6, 1.0),
    "sigmoid": (sigmoid_loop, sigmoid64, (-105.0, 105.0), 2.2, 2.0),
}


def apply(loop, x):
    y = np.full_like(x, 7)
    loop(x, y)
    return y


def dense_sample(low, high, dtype):
    """Even steps over the range, around 0, and magnitudes down to the denormals on both sides."""
    tiny = np.geomspace(1e-44, 1e-2, 20_001)
    x = np.concatenate([np.linspace(low, high, 300_001), np.linspace(-1, 1, 100_001), tiny, -tiny, [0.0, low, high]])
    return x[(x >= low) & (x <= high)].astype(dtype)


def ulp_error(y, exact):
    """|y - exact| in units of the last place of y's dtype at the exact value."""
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = exact.astype(y.dtype)
        error = np.abs(y.astype(np.float64) - exact) / np.spacing(np.abs(nearest)).astype(np.float64)
    return np.where(nearest == y, 0.0, error)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_errors_stay_within_the_table(name):
    loop, exact, (low, high), worst, _ = FUNCTIONS[name]
    x = dense_sample(low, high, np.float32)
    with np.errstate(all="ignore"):
        error = ulp_error(apply(loop, x), exact(x.astype(np.float64)))
    assert error.max() <= worst, f"{error.max():.2f} ulp at x = {x[error.argmax()]!r}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_is_the_c_library(name):
    loop, exact, (low, high), _, worst = FUNCTIONS[name]
    x = dense_sample(low, high, np.float64)
    with np.errstate(all="ignore"):
        assert ulp_error(apply(loop, x), exact(x)).max() <= worst


def test_log_of_every_magnitude_including_denormals():
    x = np.arange(1, 0x7F800000, 7919, dtype=np.uint32).view(np.float32)
    assert ulp_error(apply(log_loop, x), np.log(x.astype(np.float64))).max() <= 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("exp", [np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30], [np.inf, 0, 1, 1, np.inf, 0]),
        ("power_of_two", [-np.inf, -1e30, -1100.0, 0.0, -0.0, -1.0, 100.0], [0, 0, 0, 1, 1, 0.5, 2.0**100]),
        ("log", [np.inf, 0.0, -0.0, 1.0, -1.0, -np.inf], [np.inf, -np.inf, -np.inf, 0, np.nan, np.nan]),
        ("tanh", [np.inf, -np.inf, 0.0, -0.0, 1e30], [1, -1, 0.0, -0.0, 1]),
        ("erf", [np.inf, -np.inf, 0.0, -0.0, 1e30], [1, -1, 0.0, -0.0, 1]),
        ("sigmoid", [np.inf, -np.inf, 0.0, -0.0, -1e30], [1, 0, 0.5, 0.5, 0]),
    ],
)
def test_special_values(name, x, y, dtype):
    result = apply(FUNCTIONS[name][0], np.array([*x, np.nan], dtype))
    np.testing.assert_array_equal(result, np.array([*y, np.nan], dtype))
    signs = [0.0 == value and math.copysign(1, value) < 0 for value in y]
    assert [bool(s) and v == 0 for s, v in zip(np.signbit(result), result, strict=True)][:-1] == signs


def test_exp_of_float32_reaches_the_denormals_and_the_largest_number():
    x = np.array([-87.5, -100.0, -103.9, -104.0, 88.7228, 88.7229], np.float32)
    wanted = np.exp(x.astype(np.float64))
    y = apply(exp_loop, x)
    assert y[2] > 0 and y[3] == 0 and np.isfinite(y[4]) and np.isinf(y[5])
    assert np.all(np.abs(y[:5] - wanted[:5]) <= 1.1 * np.spacing(wanted[:5].astype(np.float32)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_largest_is_the_maximum_and_shows_nan(dtype):
    rng = np.random.default_rng(0)
    for size in (1, 2, 15, 16, 17, 100):
        for x in (rng.standard_normal(size), -np.abs(rng.standard_normal(size)), np.full(size, -np.inf), np.zeros(size)):
            assert largest_of(x.astype(dtype)) == x.astype(dtype).max()
    assert largest_of(np.array([-1, np.inf, 2], dtype)) == np.inf
    assert largest_of(np.array([-0.0, -1e-45], dtype)) == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_loops_call_no_function_and_use_vectors(name):
    """Measured: 0.3 to 0.5 ns a number; a loop that calls the C library needs 2 to 10."""
    loop = FUNCTIONS[name][0]
    apply(loop, np.ones(4, np.float32))
    signature = next(s for s in loop.signatures if s[0].dtype.name == "float32")
    code = loop.inspect_llvm(signature)
    assert not any(f"@{name}f(" in code or f"@llvm.{name}.f32" in code for name in ("exp", "exp2", "log", "tanh", "erf"))
    if platform.machine() in ("x86_64", "AMD64"):
        assembly = loop.inspect_asm(signature)
        assert "zmm" in assembly or "ymm" in assembly or "mulps" in assembly
