import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.decoding import crop_prompt
from tinyllm.decoding.prompts import check_length, check_prompts, check_stop_tokens, left_pad


@pytest.mark.parametrize(
    "prompts, message",
    [
        ("hello", "prompts is a str; expected lists of token ids"),
        (7, "prompts is a int"),
        ([], "prompts is empty"),
        ([1, 2, 3], r"one flat list.*wrap it, as in \[ids\]"),
        ([[1], []], "prompt 1 is empty"),
        ([[1.0, 2.0]], "prompt 0 has dtype float64"),
        ([[True, False]], "prompt 0 has dtype bool"),
        ([[1], [2, 10, 3]], r"prompt 1 has token id 10; the model's vocabulary has 10 tokens \(ids 0 to 9\)"),
        ([[-1]], "prompt 0 has token id -1"),
    ],
)
def test_a_bad_prompt_is_an_error_that_says_which_and_why(prompts, message):
    with pytest.raises(ValueError, match=message):
        check_prompts(prompts, vocab_size=10)


def test_prompts_may_be_lists_tuples_or_arrays():
    for prompts in ([[1, 2], [3, 4]], ((1, 2), (3, 4)), np.array([[1, 2], [3, 4]]), [np.array([1, 2]), [3, 4]]):
        assert check_prompts(prompts, vocab_size=10) == [[1, 2], [3, 4]]


def test_a_stop_token_outside_the_vocabulary_is_an_error():
    with pytest.raises(ValueError, match="stop_tokens has token id 10"):
        check_stop_tokens((3, 10), vocab_size=10)


def test_a_prompt_that_does_not_fit_is_an_error_with_all_the_numbers():
    check_length(6, max_new_tokens=4, block_size=10)
    with pytest.raises(ValueError, match=r"7 tokens and max_new_tokens is 4: 11 in all.*\(block_size\) is 10.*crop_prompt"):
        check_length(7, max_new_tokens=4, block_size=10)


@given(n=st.integers(0, 30), max_new_tokens=st.integers(1, 9))
def test_cropping_keeps_the_longest_tail_that_fits_and_counts_the_rest(n, max_new_tokens):
    ids, n_dropped = crop_prompt(list(range(n)), block_size=10, max_new_tokens=max_new_tokens)
    assert ids == list(range(n))[n_dropped:] and n_dropped == max(0, n + max_new_tokens - 10)


def test_cropping_without_room_for_a_prompt_is_an_error():
    with pytest.raises(ValueError, match="max_new_tokens is 10 .* ask for at most 9 tokens"):
        crop_prompt([1], block_size=10, max_new_tokens=10)


def test_shorter_prompts_are_padded_on_the_left_and_masked():
    tokens, mask = left_pad([[5], [6, 7, 8]])
    np.testing.assert_array_equal(tokens[mask], [5, 6, 7, 8])
    np.testing.assert_array_equal(mask, [[False, False, True], [True, True, True]])


def test_prompts_of_one_length_need_no_mask():
    tokens, mask = left_pad([[5, 6], [7, 8]])
    assert mask is None and tokens.tolist() == [[5, 6], [7, 8]]
