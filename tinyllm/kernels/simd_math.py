"""exp, log, tanh, erf and the sigmoid as straight lines of arithmetic, so that 16 numbers go through at once.

Inside a compiled loop `np.exp` is a call for every single number. Here the argument is cut down to a short interval where
a polynomial of low degree is exact to the last digit or two, without branches and calls, and LLVM makes vector code of it:
    exp(x) = 2ⁿ exp(r),   n = round(x / ln 2),   |r| ≤ ½ ln 2      (Muller, Elementary Functions, 3rd ed., §11.1)
tanh and erf are written with expm1(x) = exp(x) - 1, which keeps the digits of small results. The coefficients are minimax
fits made for this file, rounded to float32. float64 is for checking gradients, not for speed: it goes to the C library.
Errors in units of the last place are asserted in tests/kernels/test_simd_math.py.
"""

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

# Only contraction (fused multiply-add). Reassociation would undo `t - SHIFT` and join the two halves of ln 2 below.
OPTIONS: Any = {"fastmath": {"contract"}, "error_model": "numpy", "forceinline": True}

LOG2_E = np.float32(1.4426950408889634)
LN_2_HIGH = np.float32(0.693359375)  # few bits: n · LN_2_HIGH is exact
LN_2_LOW = np.float32(-2.12194440e-4)
SHIFT = np.float32(12582912.0)  # 1.5 · 2²³: adding it rounds a float32 to an integer, found in its low bits
SHIFT_BITS = np.int32(0x4B400000)
ONE, TWO, HALF, INFINITY = np.float32(1.0), np.float32(2.0), np.float32(0.5), np.float32(np.inf)
LOWEST_POWER = np.float32(-126.0)  # the smallest normal number is 2 to this
LOWEST, HIGHEST = np.float32(-104.0), np.float32(89.0)  # exp is 0 and inf beyond
SATURATED = np.float32(-40.0)  # 1 + expm1 is lost below
SMALLEST_NORMAL, TWO_23 = np.float32(2.0**-126), np.float32(2.0**23)
SQRT_HALF_BITS = np.int32(0x3F3504F3)
ERF_IS_ONE = np.float32(4.0)

# Highest power first, as Horner's rule eats them.
# (exp(r) - 1 - r) / r²   on |r| ≤ ½ ln 2
EXP = tuple(map(np.float32, (1.3950489e-3, 8.3688898e-3, 4.1666206e-2, 1.6666518e-1, 0.5)))
# (2ʳ - 1) / r   on |r| ≤ ½
POWER = tuple(map(np.float32, (1.3264727e-3, 9.671513e-3, 5.5507336e-2, 2.4022242e-1, 6.93147e-1)))
# (log(1 + f) - 2s) / s³ by z = s²,   s = f / (2 + f),   √½ ≤ 1 + f < √2
LOG = tuple(map(np.float32, (2.3582438e-1, 2.8537294e-1, 4.0000334e-1, 6.6666663e-1)))
# -log(1 - erf(x)) / x   on 0 ≤ x ≤ 4
ERF = tuple(
    map(
        np.float32,
        (
            *(-9.2563641e-6, 1.1764211e-4, -6.3283968e-4, 1.6670322e-3, -1.6040049e-4),
            *(-1.9153062e-2, 1.0277783e-1, 6.3661939e-1, 1.1283792),
        ),
    )
)


@njit(**OPTIONS)
def _horner(x, coefficients):
    """(((c₀ x + c₁) x + c₂) x + ...)"""
    value = coefficients[0]
    for c in coefficients[1:]:
        value = value * x + c
    return value


@njit(**OPTIONS)
def _two_to_the(n):
    """2ⁿ for -126 ≤ n ≤ 127: n is written where a float32 keeps its exponent."""
    return np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(**OPTIONS)
def _split_exp(x):
    """n and e with exp(x) = 2ⁿ (1 + e),   e = exp(r) - 1,   for x in [LOWEST, HIGHEST] (nan gives e = nan)."""
    shifted = x * LOG2_E + SHIFT
    whole = shifted - SHIFT
    r = (x - whole * LN_2_HIGH) - whole * LN_2_LOW
    n = np.int32(np.float32(shifted).view(np.int32) - SHIFT_BITS)
    return n, r * r * _horner(r, EXP) + r


@njit(**OPTIONS)
def _exp_float32(x):
    # The comparisons are written so that nan fails them and goes on.
    x = HIGHEST if x > HIGHEST else x
    x = LOWEST if x < LOWEST else x
    n, e = _split_exp(x)
    half = np.int32(n >> np.int32(1))  # in two factors, because 2ⁿ itself may be out of range: denormals, overflow
    return (ONE + e) * _two_to_the(half) * _two_to_the(np.int32(n - half))


@njit(**OPTIONS)
def _power_of_two_float32(x):
    # 2ⁿ (1 + r P(r)): n is added to the exponent field, where it stands in the low bits of `shifted` already.
    shifted = x + SHIFT
    r = x - (shifted - SHIFT)
    bits = np.float32(_horner(r, POWER) * r + ONE).view(np.int32)
    raised = np.int32(bits + np.int32(np.float32(shifted).view(np.int32) << np.int32(23))).view(np.float32)
    return np.float32(0.0) if x < LOWEST_POWER else raised


@njit(**OPTIONS)
def _expm1_float32(x):
    """exp(x) - 1 for x ≤ 0."""
    n, e = _split_exp(SATURATED if x < SATURATED else x)
    power = _two_to_the(n)
    return power * e + (power - ONE)


@njit(**OPTIONS)
def _log_float32(x):
    """log(2ᵉ (1 + f)) = e ln 2 + log(1 + f)"""
    denormal = x < SMALLEST_NORMAL
    bits = np.float32(x * TWO_23 if denormal else x).view(np.int32)
    exponent = np.int32(np.int32(bits - SQRT_HALF_BITS) >> np.int32(23))
    f = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32) - ONE
    e = np.float32(exponent) - (np.float32(23.0) if denormal else np.float32(0.0))
    s, half_square = f / (TWO + f), HALF * f * f
    z = s * s
    # 2s = f - f²/2 + s f²/2: so the large term f enters without a rounding error.
    rest = s * (half_square + z * _horner(z, LOG)) + e * LN_2_LOW
    y = e * LN_2_HIGH - ((half_square - rest) - f)
    y = y if x < INFINITY else x  # inf and nan
    y = -INFINITY if x == np.float32(0.0) else y
    return np.float32(np.nan) if x < np.float32(0.0) else y


@njit(**OPTIONS)
def _tanh_float32(x):
    """tanh |x| = -m / (2 + m),   m = exp(-2|x|) - 1"""
    m = _expm1_float32(-TWO * abs(x))
    return math.copysign(-m / (TWO + m), x)


@njit(**OPTIONS)
def _erf_float32(x):
    """erf |x| = 1 - exp(-|x| P(|x|)); the polynomial P is nearly flat because erfc falls like exp(-x²)."""
    size = abs(x)
    size = ERF_IS_ONE if size > ERF_IS_ONE else size
    return math.copysign(-_expm1_float32(-size * _horner(size, ERF)), x)


# ------------------------------------------------------------------------------------- what the kernels call


def exp(x: float) -> float:
    """exp(x) of a float32 or float64 scalar, inside a kernel."""
    return np.exp(x)


def power_of_two(x: float) -> float:
    """2ˣ of a scalar x < 128, in half the instructions of `exp`; 0 where 2ˣ is below the smallest normal float32."""
    return np.exp2(x)


def log(x: float) -> float:
    """Natural logarithm of a scalar: log(0) = -inf, log(negative) = nan."""
    return np.log(x)


def tanh(x: float) -> float:
    """Hyperbolic tangent of a scalar."""
    return np.tanh(x)


def erf(x: float) -> float:
    """2/√π ∫₀ˣ exp(-t²) dt of a scalar."""
    return type(x)(math.erf(x))


@overload(exp, jit_options=OPTIONS)
def _exp(x):
    return _exp_float32.py_func if x == types.float32 else lambda x: np.exp(x)


@overload(power_of_two, jit_options=OPTIONS)
def _power_of_two(x):
    return _power_of_two_float32.py_func if x == types.float32 else lambda x: np.exp2(x)


@overload(log, jit_options=OPTIONS)
def _log(x):
    return _log_float32.py_func if x == types.float32 else lambda x: np.log(x)


@overload(tanh, jit_options=OPTIONS)
def _tanh(x):
    return _tanh_float32.py_func if x == types.float32 else lambda x: np.tanh(x)


@overload(erf, jit_options=OPTIONS)
def _erf(x):
    return _erf_float32.py_func if x == types.float32 else lambda x: math.erf(x)


def largest(row: np.ndarray) -> float:
    """The largest number of a row (1-D, contiguous). With a nan in it: that nan, or the largest of the others."""
    value = row[0]
    for x in row:
        value = max(value, x)
    return value


def _largest_float32(row):
    """The same by integers: a float32's bits are ordered like the numbers, except that negative ones run backwards.

    LLVM makes vector code of an integer maximum, and not of a floating-point one, because of nan: 5 times faster.
    """
    value = np.int32(-0x80000000)
    ordered = row.view(np.int32)
    for j in range(ordered.size):  # an iterator would keep LLVM from seeing how long the loop is
        bits = ordered[j]
        value = max(value, np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return np.int32(value ^ ((value >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


def _largest_float64(row):
    value = row[0]
    for j in range(row.size):
        value = max(value, row[j])
    return value


@overload(largest, jit_options=OPTIONS)
def _largest(row):
    return _largest_float32 if row.dtype == types.float32 else _largest_float64


@njit(**OPTIONS)
def minus(a: float, b: float) -> float:
    """a - b, kept as written. Elsewhere in a kernel sums may be reordered, and c - (a - b) as (c + b) - a may lose its digits."""
    return a - b


@njit(**OPTIONS)
def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) of a scalar, with exp only of negative numbers: it cannot overflow, and keeps its left tail."""
    e = exp(-abs(x))
    one = type(x)(1)
    return (one if x >= 0 else e) / (one + e)
