"""The compiled matrix product against the equation in float64: every layout, every edge, any number of threads."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, laid_out
from twin import kernel_threads

from tinyllm import kernels

DTYPES = ["float32", "float64"]
OPERANDS = st.sampled_from([*LAYOUTS, "one row repeated"])
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 97, 128, 130, 400]))


def assert_close(got, a, b):
    """|error| stays below one rounding of every term: eps · √K-ish · Σ|a||b|; a wrong or missing term is far outside."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert got.dtype == a.dtype and got.shape == exact.shape
    assert np.all(np.abs(got - exact) <= np.finfo(a.dtype).eps * (2 + np.sqrt(a.shape[-1])) * size)


def operand(rng, shape, dtype, layout):
    """Random numbers in a layout of the shared list, or one row that stands for all (a stride of 0)."""
    x = rng.standard_normal(shape).astype(dtype)
    return np.broadcast_to(x[..., :1, :], shape) if layout == "one row repeated" else laid_out(x, layout)


@given(
    shape=st.tuples(SIZES, SIZES, SIZES),
    layouts=st.tuples(OPERANDS, OPERANDS),
    batches=st.sampled_from([((), ()), ((3,), ()), ((2, 3), ()), ((), (2,)), ((2, 1), (3,)), ((2, 3), (2, 3)), ((0,), ())]),
    dtype=st.sampled_from(DTYPES),
)
def test_any_layout_gives_the_product(shape, layouts, batches, dtype):
    (m, n, k), rng = shape, np.random.default_rng(sum(shape))
    a, b = operand(rng, (*batches[0], m, k), dtype, layouts[0]), operand(rng, (*batches[1], k, n), dtype, layouts[1])
    got = kernels.matmul(a, b)
    assert got.flags.c_contiguous
    assert_close(got, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 12, 13, 23, 24, 25, 47, 49])
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 31, 32, 33, 48, 65])
def test_tile_edges_touch_nothing_outside(rows, columns, dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((rows, 50)).astype(dtype), rng.standard_normal((50, columns)).astype(dtype)
    for right in (b, np.asfortranarray(b)):
        frame = np.full((rows + 4, columns + 70), 7.0, dtype)
        out = frame[2:-2, 3 : 3 + columns]
        assert kernels.matmul(a, right, out=out) is out
        assert_close(out, a, right)
        out[...] = 7
        assert np.all(frame == 7)


@pytest.mark.parametrize("rows", [3, 200])
@pytest.mark.parametrize("columns", [40, 333])
@pytest.mark.parametrize("depth", [383, 384, 385, 769, 1500])
def test_long_sums_cross_the_depth_blocks(rows, columns, depth):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((rows, depth)).astype("f"), rng.standard_normal((depth, columns)).astype("f")
    assert_close(kernels.matmul(a, b), a, b)
    turned = np.asfortranarray(a), np.asfortranarray(b)
    assert_close(kernels.matmul(*turned), a, b)


def test_no_less_precise_than_numpy():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((256, 1024)).astype("f"), rng.standard_normal((1024, 256)).astype("f")
    exact = a.astype("d") @ b.astype("d")
    ours, numpys = (np.sqrt(np.mean((got - exact) ** 2)) for got in (kernels.matmul(a, b), a @ b))
    assert ours <= 2 * numpys


@pytest.mark.parametrize("shape", [(768, 384, 128), (128, 384, 768), (4, 768, 768), (100, 65, 1000)])
@pytest.mark.parametrize("turn", ["nn", "nt", "tn", "tt"])
def test_same_bits_on_any_number_of_threads(shape, turn):
    (m, n, k), rng = shape, np.random.default_rng(3)
    a, b = rng.standard_normal((m, k)).astype("f"), rng.standard_normal((k, n)).astype("f")
    a = np.asfortranarray(a) if turn[0] == "t" else a
    b = np.asfortranarray(b) if turn[1] == "t" else b
    results = []
    for n_threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        with kernel_threads(n_threads):
            results.append(kernels.matmul(a, b).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("rows", [1, 5, 30])
def test_nan_stays_in_its_row_and_column(rows):
    a, b = np.ones((rows, 70), "f"), np.ones((70, 50), "f")
    a[0, 3], b[5, 7] = np.nan, np.inf
    got = kernels.matmul(a, b)
    assert np.isnan(got[0]).all() and np.isinf(got[1:, 7]).all()
    assert np.all(np.delete(got, 7, axis=1)[1:] == 70)


def test_empty_sum_is_zero_even_in_used_memory():
    out = np.full((20, 40), np.nan, "f")
    kernels.matmul(np.empty((20, 0), "f"), np.empty((0, 40), "f"), out=out)
    assert np.all(out == 0)


@pytest.mark.parametrize("layout", ["transposed", "reversed", "batch"])
def test_out_may_have_any_strides(layout):
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 20, 30)).astype("f"), rng.standard_normal((30, 10)).astype("f")
    frame = np.zeros((2, 40, 40), "f")
    turned, reverse, rows = frame[:, :10, :20].swapaxes(1, 2), frame[:, 19::-1, 9::-1], frame[:, ::2, :10]
    out = {"transposed": turned, "reversed": reverse, "batch": rows}[layout]
    assert kernels.matmul(a, b, out=out) is out
    assert_close(out, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 8, 9])
def test_few_rows_and_a_wide_b_that_is_contiguous_in_no_direction(rows, dtype):
    """Wider than a packed slab: each task's block has to stay within it."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((rows, 500)).astype(dtype), rng.standard_normal((1000, 6000)).astype(dtype)[::2, ::2]
    assert_close(kernels.matmul(a, b), a, b)
    batched = kernels.matmul(np.stack([a, -a]), np.stack([b, b]))
    assert_close(batched[1], -a, b)


F32, F64 = np.ones((2, 3), np.float32), np.ones((2, 3))


@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        (F32, F64.T, None),
        (F32, F32, None),
        (F32[0], F32.T, None),
        (F32.astype(np.int64), F32.T.astype(np.int64), None),
        (F32.astype(np.float16), F32.T.astype(np.float16), None),
        (F32.astype(">f4"), F32.T.astype(">f4"), None),
        (F32, F32.T, np.empty((2, 2))),
        (F32, F32.T, np.empty((3, 2), np.float32)),
        (F32, F32.T, np.broadcast_to(np.float32(0), (2, 2))),
        (F32, F32.T, F32[:, :2]),
        (F32[None], F32.T[None], np.empty((2, 2, 2), np.float32)),
    ],
    ids=lambda x: "none" if x is None else f"{x.dtype.str}{x.shape}",
)
def test_operands_that_would_be_misread_are_refused(a, b, out):
    from tinyllm.kernels.product.matrix_product import matmul

    with pytest.raises(ValueError, match="matmul: .* came"):
        matmul(a, b, out)


@pytest.mark.parametrize(
    "arrays",
    [
        {"bias": np.ones(3, np.float32)},
        {"bias": np.ones(2)},
        {"residual": np.ones((99, 3), np.float32)},
        {"residual": np.ones((98, 2), np.float32)},
        {"residual": np.ones((99, 2))},
    ],
    ids=lambda arrays: str({name: (x.dtype.name, x.shape) for name, x in arrays.items()}),
)
def test_what_is_added_to_a_product_must_fit_it(arrays):
    from tinyllm.kernels.product.linear import linear_forward

    with pytest.raises(ValueError, match="matmul: (bias|first) .* came"):
        linear_forward(np.ones((99, 3), np.float32), F32, **arrays)


def test_a_sum_goes_into_contiguous_memory_only():
    from tinyllm.kernels.product.linear import matmul_add

    with pytest.raises(ValueError, match="out has strides"):
        matmul_add(F32, F32.T, np.zeros((2, 2), np.float32).T[:, ::-1])
