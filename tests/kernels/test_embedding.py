import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, arrays_with_layout, integers_with_layout, shapes
from twin import assert_gradient, assert_like_twin, assert_same_bits_on_any_number_of_threads, numeric_gradient

from tinyllm import kernels
from tinyllm.kernels import reference


@given(data=st.data(), v=st.integers(1, 9), c=st.integers(1, 20), shape=st.one_of(st.just(()), shapes()), dtype=DTYPES)
def test_rows_are_copied_and_gradients_added_like_the_twin(data, v, c, shape, dtype):
    weight = data.draw(arrays_with_layout((v, c), dtype))
    ids = data.draw(integers_with_layout(shape, v))
    dy = data.draw(arrays_with_layout((*shape, c), dtype))
    np.testing.assert_array_equal(kernels.embedding_forward(weight, ids), weight[ids])
    assert_like_twin("embedding_forward", weight, ids, ulps=0)
    assert_like_twin("embedding_backward", dy, ids, v, ulps=2, size=float(np.abs(dy).sum()))


def test_gradients_match_central_differences():
    rng = np.random.default_rng(6)
    weight, ids, dy = rng.standard_normal((5, 3)), rng.integers(0, 5, (2, 4)), rng.standard_normal((2, 4, 3))
    wanted = numeric_gradient(lambda w: reference.embedding_forward(w, ids), weight, dy)
    assert_gradient(kernels.embedding_backward(dy, ids, 5), wanted)


@pytest.mark.parametrize("ids_of", ["uniform", "all the same", "mostly one", "sorted", "few"])
@pytest.mark.parametrize("c", [5, 130])
def test_additions_happen_in_the_order_of_the_tokens(ids_of, c):
    """The same float32 sums, bit for bit, as a loop over the tokens; so neither threads nor sorting change a digit."""
    rng = np.random.default_rng(0)
    n, v = 4000, 300
    ids = {
        "uniform": rng.integers(0, v, n),
        "all the same": np.full(n, 7),
        "mostly one": np.where(rng.random(n) < 0.9, 3, rng.integers(0, v, n)),
        "sorted": np.sort(rng.integers(0, v, n)),
        "few": rng.integers(0, 2, n),
    }[ids_of]
    dy = rng.standard_normal((n, c), np.float32)
    wanted = np.zeros((v, c), np.float32)
    for token, row in zip(ids, dy, strict=True):
        wanted[token] += row
    np.testing.assert_array_equal(kernels.embedding_backward(dy, ids, v), wanted)
    assert_same_bits_on_any_number_of_threads("embedding_backward", dy, ids, v)
    assert_same_bits_on_any_number_of_threads("embedding_forward", wanted, ids)


def test_rows_without_tokens_get_zeros_and_no_tokens_are_fine():
    assert (kernels.embedding_backward(np.zeros((0, 3), np.float32), np.zeros(0, int), 4) == np.zeros((4, 3))).all()
    dweight = kernels.embedding_backward(np.ones((2, 3)), np.array([1, 1]), 3)
    assert dweight.tolist() == [[0] * 3, [2] * 3, [0] * 3]


def test_nan_reaches_only_its_own_row():
    dy = np.ones((3, 2), np.float32)
    dy[1, 0] = np.nan
    assert np.isnan(kernels.embedding_backward(dy, np.array([0, 1, 2]), 3)).tolist() == [[0, 0], [1, 0], [0, 0]]


def test_gradients_are_added_to_what_is_there():
    there, dy, ids = np.full((4, 2), 10.0, np.float32), np.ones((3, 2), np.float32), np.array([1, 1, 3])
    for embedding_backward in (kernels.embedding_backward, reference.embedding_backward):
        out = there.copy()
        assert embedding_backward(dy, ids, 4, out=out) is out
        assert out[:, 0].tolist() == [10, 12, 10, 11]
