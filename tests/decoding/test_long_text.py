"""Writing past the context."""

import numpy as np
import pytest

from tinyllm.decoding import GenerationConfig, generate, generate_text, keep_tail, stream_text, write_on
from tinyllm.models import GPT, GPTConfig
from tinyllm.tokenizers import ByteTokenizer

TOKENIZER = ByteTokenizer()
MODEL = GPT(GPTConfig(256, block_size=8, n_layers=1, n_heads=1, d_model=8), rng=np.random.default_rng(0))
NO_EOS = ByteTokenizer(special_tokens=())


def written(prompt, n, **settings):
    notes = []
    config = GenerationConfig(max_new_tokens=n, **settings)
    text = "".join(write_on(MODEL, NO_EOS, prompt, config=config, rng=np.random.default_rng(5), notice=notes.append))
    return text, notes


def test_within_the_context_it_is_plain_generation():
    config = GenerationConfig(max_new_tokens=4, temperature=0)
    expected = generate_text(MODEL, NO_EOS, "abc", config=config)
    assert written("abc", 4, temperature=0) == (expected, [])


def test_longer_text_forgets_its_older_half_and_says_so_once():
    text, notes = written("abc", 40, temperature=0)
    assert len(notes) == 1 and "outgrew the context of 8 tokens" in notes[0]
    assert text.startswith(written("abc", 5, temperature=0)[0])


def test_after_the_context_is_full_its_last_half_is_the_prompt():
    seen = []

    class Noting(ByteTokenizer):
        def token_bytes(self, token_id):
            seen.append(token_id)
            return super().token_bytes(token_id)

    config = GenerationConfig(max_new_tokens=9, temperature=0)
    "".join(write_on(MODEL, Noting(special_tokens=()), "abcd", config=config, rng=np.random.default_rng(0)))
    halves = [list(b"abcd"), seen[0:4], seen[4:8]]
    parts = [generate(MODEL, [half], max_new_tokens=4, temperature=0).tokens[0] for half in halves]
    assert seen == sum(parts, [])[:9]


def test_all_tokens_that_were_asked_for_are_written():
    counted = []
    model_config = GenerationConfig(max_new_tokens=30, top_k=1)

    class Counting(ByteTokenizer):
        def token_bytes(self, token_id):
            counted.append(token_id)
            return super().token_bytes(token_id)

    "".join(write_on(MODEL, Counting(special_tokens=()), "x", config=model_config, rng=np.random.default_rng(0)))
    assert len(counted) == 30


def test_a_prompt_longer_than_the_context_keeps_its_tail_and_says_how_much_is_dropped():
    notes = []
    assert keep_tail(list(range(20)), block_size=8, max_new_tokens=100, notice=notes.append) == [16, 17, 18, 19]
    assert notes == ["the prompt has 20 tokens and the model's context holds 8: its first 16 were dropped"]
    assert keep_tail(list(range(20)), block_size=8, max_new_tokens=1) == list(range(13, 20))
    assert keep_tail([1, 2], block_size=8, max_new_tokens=100) == [1, 2]


def test_writing_ends_at_a_stop_string_even_across_the_context():
    whole, _ = written("abc", 30, temperature=0)
    stop = whole[12:14]
    assert written("abc", 30, temperature=0, stop_strings=(stop,))[0] == whole[: whole.index(stop)]


def test_a_context_of_one_token_is_refused():
    model = GPT(GPTConfig(257, block_size=1, n_layers=1, n_heads=1, d_model=8), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="block_size is 1"):
        next(write_on(model, TOKENIZER, "a", config=GenerationConfig(), rng=np.random.default_rng(0)))


@pytest.mark.parametrize("said", ["Hello.\n", "ok\nUse", "", "\n"])
def test_text_held_back_for_a_stop_string_comes_when_the_model_ends_there(script_model, said):
    model = script_model([*said.encode(), TOKENIZER.eos_id], vocab_size=TOKENIZER.vocab_size)
    config = GenerationConfig(temperature=0, stop_strings=("\n\n", "\nUser:"))
    pieces = list(write_on(model, TOKENIZER, "x", config=config, rng=None))
    assert "".join(pieces) == said and all(pieces)


def test_held_back_text_comes_too_when_a_stop_token_or_the_last_token_ends_it(script_model):
    model = script_model([*b"Hello.\n!more"], vocab_size=TOKENIZER.vocab_size)
    for ending in ({"stop_tokens": (ord("!"),)}, {"max_new_tokens": 7}):
        config = GenerationConfig(temperature=0, stop_strings=("\n\n",), **ending)
        assert "".join(write_on(model, TOKENIZER, "x", config=config, rng=None)) == "Hello.\n", ending


def test_within_the_context_pieces_are_those_of_stream_text_and_no_token_is_drawn_after_the_stop(script_model):
    text = "one\ntwo\n\nthree"
    config = GenerationConfig(temperature=0, stop_strings=("\n\n",), max_new_tokens=40)
    models = [script_model([*text.encode(), TOKENIZER.eos_id], vocab_size=TOKENIZER.vocab_size) for _ in range(2)]
    pieces = list(write_on(models[0], TOKENIZER, "x", config=config, rng=None))
    assert pieces == list(stream_text(models[1], TOKENIZER, "x", config=config)) and "".join(pieces) == "one\ntwo"
    assert len(models[0].batch_sizes) == len(models[1].batch_sizes) == len("one\ntwo\n\n")
