"""Products with few rows: dots and sweeps agree with the equation, whatever the edges, and with themselves."""

import numba
import numpy as np
import pytest
from twin import kernel_threads

from tinyllm import kernels


def assert_close(got, a, b):
    exact = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert got.dtype == a.dtype and got.shape == exact.shape
    assert np.all(np.abs(got - exact) <= np.finfo(a.dtype).eps * (2 + np.sqrt(a.shape[-1])) * size)


def in_layout(x, layout):
    return np.asfortranarray(x) if layout == "columns" else x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("depth", [0, 1, 7, 8, 9, 15, 16, 17, 50])
def test_edges_touch_nothing_outside(layout, depth, dtype):
    rng = np.random.default_rng(depth)
    for rows in (*range(1, 14), 32, 33):
        for columns in (1, 2, 3, 5, 31, 33, 63, 64, 65, 130):
            a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
            frame = np.full((rows + 4, columns + 70), 7.0, dtype)
            out = frame[2:-2, 3 : 3 + columns]
            assert kernels.matmul(a, in_layout(b, layout), out=out) is out
            assert_close(out, a, b)
            out[...] = 7
            assert np.all(frame == 7)


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("rows", [1, 2, 7, 12, 13, 31, 32])
def test_large_products_are_right_and_have_the_same_bits_on_any_number_of_threads(layout, rows):
    rng = np.random.default_rng(rows)
    a, b = rng.standard_normal((rows, 770), np.float32), in_layout(rng.standard_normal((770, 1001), np.float32), layout)
    results = []
    for n_threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        with kernel_threads(n_threads):
            results.append(kernels.matmul(a, b))
    assert_close(results[0], a, b)
    assert len({result.tobytes() for result in results}) == 1


@pytest.mark.skipif(kernels.backend() == "numpy", reason="NumPy chooses another BLAS routine for one row")
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_a_row_gives_the_same_bits_alone_and_among_others(layout):
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((12, 300), np.float32), in_layout(rng.standard_normal((300, 90), np.float32), layout)
    together = kernels.matmul(a, b)
    for i in range(len(a)):
        np.testing.assert_array_equal(kernels.matmul(a[i : i + 1], b)[0], together[i])


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_a_is_read_with_any_strides(layout):
    rng = np.random.default_rng(6)
    wide, b = rng.standard_normal((20, 40), np.float32), in_layout(rng.standard_normal((20, 70), np.float32), layout)
    for a in (wide[:, ::2][:, :8].T, wide[::-1, 5:6].T, np.broadcast_to(wide[:1, :20], (3, 20)), wide[3:9, 20:0:-1]):
        assert_close(kernels.matmul(a, b), a, b)
