"""Facts about prompts and answers in one array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.rlhf.sequences import Sequences, pad_sequences

IDS = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=5)


@given(prompts=IDS, seed=st.integers(0, 99))
def test_the_lists_come_back_from_the_array(prompts, seed):
    rng = np.random.default_rng(seed)
    responses = [rng.integers(0, 50, rng.integers(1, 7)).tolist() for _ in prompts]
    padded = pad_sequences(prompts, responses)
    assert padded.tokens.dtype == np.int64 and padded.attention_mask.dtype == bool and len(padded) == len(prompts)
    P = padded.n_prompt
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        assert padded.tokens[row][padded.attention_mask[row]].tolist() == prompt + response
        assert padded.tokens[row, :P][padded.attention_mask[row, :P]].tolist() == prompt
        assert padded.responses[row][padded.response_mask[row]].tolist() == response
    assert padded.lengths.tolist() == [len(response) for response in responses]
    assert not padded.tokens[~padded.attention_mask].any()
    assert padded.attention_mask[:, P - 1 : P + 1].all()  # every prompt ends where every answer begins


def test_prompts_end_and_answers_begin_in_the_same_column():
    padded = pad_sequences([[1, 2], [3, 4, 5]], [[6, 7], [8]])
    assert padded.tokens.tolist() == [[0, 1, 2, 6, 7], [3, 4, 5, 8, 0]]
    assert padded.attention_mask.astype(int).tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 1, 0]] and padded.n_prompt == 3


def test_selected_rows_lose_the_columns_that_only_others_needed():
    padded = pad_sequences([[1], [2, 3, 4], [5, 6]], [[7], [8, 8], [9, 9, 9, 9]])
    few = padded.select(np.array([2, 0]))
    assert few.tokens.tolist() == [[5, 6, 9, 9, 9, 9], [0, 1, 7, 0, 0, 0]] and few.n_prompt == 2
    assert padded.select(np.array([0])).tokens.tolist() == [[1, 7]]
    assert few.response_mask.tolist() == [[True] * 4, [True, False, False, False]]


@given(prompts=IDS, seed=st.integers(0, 99))
def test_selecting_is_padding_the_selected(prompts, seed):
    rng = np.random.default_rng(seed)
    responses = [rng.integers(0, 50, rng.integers(1, 7)).tolist() for _ in prompts]
    rows = rng.integers(0, len(prompts), 3)
    few = pad_sequences(prompts, responses).select(rows)
    again = pad_sequences([prompts[i] for i in rows], [responses[i] for i in rows])
    assert few.n_prompt == again.n_prompt
    assert np.array_equal(few.tokens, again.tokens) and np.array_equal(few.attention_mask, again.attention_mask)


@pytest.mark.parametrize(
    ("prompts", "responses", "text"),
    [
        ([[1], [2]], [[3]], "2 prompts and 1 responses"),
        ([], [], "0 prompts"),
        ([[1], []], [[3], [4]], "prompt 1 has no token"),
        ([[1], [2]], [[], [4]], "response 0 has no token"),
    ],
)
def test_what_cannot_be_padded_is_refused(prompts, responses, text):
    with pytest.raises(ValueError, match=text):
        pad_sequences(prompts, responses)


def test_a_slice_of_rows_keeps_its_columns():
    padded = pad_sequences([[1], [2, 3]], [[4], [5]])
    part = Sequences(padded.tokens[:1], padded.attention_mask[:1], padded.n_prompt)
    assert part.responses.tolist() == [[4]] and part.lengths.tolist() == [1]
