import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinyllm.decoding import GenerationConfig, TextStream, encode_prompt, generate_text, generate_texts, stream_text
from tinyllm.tokenizers import ByteTokenizer, CharacterTokenizer


class ChunkTokenizer:
    """Token i is the i-th piece of a byte string, cut anywhere."""

    leading_spaces = 0
    stop_ids = ()

    def __init__(self, chunks):
        self.chunks = chunks

    def token_bytes(self, token_id):
        return self.chunks[token_id]


def cut(data, places):
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def shown(chunks, stop_strings):
    stream = TextStream(ChunkTokenizer(chunks), stop_strings=stop_strings)
    pieces = []
    for token in range(len(chunks)):
        pieces.append(stream.feed(token))
        if stream.stopped:
            break
    return [*pieces, stream.flush()]


texts = st.text(st.sampled_from("abcé漢🙂"), max_size=20)
stops = st.lists(st.text(st.sampled_from("abé🙂"), min_size=1, max_size=4), max_size=3)


@given(text=texts, stop_strings=stops, places=st.lists(st.integers(0, 100)))
@example(text="cabé", stop_strings=["bé", "a"], places=[])
@example(text="cabé", stop_strings=["b", "ab"], places=[])
def test_text_ends_before_the_stop_string_that_is_complete_first_however_tokens_cut_it(text, stop_strings, places):
    ends = [(text.index(stop) + len(stop), -len(stop)) for stop in stop_strings if stop in text]
    expected = text[: sum(min(ends))] if ends else text
    pieces = shown(cut(text.encode(), places), stop_strings)
    assert "".join(pieces) == expected
    assert "\ufffd" not in expected and not any(stop in "".join(pieces) for stop in stop_strings)


@given(text=texts, stop_strings=stops)
def test_no_piece_is_held_back_longer_than_a_stop_string_needs(text, stop_strings):
    stream, fed, out = TextStream(ChunkTokenizer([c.encode() for c in text]), stop_strings=stop_strings), "", ""
    for token, character in enumerate(text):
        fed, out = fed + character, out + stream.feed(token)
        if stream.stopped:
            break
        held = fed[len(out) :]
        assert held == "" or any(stop.startswith(held) for stop in stop_strings)


def test_what_looked_like_a_stop_string_is_shown_when_the_text_ends_there():
    assert "".join(shown([b"Us", b"er"], ["User:"])) == "User"


def test_a_character_unfinished_at_the_end_is_dropped():
    assert "".join(shown(["é".encode(), "漢".encode()[:2]], [])) == "é"


def test_nothing_comes_after_a_stop():
    stream = TextStream(ChunkTokenizer([b"a", b"!", b"b"]), stop_strings=["!"])
    assert [stream.feed(0), stream.feed(1), stream.feed(2), stream.flush()] == ["a", "", "", ""] and stream.stopped


TOKENIZER = ByteTokenizer()


def test_streamed_pieces_are_whole_characters_and_join_to_the_text(script_model):
    text = "naïve 漢字 🙂🙂 end"
    model = script_model([*text.encode(), TOKENIZER.eos_id], vocab_size=TOKENIZER.vocab_size)
    pieces = list(stream_text(model, TOKENIZER, "x", temperature=0))
    assert "".join(pieces) == text == generate_text(model, TOKENIZER, "x", temperature=0)
    assert all(pieces) and len(pieces) == len(text) and "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("stop", ["\nUser:", "🙂", "d!"])
def test_a_stop_string_over_several_tokens_is_never_shown(script_model, stop):
    model = script_model([*("Hello" + stop + " more").encode(), TOKENIZER.eos_id], vocab_size=TOKENIZER.vocab_size)
    settings = {"temperature": 0, "stop_strings": ("never", stop)}
    assert "".join(stream_text(model, TOKENIZER, "x", **settings)) == "Hello"
    model.batch_sizes.clear()
    assert generate_text(model, TOKENIZER, "x", **settings) == "Hello"
    assert len(model.batch_sizes) == len(("Hello" + stop).encode())  # and nothing is generated after it


def test_text_held_for_a_stop_string_is_shown_when_the_end_of_text_comes(script_model):
    model = script_model([*b"ok\nUse", TOKENIZER.eos_id], vocab_size=TOKENIZER.vocab_size)
    assert generate_text(model, TOKENIZER, "x", temperature=0, stop_strings=("\nUser:",)) == "ok\nUse"


def test_an_empty_prompt_starts_from_the_end_of_text_token(script_model):
    model = script_model([*b"hi", TOKENIZER.eos_id], vocab_size=TOKENIZER.vocab_size)
    assert generate_text(model, TOKENIZER, "", temperature=0) == "hi"
    with pytest.raises(ValueError, match="the prompt is empty, and the tokenizer has no eos_id"):
        generate_text(model, ByteTokenizer(special_tokens=()), "", temperature=0)


def test_every_id_that_the_folder_says_ends_the_text_and_its_first_token_begins_it(script_model):
    tokenizer = ByteTokenizer(special_tokens=["[BOS]", "[EOS]"]).with_said_ids(bos_id=256, stop_ids=[257, 33])
    for end in (257, 33):
        model = script_model([*b"hi", end], vocab_size=258)
        assert generate_text(model, tokenizer, "", temperature=0) == "hi"
        assert list(stream_text(model, tokenizer, "", temperature=0)) == ["h", "i"]
    assert encode_prompt(tokenizer, "") == [256]


def test_a_prompt_may_be_token_ids(script_model):
    model = script_model([*b"hi", TOKENIZER.eos_id], vocab_size=TOKENIZER.vocab_size, n_prompt=3)
    assert generate_text(model, TOKENIZER, [1, 2, TOKENIZER.eos_id], temperature=0) == "hi"


def test_texts_of_a_batch_are_those_of_each_prompt_alone(hand_made_model):
    # Each row writes the letter that its last token is followed by in the alphabet, up to row-dependent ends.
    def next_logits(token, n_read, row):
        return 10.0 * (np.arange(257) == (256 if token == ord("h") else token + 1))

    model = hand_made_model(next_logits, vocab_size=257)
    prompts = ["a", "say d", "bc", "h"]
    together = generate_texts(model, TOKENIZER, prompts, temperature=0, stop_strings=("fg",), max_new_tokens=20)
    assert together == ["bcde", "e", "de", ""]
    assert together == [
        generate_text(model, TOKENIZER, prompt, temperature=0, stop_strings=("fg",), max_new_tokens=20) for prompt in prompts
    ]


def test_streaming_and_whole_text_agree_when_sampling(small_gpt):
    class Letters(ChunkTokenizer):
        stop_ids = (39,)

        def encode(self, text):
            return [ord(c) - 97 for c in text]

    tokenizer = Letters([chr(97 + i).encode() for i in range(40)])
    config = GenerationConfig(max_new_tokens=40, temperature=1.5, stop_strings=("zq", "m"))
    for seed in range(10):
        pieces = stream_text(small_gpt, tokenizer, "abc", config=config, rng=np.random.default_rng(seed))
        assert "".join(pieces) == generate_text(small_gpt, tokenizer, "abc", config=config, rng=np.random.default_rng(seed))


def test_an_empty_prompt_starts_a_document():
    assert encode_prompt(ByteTokenizer(), "") == [256]
    with pytest.raises(ValueError, match="the prompt is empty"):
        encode_prompt(ByteTokenizer(special_tokens=()), b"")


def test_special_tokens_in_a_prompt_are_letters():
    assert encode_prompt(ByteTokenizer(), "<|endoftext|>") == list(b"<|endoftext|>")


def test_bytes_are_text_and_not_ids():
    tokenizer = CharacterTokenizer("cba")
    assert encode_prompt(tokenizer, b"abc") == encode_prompt(tokenizer, "abc") == [2, 1, 0]


def test_bad_requests_are_errors_at_once(small_gpt):
    for prompt in (None, 3):
        with pytest.raises(ValueError, match="expected text, bytes of text, or a list of token ids"):
            generate_text(small_gpt, TOKENIZER, prompt, temperature=0)
    with pytest.raises(ValueError, match="prompt 0 has dtype float64"):
        generate_text(small_gpt, TOKENIZER, [1.5], temperature=0, max_new_tokens=1)
    with pytest.raises(ValueError, match="prompts is one string"):
        generate_texts(small_gpt, TOKENIZER, "hello", temperature=0)
    with pytest.raises(ValueError, match="stop_strings with n_beams above 1"):
        generate_text(small_gpt, TOKENIZER, "a", n_beams=2, stop_strings=("x",))
    with pytest.raises(ValueError, match="rng is None"):
        stream_text(small_gpt, ByteTokenizer(special_tokens=()), [1, 2])
