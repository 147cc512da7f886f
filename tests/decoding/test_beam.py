import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.decoding import beam_search, generate
from tinyllm.models import GPT

FOLDER = Path(__file__).parents[1] / "fixtures" / "gpt2_tiny"
CASES = json.loads((FOLDER / "expected.json").read_text())["beam_search"]


@pytest.fixture(scope="module")
def gpt2():
    return GPT.from_pretrained(FOLDER)


@pytest.mark.parametrize("no_repeat_ngram_size", [0, 2])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_every_hypothesis_and_score_is_that_of_transformers(gpt2, early_stopping, no_repeat_ngram_size):
    wanted = {"early_stopping": early_stopping, "no_repeat_ngram_size": no_repeat_ngram_size}
    cases = [dict(case) for case in CASES if wanted.items() <= case.items()]
    assert len(cases) == 36
    for case in cases:
        prompt, expected = case.pop("prompt"), case.pop("hypotheses")
        found = beam_search(gpt2, prompt, **case)
        assert [one.tokens for one in found] == [one["tokens"] for one in expected], case
        np.testing.assert_allclose([one.score for one in found], [one["score"] for one in expected], atol=1e-4)


def log_table(rows):
    return np.log(np.array(rows))


# Tokens: 0 start, 1 "the", 2 "a", 3 "end". After the start "the" is likelier (0.6), but then every ending is open;
# "a" (0.4) is followed by "end" with 0.9: 0.36, against at most 0.6 · 0.35 = 0.21 for what begins with "the".
WORKED = log_table([[1e-9, 0.6, 0.4, 1e-9], [0.35, 0.3, 0.2, 0.15], [0.05, 0.03, 0.02, 0.9], [0.25, 0.25, 0.25, 0.25]])


def test_beam_search_finds_the_likelier_sequence_that_greedy_steps_past(table_model):
    model = table_model(WORKED)
    assert generate(model, [[0]], max_new_tokens=2, temperature=0).tokens == [[1, 0]]
    best, second = beam_search(model, [0], n_beams=2, max_new_tokens=2, length_penalty=0.0)
    assert (best.tokens, second.tokens) == ([2, 3], [1, 0])
    np.testing.assert_allclose([best.score, second.score], [math.log(0.36), math.log(0.21)], rtol=1e-5)
    np.testing.assert_allclose(best.log_probs, [math.log(0.4), math.log(0.9)], rtol=1e-5)


def test_a_beam_as_wide_as_all_sequences_finds_the_likeliest_of_all(table_model):
    table = log_table(np.random.default_rng(0).dirichlet(np.ones(3), size=3))
    best = beam_search(table_model(table), [0], n_beams=27, max_new_tokens=3, length_penalty=0.0)[0]
    scores = {(a, b, c): table[0, a] + table[a, b] + table[b, c] for a in range(3) for b in range(3) for c in range(3)}
    assert tuple(best.tokens) == max(scores, key=scores.__getitem__)
    assert best.score == pytest.approx(max(scores.values()), abs=1e-5)


def test_length_penalty_decides_between_short_and_long(table_model):
    # From 0: end at once (2) with 0.5, or 1 with 0.5 and then end with 0.9: log-probabilities -0.69 and -0.80.
    model = table_model(log_table([[1e-9, 0.4999, 0.5001], [0.05, 0.05, 0.9], [1 / 3, 1 / 3, 1 / 3]]))

    def best(length_penalty):
        return beam_search(model, [0], n_beams=2, max_new_tokens=2, length_penalty=length_penalty, eos_id=2)[0]

    assert best(0.0).tokens == [2] and best(0.0).finish_reason == "stop"
    assert best(1.0).tokens == [1, 2] and best(1.0).score == pytest.approx(math.log(0.4999 * 0.9) / 2, abs=1e-5)


@given(prompt=st.lists(st.integers(0, 39), min_size=1, max_size=8), stop_after=st.none() | st.integers(0, 14))
def test_one_beam_is_greedy_decoding(small_gpt, prompt, stop_after):
    greedy = generate(small_gpt, [prompt], max_new_tokens=15, temperature=0)
    eos_id = None if stop_after is None else greedy.tokens[0][stop_after]
    greedy = generate(small_gpt, [prompt], max_new_tokens=15, temperature=0, stop_tokens=() if eos_id is None else [eos_id])
    [beam] = beam_search(small_gpt, prompt, n_beams=1, max_new_tokens=15, eos_id=eos_id)
    assert (beam.tokens, beam.finish_reason) == (greedy.tokens[0], greedy.finish_reasons[0])
    np.testing.assert_allclose(beam.log_probs, greedy.log_probs[0], atol=1e-4)


def test_the_prompt_counts_for_ngram_blocking(table_model):
    model = table_model(log_table([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.4, 0.3, 0.3]]))
    settings = {"n_beams": 2, "max_new_tokens": 1, "no_repeat_ngram_size": 2}
    assert beam_search(model, [2, 0], **settings)[0].tokens == [1]
    assert beam_search(model, [0, 1, 0], **settings)[0].tokens == [0]  # 0, 1 was there


def test_scores_fall_and_are_the_log_probs_over_the_length(small_gpt):
    found = beam_search(small_gpt, [3, 4], n_beams=5, max_new_tokens=12, length_penalty=0.7, eos_id=7)
    scores = [one.score for one in found]
    assert len(found) == 5 and scores == sorted(scores, reverse=True)
    for one in found:
        assert one.score == pytest.approx(one.log_probs.sum() / len(one.tokens) ** 0.7)


def test_generate_with_beams_gives_each_prompt_its_best_sequence(small_gpt):
    prompts = [[3], [14, 15, 9]]
    result = generate(small_gpt, prompts, n_beams=3, max_new_tokens=8, stop_tokens=(7, 8), length_penalty=0.5)
    for row, prompt in enumerate(prompts):
        best = beam_search(small_gpt, prompt, n_beams=3, max_new_tokens=8, eos_id=(7, 8), length_penalty=0.5)[0]
        assert (result.tokens[row], result.finish_reasons[row]) == (best.tokens, best.finish_reason)


def test_a_beam_wider_than_the_vocabulary_gives_what_there_is(table_model):
    found = beam_search(table_model(np.zeros((2, 2))), [0], n_beams=9, max_new_tokens=2)
    assert sorted(one.tokens for one in found) == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_beams": 0}, "n_beams must be .* got 0"),
        ({"max_new_tokens": 64}, "1 tokens and max_new_tokens is 64: 65 in all"),
        ({"eos_id": 4}, "stop_tokens has token id 4"),
        ({"no_repeat_ngram_size": 1, "max_new_tokens": 9}, "no_repeat_ngram_size 1 leaves no token"),
    ],
)
def test_bad_requests_are_errors(table_model, settings, message):
    with pytest.raises(ValueError, match=message):
        beam_search(table_model(WORKED), [0], **{"n_beams": 2, "max_new_tokens": 2, **settings})


def test_stop_strings_and_beams_do_not_mix(table_model):
    with pytest.raises(ValueError, match="beam search ends sequences at stop_tokens only"):
        generate(table_model(WORKED), [[0]], n_beams=2, max_new_tokens=2, stop_strings=("x",))
