"""How a kernel is held against its twin in tinyllm/kernels/reference/, against central differences, and against itself.

Import with `from twin import ...`.
"""

import contextlib

import numpy as np

from tinyllm import kernels
from tinyllm.kernels import reference


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def in_float64(x):
    """Arrays of floats in float64; everything else as it is."""
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def twin(name, *args, **settings):
    """What the twin says when it computes in float64."""
    with np.errstate(all="ignore"):
        return as_tuple(getattr(reference, name)(*map(in_float64, args), **settings))


def assert_like_twin(name, *args, ulps, size=0.0, **settings):
    """The kernel agrees with its float64 twin to ulps · eps · (|value| + size), eps being that of the arguments' dtype.

    Also: the dtype stays, the results are C-contiguous and new, the arguments are untouched. Returns the kernel's results.
    """
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in args]
    results = as_tuple(getattr(kernels, name)(*args, **settings))
    dtype = next(x.dtype for x in args if isinstance(x, np.ndarray) and x.dtype.kind == "f")
    for argument, copy in zip(args, before, strict=True):
        np.testing.assert_array_equal(argument, copy, err_msg=f"{name} changed an argument")
    for result, wanted in zip(results, twin(name, *args, **settings), strict=True):
        assert result.dtype == dtype and result.shape == wanted.shape
        assert kernels.backend() == "numpy" or result.flags.c_contiguous
        assert not any(np.shares_memory(result, x) for x in args if isinstance(x, np.ndarray))
        assert_close(result, wanted, ulps=ulps, size=size, message=name)
    return results


def assert_close(result, wanted, *, ulps, size=0.0, message=""):
    """|result - wanted| ≤ ulps · eps · (|wanted| + size) and the same nan and infinities; eps is that of result's dtype."""
    limits = np.finfo(result.dtype)
    finite = np.isfinite(wanted) & (np.abs(np.where(np.isfinite(wanted), wanted, 0)) < limits.max)
    np.testing.assert_array_equal(result[~finite], wanted[~finite].astype(result.dtype), err_msg=message)
    error = np.abs(result[finite].astype(np.float64) - wanted[finite])
    allowed = ulps * (float(limits.eps) * (np.abs(wanted[finite]) + size) + float(limits.smallest_subnormal))
    worst = np.argmax(error - allowed) if error.size else 0
    if np.any(error > allowed):
        off, value, limit = error[worst], wanted[finite][worst], allowed[worst]
        raise AssertionError(f"{message}: {off:.3g} off at {value:.6g}, allowed {limit:.3g}")


def numeric_gradient(function, x, dy, *, step=1e-5):
    """Σ dy · ∂function/∂x by central differences, number by number; x in float64."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        there, here = x.copy(), x.copy()
        there[index] += step
        here[index] -= step
        gradient[index] = np.sum(dy * (function(there) - function(here))) / (2 * step)
    return gradient


def assert_gradient(result, wanted):
    """Equal up to 1e-6 of the largest entry, which is what central differences in float64 can tell."""
    np.testing.assert_allclose(result, wanted, rtol=1e-6, atol=1e-6 * max(np.abs(wanted).max(initial=0.0), 1e-3))


@contextlib.contextmanager
def kernel_threads(n):
    """Kernels run on n threads inside the block."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(n)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def assert_same_bits_on_any_number_of_threads(name, *args, **settings):
    """One thread, and all there are, three times over: byte for byte the same."""
    import numba

    with kernel_threads(1):
        alone = [x.tobytes() for x in as_tuple(getattr(kernels, name)(*args, **settings))]
    with kernel_threads(numba.config.NUMBA_NUM_THREADS):
        for _ in range(3):
            assert [x.tobytes() for x in as_tuple(getattr(kernels, name)(*args, **settings))] == alone
