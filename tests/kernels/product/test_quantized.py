"""int8 weights: the compiled product against its twin, every layout and number of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, LAYOUTS, arrays_with_layout, laid_out
from twin import assert_like_twin, assert_same_bits_on_any_number_of_threads

from tinyllm import kernels

SIZES = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 130, 400]))


@given(data=st.data(), n=SIZES, n_in=SIZES, n_out=SIZES, dtype=DTYPES, layout=st.sampled_from(LAYOUTS), biased=st.booleans())
def test_any_layout_gives_the_product(data, n, n_in, n_out, dtype, layout, biased):
    x, scale = data.draw(arrays_with_layout((n, n_in), dtype)), data.draw(arrays_with_layout((n_out,), dtype))
    weight = laid_out(np.random.default_rng(n).integers(-127, 128, (n_out, n_in)).astype(np.int8), layout)
    bias = data.draw(arrays_with_layout((n_out,), dtype)) if biased else None
    size = 127 * float(np.abs(scale).max(initial=0)) * float(np.abs(x).sum(axis=-1).max(initial=0)) + 5
    assert_like_twin("int8_linear_forward", x, weight, scale, bias, ulps=2 + np.sqrt(n_in), size=size)


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_same_bits_on_any_number_of_threads(rows):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((rows, 770), np.float32), rng.integers(-127, 128, (901, 770)).astype(np.int8)
    scale = rng.random(901, np.float32)
    assert_same_bits_on_any_number_of_threads("int8_linear_forward", x, weight, scale, scale)


@pytest.mark.skipif(kernels.backend() == "numpy", reason="NumPy chooses another BLAS routine for one row")
def test_a_row_gives_the_same_bits_alone_and_among_others():
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((23, 300), np.float32), rng.integers(-127, 128, (50, 300)).astype(np.int8)
    scale = rng.random(50, np.float32)
    together = kernels.int8_linear_forward(x, weight, scale)
    for row, wanted in zip(x, together, strict=True):
        np.testing.assert_array_equal(kernels.int8_linear_forward(row[None], weight, scale)[0], wanted)


def test_the_whole_range_of_int8_counts():
    x, weight = np.eye(2, dtype=np.float32), np.array([[-128, 127], [0, 1]], np.int8)
    y = kernels.int8_linear_forward(x, weight, np.array([1, 2], np.float32), np.array([0, 1], np.float32))
    assert y.tolist() == [[-128, 1], [127, 3]]


@pytest.mark.parametrize("wrong", ["depth", "scale", "bias", "weight"])
def test_arrays_that_would_be_misread_are_refused(wrong):
    from tinyllm.kernels.product.quantized import int8_linear_forward

    x, weight, scale, bias = np.ones((2, 3), np.float32), np.ones((4, 3), np.int8), np.ones(4, np.float32), np.ones(4, np.float32)
    x, scale = x[:, :2] if wrong == "depth" else x, scale[:3] if wrong == "scale" else scale
    weight, bias = weight.astype(np.int16) if wrong == "weight" else weight, bias.astype(float) if wrong == "bias" else bias
    with pytest.raises(ValueError, match="int8_linear_forward: .* came"):
        int8_linear_forward(x, weight, scale, bias)
