import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm import kernels
from tinyllm.tokenizers import BPETokenizer, bpe, merging
from tinyllm.tokenizers.layout import BYTE_ORDER
from tinyllm.tokenizers.pretokenize import get_pattern, own_pattern

EXPECTED = json.loads((Path(__file__).parents[1] / "fixtures/tokenizers/expected.json").read_text(encoding="utf-8"))
BYTES = [bytes([byte]) for byte in BYTE_ORDER]
RUNS = BPETokenizer.train(["aaaabbbabab" * 4, "ab ba aab abb" * 3], vocab_size=285, special_tokens=())


@given(text=st.text(st.sampled_from("ab "), max_size=80))
def test_the_heap_equals_the_search(text):
    symbols = [RUNS._byte_ids[byte] for byte in text.encode()]
    assert merging.merge_by_heap(symbols, RUNS._ranks) == merging.merge_by_search(symbols, RUNS._ranks)


def test_the_heap_equals_the_search_on_random_merges():
    """Merges in random order, also such that a later merge enables an earlier one: trained ones never do that."""
    rng = random.Random(0)
    for _ in range(300):
        ranks, next_id = {}, 4
        for rank in range(12):
            pair = (rng.randrange(next_id), rng.randrange(next_id))
            if pair not in ranks:
                ranks[pair] = (rng.randrange(100) * 100 + rank, next_id)
                next_id += 1
        symbols = [rng.randrange(4) for _ in range(rng.randrange(40))]
        assert merging.merge_by_heap(symbols, ranks) == merging.merge_by_search(symbols, ranks)


def test_the_earliest_merge_comes_first_even_if_another_gives_longer_tokens():
    merges = [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")]
    tokens = [*BYTES, b"bc", b"ab", b"abc"]
    tokenizer = BPETokenizer(tokens, merges, pattern="gpt2")
    assert [tokens[i] for i in tokenizer.encode("abc")] == [b"a", b"bc"]
    assert tokenizer.explain("abc ab") == [[[b"a", b"b", b"c"], [b"a", b"bc"]], [[b" ", b"a", b"b"], [b" ", b"ab"]]]


DNA = "".join(random.Random(0).choices("ACGT", k=100_000))


@pytest.mark.parametrize(
    "text", [DNA, "a" * 1_000_000, "ab" * 50_000, "^" * 99_999, "0" * 9999, "'s" * 9999, " " * 9999, "é" * 9999]
)
def test_a_huge_word_is_encoded_without_searching_it_again_and_again(text, monkeypatch):
    """Places looked up, not seconds: each symbol is joined once, and a heap entry stands for all places of a pair."""
    tokenizer = BPETokenizer.train([DNA[:2000], text[:300]], vocab_size=300)
    pushes = []
    push = merging.heapq.heappush
    monkeypatch.setattr(merging.heapq, "heappush", lambda *a: (pushes.append(1), push(*a))[1])
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text) and len(pushes) < 1000


@given(text=st.text(st.sampled_from("ACGT"), min_size=48, max_size=400), n=st.integers(257, 300))
@settings(max_examples=40)
def test_long_pieces_get_the_ids_of_the_definition(text, n):
    tokenizer = BPETokenizer.train([DNA[:500]], vocab_size=n)
    assert tokenizer.encode(text) == merging.merge_by_search(
        [tokenizer._byte_ids[byte] for byte in text.encode()], tokenizer._ranks
    )


def test_a_merge_that_brings_about_an_earlier_one_waits_for_it_without_looking_at_its_places_again():
    """Files of strangers may hold merges in any order: here each "ab" that is joined makes an "aba", learned before it."""
    tokens = [*BYTES, b"ab", b"aba"]
    tokenizer = BPETokenizer(tokens, [(b"ab", b"a"), (b"a", b"b")], pattern="gpt2")
    ids = tokenizer.encode("ab" * 100_001)
    assert ids[:3] == [257, *tokenizer.encode("b"), 257] and len(ids) == 100_001


def test_remembered_pieces_stay_bounded(monkeypatch):
    monkeypatch.setattr(bpe, "CACHE_PIECES", 10)
    tokenizer = BPETokenizer(BYTES, [], pattern="gpt2")
    for i in range(100):
        assert tokenizer.decode(tokenizer.encode(f" word{i}")) == f" word{i}"
    tokenizer.encode("x" * 1000)
    assert 0 < len(tokenizer._cache) <= 10 and max(map(len, tokenizer._cache)) <= bpe.CACHE_LENGTH


def test_streaming_a_long_text_holds_back_little():
    class Watched(BPETokenizer):
        longest = 0

        def _encode_prefix(self, text, reserve):
            Watched.longest = max(Watched.longest, len(text))
            return super()._encode_prefix(text, reserve)

    tokenizer = Watched(RUNS.tokens, RUNS.merges, pattern="gpt4")
    ids = tokenizer.encode_iterable("ab ba aab, 12 \n" for _ in range(5000))
    assert list(ids) == RUNS.encode("ab ba aab, 12 \n" * 5000)
    assert Watched.longest < 60


def test_streaming_one_huge_word_looks_at_it_a_few_times_only():
    class Watched(BPETokenizer):
        looked_at = 0

        def _encode_prefix(self, text, reserve):
            Watched.looked_at += len(text)
            return super()._encode_prefix(text, reserve)

    tokenizer = Watched(RUNS.tokens, RUNS.merges, pattern="gpt4")
    assert list(tokenizer.encode_iterable("b" for _ in range(20_000))) == RUNS.encode("b" * 20_000)
    assert Watched.looked_at < 4 * 20_000


def test_a_run_of_spaces_waits_for_the_line_end_that_may_join_it():
    text = "x\n" + " " * 50 + "\n" + " " * 50 + "y"  # for GPT-4 one piece from the first to the second line end
    tokenizer = BPETokenizer.train([text] * 2, vocab_size=400, pattern="gpt4")
    assert list(tokenizer.encode_iterable(text)) == tokenizer.encode(text)
    assert tokenizer.tokens[tokenizer.encode(text)[1]] == b"\n" + b" " * 50 + b"\n"


@pytest.mark.parametrize(
    ("tokens", "merges", "text"),
    [
        (BYTES[1:], [], r"tokens: b'!' is not in the vocabulary"),
        ([*BYTES, b"!"], [], "two ids stand for the same bytes"),
        ([*BYTES, b"ab"], [(b"a", b"bc")], r"merges\[0\]: b'bc' is not in the vocabulary"),
        ([*BYTES, b"ab"], [(b"a", b"b"), (b"ab", b"c")], r"merges\[1\]: b'abc' is not in the vocabulary"),
    ],
)
def test_inconsistent_vocabularies_are_refused(tokens, merges, text):
    with pytest.raises(ValueError, match=text):
        BPETokenizer(tokens, merges)


def test_merges_cannot_spell_a_special_token():
    """A file from a stranger could otherwise let a user's text become a control token."""
    with pytest.raises(ValueError, match=r"merges\[0\]: b'<>' is not in the vocabulary"):
        BPETokenizer([*BYTES, b"<>"], [(b"<", b">")], special_tokens={"<>": 256})


def test_large_texts_go_through_the_kernels_and_get_the_same_ids(monkeypatch):
    tokenizer = BPETokenizer.train(["the lowest of the widest words, 123"] * 3, vocab_size=300)
    text = "the low est\n\n  widest 12345 words!\nWords 'll\n" * 2000
    wanted = tokenizer.encode(text[:300])
    monkeypatch.setattr(bpe, "LARGE", 10**9)
    plain = BPETokenizer(tokenizer.tokens, tokenizer.merges, special_tokens=tokenizer.special_tokens)
    expected = plain.encode(text)
    monkeypatch.setattr(bpe, "LARGE", 1 << 16)
    assert tokenizer.encode(text) == expected and plain._coder is None
    assert bool(tokenizer._coder) == (kernels.backend() == "numba")
    assert [ids.tolist() for ids in tokenizer.encode_arrays([text, text.encode(), b"", "low"])] == [
        expected, expected, [], plain.encode("low")]  # fmt: skip
    assert tokenizer.encode(text[:300]) == wanted and tokenizer.decode(expected) == text
    assert tokenizer.decode(np.array(expected)) == text == tokenizer.decode(iter(expected))
    cut = [text[i : i + 30_000] for i in range(0, len(text), 30_000)]
    assert np.concatenate(list(tokenizer.encode_chunks(cut))).tolist() == expected
    more = tokenizer.with_special_tokens(["<|new|>"])
    ids = more.encode(text + "<|new|>", allowed_special="all")
    assert ids == [*expected, 300 - (300 - tokenizer.vocab_size)] and more.decode(ids) == text + "<|new|>"


def test_a_pattern_of_your_own_cuts_as_you_say_and_loses_nothing():
    words_and_digits = own_pattern(r"[a-z]+|\d")
    assert words_and_digits.split("ab12, cd!") == ["ab", "1", "2", ", ", "cd", "!"]
    tokenizer = BPETokenizer.train(["ab ab 12 12"] * 3, vocab_size=262, pattern=words_and_digits)
    assert tokenizer.decode(tokenizer.encode("ab12 é" * 9)) == "ab12 é" * 9 and b"12" not in tokenizer.tokens
    assert own_pattern(r"\s+").name == "own" and own_pattern(get_pattern("gpt4").published).name == "gpt4"
    with pytest.raises(ValueError, match="expected a regular expression: "):
        own_pattern("(")
    with pytest.raises(ValueError, match="no groups that capture"):
        own_pattern("(a)b")
    for loses in ("a|", "(?=a)"):
        with pytest.raises(ValueError, match="matches the empty text, so it loses text"):
            own_pattern(loses).split("xay")
