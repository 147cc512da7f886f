import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.tokenizers import ByteTokenizer, StreamDecoder


@given(ids=st.lists(st.one_of(st.integers(0, 256), st.sampled_from(list("🎉é中".encode()))), max_size=30))
def test_what_is_fed_equals_what_is_decoded_at_once(ids):
    tokenizer = ByteTokenizer()
    for errors in ("replace", "surrogateescape", "ignore"):
        decoder = StreamDecoder(tokenizer, errors)
        assert "".join(decoder.feed(i) for i in ids) + decoder.flush() == tokenizer.decode(ids, errors)


def test_an_unfinished_character_is_held_back():
    decoder = StreamDecoder(ByteTokenizer())
    assert [decoder.feed(byte) for byte in "a🎉".encode()] == ["a", "", "", "", "🎉"]


def test_flush_shows_the_rest_and_starts_afresh():
    decoder = StreamDecoder(ByteTokenizer())
    assert decoder.feed(0xF0) == "" and decoder.flush() == "\ufffd"
    assert decoder.feed(ord("b")) == "b" and decoder.flush() == ""


def test_an_unknown_id_is_an_error():
    with pytest.raises(ValueError, match="vocabulary size 257"):
        StreamDecoder(ByteTokenizer()).feed(257)
