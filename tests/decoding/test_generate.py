import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm import no_grad
from tinyllm.autograd.modes import MODE
from tinyllm.decoding import GenerationConfig, generate, generate_steps
from tinyllm.decoding.logits import log_softmax
from tinyllm.models import GPT, GPTConfig

PROMPTS = [[3], [14, 15, 9, 2, 6], [5, 35, 8], [9, 7, 9, 3, 2, 3, 8, 4]]


def test_cached_and_uncached_logits_agree(small_gpt):
    tokens = np.random.default_rng(0).integers(0, 40, size=(3, 20))
    with no_grad():
        whole = small_gpt(tokens).data
        cache = small_gpt.new_cache(3, 20)
        pieces = [small_gpt(tokens[:, a:b], cache=cache).data for a, b in ((0, 7), (7, 8), (8, 9), (9, 20))]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)  # logits of size about 10


def test_greedy_tokens_are_those_of_running_the_whole_text_each_time(small_gpt):
    text = list(PROMPTS[1])
    for _ in range(20):
        with no_grad():
            text.append(int(small_gpt(np.array([text])).data[0, -1].argmax()))
    result = generate(small_gpt, [PROMPTS[1]], max_new_tokens=20, temperature=0)
    assert result.tokens == [text[5:]] and len(set(text[5:])) > 5


@given(prompts=st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=12), min_size=1, max_size=5))
def test_a_padded_row_says_what_it_says_alone(small_gpt, prompts):
    together = generate(small_gpt, prompts, max_new_tokens=12, temperature=0)
    for row, prompt in enumerate(prompts):
        alone = generate(small_gpt, [prompt], max_new_tokens=12, temperature=0)
        assert together.tokens[row] == alone.tokens[0]
        np.testing.assert_allclose(together.log_probs[row], alone.log_probs[0], atol=1e-4)


def test_rows_that_finish_early_leave_the_others_as_they_would_be_alone(small_gpt):
    settings = GenerationConfig(max_new_tokens=30, temperature=0)
    free = generate(small_gpt, PROMPTS, config=settings)
    stops = (free.tokens[0][4], free.tokens[1][11])
    together = generate(small_gpt, PROMPTS, config=settings, stop_tokens=stops)
    assert len({len(tokens) for tokens in together.tokens}) > 2
    for row, prompt in enumerate(PROMPTS):
        alone = generate(small_gpt, [prompt], config=settings, stop_tokens=stops)
        assert (together.tokens[row], together.finish_reasons[row]) == (alone.tokens[0], alone.finish_reasons[0])


def test_finished_rows_leave_the_batch(hand_made_model):
    # Row r says token 0 until it has read 3 + r tokens (two of them the prompt), then the stop token 1.
    model = hand_made_model(lambda token, n_read, row: [0.0, 1.0 if n_read >= 3 + row else -1.0], vocab_size=2)
    result = generate(model, [[0, 0], [0, 1], [1, 0]], max_new_tokens=9, temperature=0, stop_tokens=(1,))
    assert result.tokens == [[0, 1], [0, 0, 1], [0, 0, 0, 1]]
    assert result.finish_reasons == ["stop"] * 3 and model.batch_sizes == [3, 3, 2, 1]


def test_a_prompt_that_comes_several_times_is_read_once(small_gpt, table_model):
    model = table_model(np.eye(4))
    generate(model, [[1, 2], [3], [1, 2], [1, 2], [3]], max_new_tokens=3, temperature=0)
    assert model.batch_sizes == [2, 5, 5]
    repeated = [PROMPTS[i] for i in (0, 1, 1, 3, 0, 1)]
    texts = generate(small_gpt, repeated, max_new_tokens=20, rng=np.random.default_rng(0))
    for row, prompt in enumerate(repeated):  # each answer is its own, as if its prompt stood there alone
        others = [[1], [2], [4], [5], [6], [7]]
        others[row] = prompt
        alone = generate(small_gpt, others, max_new_tokens=20, rng=np.random.default_rng(0))
        assert texts.tokens[row] == alone.tokens[row]
    assert len({tuple(tokens) for tokens in texts.tokens}) == 6


def test_the_finish_reason_says_stop_or_length(table_model):
    model = table_model(np.roll(np.eye(4), 1, axis=1))  # 0 -> 1 -> 2 -> 3 -> 0
    result = generate(model, [[0], [2]], max_new_tokens=2, temperature=0, stop_tokens=(3,))
    assert result.tokens == [[1, 2], [3]] and result.finish_reasons == ["length", "stop"]


def test_a_stop_token_as_the_last_allowed_token_is_still_a_stop(table_model):
    result = generate(table_model(np.roll(np.eye(4), 1, axis=1)), [[1]], max_new_tokens=2, temperature=0, stop_tokens=(3,))
    assert result.tokens == [[2, 3]] and result.finish_reasons == ["stop"]


def test_should_stop_ends_its_own_row_only(table_model):
    model = table_model(np.roll(np.eye(4), 1, axis=1))
    result = generate(model, [[0], [0]], max_new_tokens=3, temperature=0, should_stop=lambda row, token: row == 1 and token == 2)
    assert result.tokens == [[1, 2, 3], [1, 2]] and result.finish_reasons == ["length", "stop"]


def test_the_same_seed_gives_the_same_text_and_another_seed_another(small_gpt):
    texts = [
        generate(small_gpt, PROMPTS, max_new_tokens=20, temperature=2.0, rng=np.random.default_rng(seed)).tokens
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_sampled_row_does_not_depend_on_its_neighbours(small_gpt):
    def sample(prompts):
        settings = {"max_new_tokens": 20, "temperature": 2.0, "top_p": 0.95, "stop_tokens": range(0, 40, 8)}
        return generate(small_gpt, prompts, rng=np.random.default_rng(3), **settings).tokens

    together = sample(PROMPTS)
    assert sorted(map(len, together))[0] < len(together[3])  # rows above the last one have left the batch before it
    assert sample(PROMPTS[:1]) == together[:1]
    assert sample([PROMPTS[3], PROMPTS[1], PROMPTS[0]])[1] == together[1]


def test_equal_prompts_in_one_batch_get_different_samples(small_gpt):
    tokens = generate(small_gpt, [[3]] * 4, max_new_tokens=10, temperature=2.0, rng=np.random.default_rng(0)).tokens
    assert len(set(map(tuple, tokens))) == 4


def test_restoring_the_state_of_the_rng_repeats_the_text(small_gpt):
    rng = np.random.default_rng(0)
    generate(small_gpt, PROMPTS, max_new_tokens=3, rng=rng)
    state = rng.bit_generator.state
    first = generate(small_gpt, PROMPTS, max_new_tokens=10, temperature=2.0, rng=rng).tokens
    other = np.random.default_rng(99)
    other.bit_generator.state = state
    assert generate(small_gpt, PROMPTS, max_new_tokens=10, temperature=2.0, rng=other).tokens == first


def test_log_probs_are_those_of_the_model_itself_whatever_the_filters(small_gpt):
    result = generate(
        small_gpt, PROMPTS, max_new_tokens=15, temperature=1.7, top_k=9, repetition_penalty=1.2, rng=np.random.default_rng(5)
    )
    for prompt, tokens, log_probs in zip(PROMPTS, result.tokens, result.log_probs, strict=True):
        with no_grad():
            logits = small_gpt(np.array([prompt + tokens])).data[0, len(prompt) - 1 : -1]
        np.testing.assert_allclose(log_probs, log_softmax(logits)[np.arange(len(tokens)), tokens], atol=1e-4)


def test_with_ngram_blocking_no_ngram_comes_twice(small_gpt):
    [tokens] = generate(small_gpt, [[3]], max_new_tokens=40, temperature=0, no_repeat_ngram_size=2).tokens
    text = [3, *tokens]
    pairs = list(zip(text, text[1:], strict=False))
    assert len(set(pairs)) == len(pairs)
    [free] = generate(small_gpt, [[3]], max_new_tokens=40, temperature=0).tokens
    assert len(set(zip(free, free[1:], strict=False))) < len(free) - 1  # it would have repeated itself


def test_steps_give_what_generate_gives(small_gpt):
    settings = {"max_new_tokens": 12, "temperature": 1.5, "stop_tokens": (7, 8, 9)}
    result = generate(small_gpt, PROMPTS, rng=np.random.default_rng(4), **settings)
    tokens = [[] for _ in PROMPTS]
    for step in generate_steps(small_gpt, PROMPTS, rng=np.random.default_rng(4), **settings):
        for row, token in zip(step.rows, step.tokens, strict=True):
            tokens[row].append(token)
    assert tokens == result.tokens


def test_between_steps_gradients_are_recorded_and_the_model_trains_as_before(small_gpt):
    small_gpt.train()
    try:
        for _ in generate_steps(small_gpt, [[3]], max_new_tokens=3, temperature=0):
            assert MODE.recording and small_gpt.training and small_gpt.dropout.training
    finally:
        small_gpt.eval()


def test_dropout_is_off_while_generating():
    model = GPT(
        GPTConfig(vocab_size=20, block_size=32, n_layers=1, n_heads=1, d_model=8, dropout=0.5), rng=np.random.default_rng(0)
    )
    texts = [generate(model.train(mode), [[1]], max_new_tokens=30, temperature=0).log_probs[0] for mode in (True, False)]
    np.testing.assert_array_equal(*texts)


def test_a_context_filled_to_the_last_token_works_and_one_more_is_an_error(small_gpt):
    assert len(generate(small_gpt, [[1] * 40], max_new_tokens=8, temperature=0).tokens[0]) == 8
    with pytest.raises(ValueError, match=r"41 tokens and max_new_tokens is 8: 49 in all.*\(block_size\) is 48"):
        generate(small_gpt, [[1] * 41], max_new_tokens=8, temperature=0)


@pytest.mark.parametrize(
    "prompts, settings, message",
    [
        ([[1]], {}, "rng is None, but temperature 1.0 draws at random"),
        ([[1]], {"rng": 42}, "rng is 42"),
        ([[40]], {"temperature": 0}, "prompt 0 has token id 40; the model's vocabulary has 40 tokens"),
        ([[1]], {"temperature": 0, "stop_tokens": (40,)}, "stop_tokens has token id 40"),
        ([[1]], {"temperature": 0, "stop_strings": ("x",)}, "stop_strings need text.*generate_text"),
        ([[1]], {"topk": 3}, "did you mean top_k?"),
        (7, {"temperature": 0}, "prompts is a int"),
    ],
)
def test_bad_requests_are_errors_at_once(small_gpt, prompts, settings, message):
    with pytest.raises(ValueError, match=message):
        generate(small_gpt, prompts, **settings)
    with pytest.raises(ValueError, match=message):
        generate_steps(small_gpt, prompts, **settings)  # not only when the first step is asked for


def test_broken_weights_are_an_error_and_not_a_text(table_model):
    with pytest.raises(ValueError, match="row 1 hold a NaN"):
        generate(table_model(np.array([[0.0, 0.0], [0.0, np.nan]])), [[0], [1]], max_new_tokens=1, temperature=0)
