"""A row's bits depend on the row alone, where that is asked for."""

import threading

import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.kernels.invariance import batch_invariance, batch_invariant

compiled_only = pytest.mark.skipif(kernels.backend() == "numpy", reason="BLAS sums in an order of its own")


@compiled_only
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_products_do_not_depend_on_how_many_there_are(dtype):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((70, 500), (96, 500), (96,)))
    gate, square = rng.standard_normal((70, 96)).astype(dtype), rng.standard_normal((500, 40)).astype(dtype)
    calls = [
        lambda n: kernels.linear_forward(x[:n], weight, bias),
        lambda n: kernels.linear_gelu_forward(x[:n], weight, bias)[1],
        lambda n: kernels.linear_silu_gate_forward(x[:n], weight, gate[:n])[1],
        lambda n: kernels.matmul(x[:n], square),
    ]
    for call in calls:
        with batch_invariant():
            whole = call(70)
            for n in (1, 2, 11, 31, 33, 64):
                assert np.array_equal(call(n), whole[:n])
        np.testing.assert_allclose(call(3), whole[:3], rtol=1e-4, atol=1e-6)
    assert not np.array_equal(calls[0](3), calls[0](70)[:3])  # otherwise nothing need be asked for


def test_it_is_asked_for_in_one_thread_and_only_inside():
    seen = []
    with batch_invariant():
        assert batch_invariance()
        with batch_invariant():
            pass
        assert batch_invariance()
        thread = threading.Thread(target=lambda: seen.append(batch_invariance()))
        thread.start()
        thread.join()
    assert seen == [False] and not batch_invariance()
