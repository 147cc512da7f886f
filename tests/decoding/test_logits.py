from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyllm.decoding import GenerationConfig, filter_logits
from tinyllm.decoding.logits import (
    block_repeated_ngrams,
    check_logits,
    greedy_tokens,
    keep_min_p,
    keep_top_k,
    penalize_repetition,
    sample_tokens,
    scale_by_temperature,
)
from tinyllm.decoding.top_p import keep_top_p, nucleus

EXPECTED = np.load(Path(__file__).parents[1] / "fixtures" / "gpt2_tiny" / "expected.npz")
LOGITS, HISTORIES = EXPECTED["filter/logits"], EXPECTED["filter/histories"].tolist()

# Whole multiples of 1/4, so that ties are common and exact.
logits_with_ties = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 12)), elements=st.integers(-20, 20).map(lambda n: n / 4)
)


def probabilities(logits):
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "name, ours",
    [
        ("repetition_penalty_1.3", lambda: penalize_repetition(LOGITS, HISTORIES, 1.3)),
        ("no_repeat_ngram_2", lambda: block_repeated_ngrams(LOGITS, HISTORIES, 2)),
        ("no_repeat_ngram_3", lambda: block_repeated_ngrams(LOGITS, HISTORIES, 3)),
        ("temperature_0.7", lambda: scale_by_temperature(LOGITS, 0.7)),
        ("top_k_7", lambda: keep_top_k(LOGITS, 7)),
        ("top_p_0.8", lambda: keep_top_p(LOGITS, 0.8)),
        ("min_p_0.05", lambda: keep_min_p(LOGITS, 0.05)),
    ],
)
def test_each_filter_gives_what_transformers_gives(name, ours):
    expected = EXPECTED[f"filter/{name}"]
    assert not np.array_equal(expected, LOGITS)
    np.testing.assert_allclose(ours(), expected, rtol=1e-6)  # one rounding of a float32


def test_all_filters_together_run_in_the_order_of_transformers():
    config = GenerationConfig(repetition_penalty=1.3, no_repeat_ngram_size=3, temperature=0.7, top_k=20, top_p=0.9, min_p=0.02)
    np.testing.assert_allclose(filter_logits(LOGITS, HISTORIES, config), EXPECTED["filter/everything"], rtol=2e-6)


@given(logits=logits_with_ties, p=st.floats(0.01, 1.0))
def test_top_p_keeps_the_fewest_likeliest_tokens_that_reach_p(logits, p):
    kept = np.isfinite(keep_top_p(logits, p))
    for row, keep, weights in zip(logits, kept, probabilities(logits), strict=True):
        order = sorted(range(len(row)), key=lambda token: (-row[token], token))
        sums = np.cumsum(weights[order])
        if np.abs(sums - p).min() < 1e-12:
            continue  # the edge itself is a matter of rounding
        expected = order[: int(np.argmax(sums > p)) + 1] if sums[-1] > p else order
        assert set(np.flatnonzero(keep)) == set(expected)


def test_top_p_of_one_keeps_every_token_even_the_unlikeliest():
    logits = np.array([[0.0, -30.0, -60.0, -200.0]], dtype=np.float32)
    np.testing.assert_array_equal(keep_top_p(logits, 1.0), logits)


def test_top_p_however_small_keeps_the_likeliest_token():
    np.testing.assert_array_equal(np.isfinite(keep_top_p(np.array([[0.0, 2.0, 1.0]]), 1e-20)), [[False, True, False]])


def test_top_p_at_a_tie_keeps_the_lowest_ids():
    logits = np.zeros((1, 4), dtype=np.float32)
    np.testing.assert_array_equal(np.isfinite(keep_top_p(logits, 0.6)), [[True, True, True, False]])


@given(logits=logits_with_ties, k=st.integers(1, 15))
def test_top_k_keeps_the_k_highest_and_all_that_tie_with_the_last_of_them(logits, k):
    kept = np.isfinite(keep_top_k(logits, k))
    kth = np.sort(logits, axis=-1)[:, ::-1][:, min(k, logits.shape[1]) - 1]
    np.testing.assert_array_equal(kept, logits >= kth[:, None])


@given(logits=logits_with_ties, min_p=st.floats(0.001, 1.0))
def test_min_p_keeps_tokens_at_least_that_likely_relative_to_the_likeliest(logits, min_p):
    kept = np.isfinite(keep_min_p(logits, min_p))
    p = probabilities(logits)
    ratio = p / p.max(axis=-1, keepdims=True)
    clear = np.abs(ratio / min_p - 1) > 1e-5  # away from the edge, where float32 decides
    np.testing.assert_array_equal(kept[clear], (ratio >= min_p)[clear])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filters_keep_the_dtype_and_leave_their_input_alone(dtype):
    logits = LOGITS.astype(dtype)
    config = GenerationConfig(repetition_penalty=1.3, no_repeat_ngram_size=3, temperature=0.7, top_k=20, top_p=0.9, min_p=0.02)
    before = logits.copy()
    assert filter_logits(logits, HISTORIES, config).dtype == dtype
    np.testing.assert_array_equal(logits, before)


def test_neutral_settings_change_nothing():
    np.testing.assert_array_equal(filter_logits(LOGITS, HISTORIES, GenerationConfig()), LOGITS)


def test_repetition_penalty_lowers_seen_tokens_whatever_their_sign_and_count():
    logits = np.array([[2.0, -2.0, 1.0, -1.0]])
    np.testing.assert_allclose(penalize_repetition(logits, [[0, 1, 1, 0, 0]], 2.0), [[1.0, -4.0, 1.0, -1.0]])


def test_ngram_blocking_forbids_what_followed_the_same_beginning():
    logits = np.zeros((2, 5), dtype=np.float32)
    blocked = block_repeated_ngrams(logits, [[1, 2, 3, 1, 2, 4, 1, 2], [1, 2]], 3)
    np.testing.assert_array_equal(np.isneginf(blocked), [[False, False, False, True, True], [False] * 5])


def test_ngram_size_one_forbids_every_token_seen_before():
    blocked = block_repeated_ngrams(np.zeros((1, 4), dtype=np.float32), [[2, 0]], 1)
    np.testing.assert_array_equal(np.isneginf(blocked), [[True, False, True, False]])


def test_blocking_that_leaves_no_token_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="no_repeat_ngram_size 1 leaves no token"):
        filter_logits(np.zeros((1, 2), dtype=np.float32), [[0, 1]], GenerationConfig(no_repeat_ngram_size=1))


def test_greedy_takes_the_lowest_id_of_equals():
    np.testing.assert_array_equal(greedy_tokens(np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])), [1, 0])


def test_sampling_at_a_temperature_near_zero_is_greedy():
    rows = np.repeat(LOGITS, 50, axis=0)
    cold = scale_by_temperature(rows, 1e-5)
    drawn, _ = sample_tokens(cold, [np.random.default_rng(seed) for seed in range(len(rows))])
    np.testing.assert_array_equal(drawn, greedy_tokens(rows))


def test_sampled_frequencies_match_the_probabilities():
    logits = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01]))
    generator, n = np.random.default_rng(0), 20_000
    drawn, _ = sample_tokens(np.tile(logits, (n, 1)), [generator] * n)
    expected = n * np.exp(logits)
    chi_square = ((np.bincount(drawn, minlength=6) - expected) ** 2 / expected).sum()
    assert chi_square < 20.5  # 0.999 quantile for 5 degrees of freedom; the seed is fixed


def test_a_removed_token_is_never_drawn():
    class Edge:
        def __init__(self, value):
            self.value = value

        def random(self):
            return self.value

    logits = np.array([[-np.inf, 0.0, -np.inf, 0.0, -np.inf]] * 4)
    edges = [Edge(0.0), Edge(0.5), Edge(np.nextafter(0.5, 0)), Edge(np.nextafter(1.0, 0))]
    np.testing.assert_array_equal(sample_tokens(logits, edges)[0], [1, 3, 1, 3])


@pytest.mark.parametrize("bad, word", [(np.nan, "a NaN"), (np.inf, r"\+inf")])
def test_logits_that_are_not_finite_are_an_error_that_names_the_row(bad, word):
    logits = np.zeros((3, 4), dtype=np.float32)
    logits[1, 2] = bad
    with pytest.raises(ValueError, match=rf"row 1 hold {word}.*try an earlier checkpoint"):
        check_logits(logits)


def test_a_row_without_any_token_is_an_error_but_single_removed_tokens_are_not():
    check_logits(np.array([[-np.inf, 0.0]]))
    with pytest.raises(ValueError, match="only -inf"):
        check_logits(np.full((1, 3), -np.inf))


TINY = [1e-17, 1e-300, 5e-324, np.nextafter(1.0, 0.0), 1.0]


@pytest.mark.parametrize("p", TINY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "row", [[0.0] * 5, [3.0, 3.0, -np.inf, 3.0, 1.0], [-np.inf, -np.inf, 2.0, -np.inf, -np.inf], [0.0]], ids=str
)
def test_whatever_the_limits_at_least_one_token_stays_and_one_is_drawn(p, dtype, row):
    logits = np.array([row, row], dtype)
    generators = [np.random.default_rng(seed) for seed in range(2)]
    for settings in ({"top_p": p}, {"min_p": p}, {"top_k": 1}, {"top_k": 10**9}, {"top_p": p, "min_p": p, "top_k": 1},
                     {"top_p": p, "temperature": 1e-5}, {"min_p": p, "temperature": 1e-5}):  # fmt: skip
        kept = filter_logits(logits, [[], []], GenerationConfig(**settings))
        assert (kept > -np.inf).any(axis=1).all()
        tokens, log_probs = sample_tokens(kept, generators)
        assert (kept[[0, 1], tokens] == (logits / settings.get("temperature", 1.0))[[0, 1], tokens]).all()
        assert np.isfinite(log_probs).all()


def test_the_smallest_nucleus_is_the_lowest_of_the_likeliest():
    for p in (1e-17, 1e-300):
        assert np.flatnonzero(keep_top_p(np.zeros((1, 5)), p)[0] == 0).tolist() == [0]
        assert np.flatnonzero(keep_top_p(np.array([[1.0, 2.0, 2.0]]), p)[0] == 2).tolist() == [1]


@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(1e-6, 1.0), st.sampled_from([0.1, 1.0, 5.0]))
def test_the_fast_nucleus_is_the_plain_one(seed, n_tokens, p, scale):
    logits = scale * np.random.default_rng(seed).standard_normal(n_tokens)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    sums = np.cumsum(np.sort(probabilities)[::-1])
    assume(np.abs(sums - p).min() > 1e-12)  # not on the edge, where rounding decides
    fast = np.flatnonzero(keep_top_p(logits[None], p)[0] > -np.inf)
    assert fast.tolist() == sorted(nucleus(probabilities, p).tolist())
