import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, arrays_with_layout, integers_with_layout
from twin import assert_gradient, assert_like_twin, assert_same_bits_on_any_number_of_threads, numeric_gradient

from tinyllm import kernels
from tinyllm.kernels import reference

SIDES = st.sampled_from([1, 2, 15, 16, 17, 65, 130])


@given(data=st.data(), n=st.integers(0, 6), v=SIDES, dtype=DTYPES, scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_values_and_gradients_match_the_twin(data, n, v, dtype, scale):
    logits = data.draw(arrays_with_layout((n, v), dtype, scale=scale))
    targets = data.draw(integers_with_layout((n,), v))
    dnll = data.draw(arrays_with_layout((n,), dtype))
    largest = float(np.abs(logits).max(initial=0))
    _, normalizer = assert_like_twin("cross_entropy_forward", logits, targets, ulps=4, size=largest + 5)
    assert_like_twin("cross_entropy_backward", dnll, logits, targets, normalizer, ulps=16, size=1.0)


def test_gradients_match_central_differences():
    rng = np.random.default_rng(3)
    logits, targets, dnll = 2 * rng.standard_normal((5, 7)), rng.integers(0, 7, 5), rng.standard_normal(5)
    _, normalizer = kernels.cross_entropy_forward(logits, targets)
    wanted = numeric_gradient(lambda x: reference.cross_entropy_forward(x, targets)[0], logits, dnll)
    assert_gradient(kernels.cross_entropy_backward(dnll, logits, targets, normalizer), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_logits_cost_the_logarithm_of_their_number(dtype):
    for v in (1, 2, 50, 1000):
        nll, normalizer = kernels.cross_entropy_forward(np.full((2, v), 3, dtype), np.array([0, v - 1]))
        np.testing.assert_allclose(nll, np.log(v), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(normalizer, [[3, v]] * 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_do_not_overflow_and_keep_their_decimals(dtype):
    logits = np.array([[1e30, -1e30], [-1e6, -1e6], [1e6, 1e6], [3e38, 3e38]], dtype)
    nll, _ = kernels.cross_entropy_forward(logits, np.zeros(4, int))
    np.testing.assert_allclose(nll, [0, np.log(2), np.log(2), np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nan_logit_is_seen_in_its_own_row_only(dtype):
    for v in (3, 16, 40):
        for place in (0, 1, v - 1):
            logits = np.zeros((3, v), dtype)
            logits[1, place] = np.nan
            nll, normalizer = kernels.cross_entropy_forward(logits, np.full(3, 1))
            assert np.isnan(nll).tolist() == [False, True, False]
            dlogits = kernels.cross_entropy_backward(np.ones(3, dtype), logits, np.full(3, 1), normalizer)
            assert np.isnan(dlogits[1]).all() and not np.isnan(dlogits[[0, 2]]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minus_infinity_among_the_logits_is_an_impossible_token(dtype):
    logits = np.array([[-np.inf, 0, 0], [-np.inf, 0, 0]], dtype)
    targets = np.array([1, 0])
    nll, normalizer = kernels.cross_entropy_forward(logits, targets)
    assert nll[0] == pytest.approx(np.log(2), rel=1e-6) and np.isposinf(nll[1])
    dlogits = kernels.cross_entropy_backward(np.ones(2, dtype), logits, targets, normalizer)
    np.testing.assert_allclose(dlogits[0], [0, -0.5, 0.5], atol=1e-6)


def test_rows_that_do_not_count_have_zero_gradient_even_with_nan_logits():
    logits = np.array([[np.nan, 1.0], [0.0, 0.0]], np.float32)
    _, normalizer = kernels.cross_entropy_forward(logits, np.array([0, 0]))
    dlogits = kernels.cross_entropy_backward(np.array([0, 2], np.float32), logits, np.array([0, 0]), normalizer)
    np.testing.assert_array_equal(dlogits, np.array([[0, 0], [-1, 1]], np.float32))


def test_gradients_do_not_depend_on_how_high_the_logits_are():
    rng = np.random.default_rng(0)
    logits, targets, dnll = rng.standard_normal((4, 50)), rng.integers(0, 50, 4), np.ones(4, np.float32)
    for offset in (1e4, -1e6):
        high = (logits + offset).astype(np.float32)  # what is left of the logits' decimals; their gradient is exact again
        wanted = kernels.cross_entropy_backward(*_with_normalizer(np.ones(4), high.astype(np.float64), targets))
        for module in (kernels, reference):
            got = module.cross_entropy_backward(*_with_normalizer(dnll, high, targets, module))
            assert np.abs(got - wanted).max() < 3e-7


def _with_normalizer(dnll, logits, targets, module=kernels):
    return dnll, logits, targets, module.cross_entropy_forward(logits, targets)[1]


def test_gradients_of_a_row_sum_to_zero_for_a_large_vocabulary():
    rng = np.random.default_rng(0)
    logits, targets = 4 * rng.standard_normal((8, 50257), np.float32), rng.integers(0, 50257, 8)
    # Σ adds 50,257 numbers, a 16th (AVX-512) or an 8th (AVX2) of them in a lane: 26 eps were seen with AVX2
    nll, normalizer = assert_like_twin("cross_entropy_forward", logits, targets, ulps=16, size=30.0)
    dlogits = kernels.cross_entropy_backward(np.ones_like(nll), logits, targets, normalizer)
    np.testing.assert_allclose(dlogits.sum(axis=-1), 0, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 3000), (1000, 65)])
def test_any_number_of_threads_gives_the_same_bits(shape):
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal(shape, np.float32), rng.integers(0, shape[1], shape[0])
    nll, normalizer = kernels.cross_entropy_forward(logits, targets)
    assert_same_bits_on_any_number_of_threads("cross_entropy_forward", logits, targets)
    assert_same_bits_on_any_number_of_threads("cross_entropy_backward", nll, logits, targets, normalizer)
    assert_like_twin("cross_entropy_backward", nll, logits, targets, normalizer, ulps=16, size=8.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5), (40, 1000), (0, 4)])
def test_the_gradient_may_be_written_over_the_logits(shape, dtype):
    rng = np.random.default_rng(0)
    logits, targets, dnll = rng.standard_normal(shape).astype(dtype), rng.integers(0, shape[1], shape[0]), rng.random(shape[0])
    dnll = np.where(dnll < 0.3, 0, dnll).astype(dtype)
    _, normalizer = kernels.cross_entropy_forward(logits, targets)
    wanted = kernels.cross_entropy_backward(dnll, logits, targets, normalizer)
    for cross_entropy_backward in (kernels.cross_entropy_backward, reference.cross_entropy_backward):
        work = logits.copy()
        assert cross_entropy_backward(dnll, work, targets, normalizer, out=work) is work
        np.testing.assert_allclose(work, wanted, rtol=1e-5, atol=1e-7)
