"""Encoding in machine code gives the ids of the plain algorithm, on one thread and on several, for texts of any kind."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm.kernels.text import byte_pairs, words
from tinyllm.kernels.text.byte_pairs import BytePairCoder
from tinyllm.tokenizers import BPETokenizer, merging
from tinyllm.tokenizers.layout import BYTE_ORDER
from tinyllm.tokenizers.unicode_classes import character_classes

BYTES = [bytes([byte]) for byte in BYTE_ORDER]
DOCUMENTS = [
    "the lowest newest widest words of the lower low",
    "aaaabbbabab aab abb 123 456 don't we'll",
    "über größer 中文字 中文",
] * 4


def coder_of(tokenizer):
    ordinary = np.sort(np.fromiter(tokenizer.ordinary.values(), np.int64))
    return BytePairCoder(
        tokenizer.tokens, ordinary=ordinary, merges=tokenizer._pairs, whole=tokenizer.ignore_merges,
        cut=tokenizer.pattern.cut, classes=character_classes(),
    )  # fmt: skip


TRAINED = {
    name: BPETokenizer.train(DOCUMENTS, vocab_size=400, pattern=name) for name in ("gpt2", "gpt4", "gpt4o", "qwen2", "smollm")
}
CODERS = {name: coder_of(tokenizer) for name, tokenizer in TRAINED.items()}
BY_RANK = BPETokenizer(TRAINED["gpt4"].tokens, None, special_tokens=TRAINED["gpt4"].special_tokens)
RANK_CODER = coder_of(BY_RANK)
text = st.one_of(st.text(st.sampled_from("abeghlnorstw 'd\n1中üß"), max_size=300), st.text(max_size=60))


def plain(tokenizer, data):
    """The ids by the definition alone: no table of words, no kernel."""
    ids = []
    for piece in tokenizer.pattern.split(data.decode("utf-8", "surrogateescape")):
        data = piece.encode("utf-8", "surrogateescape")
        if tokenizer.ignore_merges and data in tokenizer.ordinary:
            ids.append(tokenizer.ordinary[data])
        else:
            ids += merging.merge_by_search([tokenizer._byte_ids[byte] for byte in data], tokenizer._ranks)
    return ids


@pytest.mark.parametrize("name", TRAINED)
@settings(max_examples=60)
@given(texts=st.lists(st.one_of(text.map(lambda t: t.encode("utf-8", "replace")), st.binary(max_size=80)), max_size=4))
def test_ids_are_those_of_the_definition(name, texts):
    for data, ids in zip(texts, CODERS[name].encode(texts), strict=True):
        assert ids.dtype == np.int32 and ids.tolist() == plain(TRAINED[name], data)
        assert CODERS[name].decode(ids) == data


@given(data=text.map(lambda t: t.encode("utf-8", "replace")))
def test_ranks_alone_are_enough(data):
    assert RANK_CODER.encode([data])[0].tolist() == plain(BY_RANK, data) == BY_RANK.encode(data)


def test_merges_in_any_order_give_the_ids_of_the_definition():
    """Files of strangers: a later merge may enable an earlier one."""
    rng = random.Random(0)
    for _ in range(30):
        tokens, merges = list(BYTES), []
        while len(merges) < 30:
            left, right = rng.choice([b"a", b"b", *tokens[256:]]), rng.choice([b"a", b"b", b"c", *tokens[256:]])
            if left + right not in tokens:
                tokens.append(left + right)
                merges.append((left, right))
        rng.shuffle(merges)
        tokenizer = BPETokenizer(tokens, merges, pattern="gpt2")
        coder = coder_of(tokenizer)
        for n in (5, 40, 63, 64, 65, 200):
            data = bytes(rng.choices(b"abc", k=n))
            assert coder.encode([data])[0].tolist() == plain(tokenizer, data)


def test_a_text_in_parts_on_several_threads_is_the_text_in_one(monkeypatch):
    rng = random.Random(1)
    lines = ["".join(rng.choices("the low est\n\n  '中1", k=rng.randint(0, 60))) for _ in range(400)]
    texts = ["\n".join(lines).encode(), b"", b"one", "\n".join(lines[:100]).encode()]
    whole = CODERS["gpt2"].encode(texts)
    monkeypatch.setattr(byte_pairs, "PART", 100)
    parts = CODERS["gpt2"].encode(texts)
    assert len(list(byte_pairs.document_parts(texts))[0]) > 20
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    assert CODERS["gpt2"].encode([]) == []


def test_a_text_too_long_to_count_its_places_is_refused(monkeypatch):
    monkeypatch.setattr(byte_pairs, "LONGEST_PART", 99)
    with pytest.raises(ValueError, match="100 bytes without a line that begins with a letter came, expected at most 99"):
        CODERS["gpt4"].encode([b"a", b"b" * 100])
    assert CODERS["gpt4"].encode([b"b" * 99])[0].size


def test_the_table_of_words_is_emptied_when_it_is_full_and_the_ids_stay():
    coder = coder_of(TRAINED["gpt4"])
    rng = random.Random(2)
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = ["".join(rng.choices(letters, k=rng.randint(1, 30))) for _ in range(words.SLOTS)]
    data = " ".join(made).encode()
    first = coder.encode([data])[0]
    assert coder.words.used[:, 0].max() < words.SLOTS * 3 / 4 < len(set(made))
    assert coder.decode(first) == data
    sample = " ".join(made[-500:]).encode()
    assert coder.encode([sample])[0].tolist() == plain(TRAINED["gpt4"], sample)


@pytest.mark.parametrize("unit", ["a", "^", " ", "0", "\n", "\u0301", "ab", "'s", "中", "A"])
def test_hostile_texts_are_encoded_and_given_back(unit):
    data = (unit * 200_000).encode()
    for coder in CODERS.values():
        ids = coder.encode([data])[0]
        assert coder.decode(ids) == data
