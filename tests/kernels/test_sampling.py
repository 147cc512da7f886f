import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, arrays_with_layout
from twin import twin

from tinyllm import kernels


@given(data=st.data(), n_rows=st.integers(0, 9), n_vocab=st.sampled_from([1, 2, 63, 64, 65, 300]), dtype=DTYPES)
def test_tokens_and_log_probs_match_the_twin(data, n_rows, n_vocab, dtype):
    logits = data.draw(arrays_with_layout((n_rows, n_vocab), dtype, scale=3.0))
    uniform = np.random.default_rng(data.draw(st.integers(0, 99))).random(n_rows)
    tokens, log_probs = kernels.sample_rows(logits, uniform)
    wanted, wanted_log_probs = twin("sample_rows", logits, uniform)
    same = tokens == wanted  # a number that falls on the edge between two tokens may go either way
    assert (len(same) - same.sum()) <= 1 and tokens.dtype == np.int64 and log_probs.dtype == logits.dtype
    np.testing.assert_allclose(log_probs[same], wanted_log_probs[same], atol=100 * np.finfo(dtype).eps)


@given(dtype=DTYPES, seed=st.integers(0, 999))
def test_a_removed_token_is_never_drawn_not_even_at_the_edges(dtype, seed):
    rng = np.random.default_rng(seed)
    logits = np.where(rng.random((4, 200)) < 0.05, rng.standard_normal((4, 200)), -np.inf).astype(dtype)
    logits[:, 70] = 0
    tokens, _ = kernels.sample_rows(logits, np.array([0.0, 0.5, rng.random(), np.nextafter(1.0, 0)]))
    assert np.isfinite(logits[np.arange(4), tokens]).all()
    assert tokens[0] == np.flatnonzero(np.isfinite(logits[0]))[0] and tokens[3] == np.flatnonzero(np.isfinite(logits[3]))[-1]


def test_each_token_is_drawn_as_often_as_its_probability_says():
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.125], "f"))
    tokens, log_probs = kernels.sample_rows(np.tile(logits, (4096, 1)), (np.arange(4096) + 0.5) / 4096)
    assert np.bincount(tokens).tolist() == [2048, 1024, 512, 512]
    np.testing.assert_allclose(log_probs, logits[tokens], atol=1e-6)
