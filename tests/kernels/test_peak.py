"""The measured peak: the arithmetic that is timed is really done, and no product of matrices is faster."""

import time

import numpy as np
import pytest

from tinyllm import kernels

pytestmark = pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_steps", [0, 1, 2, 5])
def test_each_thread_does_every_step_of_all_twelve_sums(n_steps, dtype):
    from tinyllm.kernels.peak import VECTORS, _work

    x = np.array([0.5, 0.25, 2.0], dtype)
    sums = x.copy()
    for _ in range(n_steps):
        sums = sums * x + x
    _work(n_steps, x)
    np.testing.assert_allclose(x, VECTORS * sums, rtol=1e-6)


def test_the_peak_is_above_what_a_matrix_product_reaches():
    from tinyllm.kernels.peak import peak_flops

    a = np.ones((512, 512), "f")
    kernels.matmul(a, a)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        kernels.matmul(a, a)
        times.append(time.perf_counter() - start)
    assert 2 * 512**3 / min(times) < 1.1 * peak_flops()
