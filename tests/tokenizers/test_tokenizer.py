"""The contract: every tokenizer passes the same battery."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    SentencePieceBPETokenizer,
    Tokenizer,
    load_tokenizer,
)
from tinyllm.tokenizers.characters import to_bytes, to_text
from tinyllm.tokenizers.merging import merge_with_dropout

DOCUMENTS = [
    "the low sun, lower and lowest: newer, newest, wider\n" * 3,
    "été 12345 don't\t\r\n  中文 🎉🎉 if x:\n    y += 1\n" * 3,
]
SPECIAL = ("<|endoftext|>", "<|end|>", "<|end|><|end|>")


def make(name: str) -> Tokenizer:
    if name == "character":
        return CharacterTokenizer.train(DOCUMENTS, special_tokens=SPECIAL)
    if name == "byte":
        return ByteTokenizer(special_tokens=SPECIAL)
    return BPETokenizer.train(DOCUMENTS, vocab_size=330, pattern=name, special_tokens=SPECIAL)


TOKENIZERS = {name: make(name) for name in ("character", "byte", "gpt2", "gpt4", "qwen2")}
LOSSLESS = [name for name in TOKENIZERS if name != "character"]
every = pytest.mark.parametrize("name", TOKENIZERS)
lossless = pytest.mark.parametrize("name", LOSSLESS)

KNOWN = "".join(DOCUMENTS)
pieces = st.sampled_from([*"'l \né中🎉", "the", " low", "'ll", "  ", "\r\n", "12", "345", *SPECIAL, "<|", "|>"])
mixtures = st.lists(st.one_of(pieces, st.text(max_size=3))).map("".join)
any_text = st.text(st.characters(exclude_categories=()), max_size=30)  # lone surrogates too


@every
@given(text=st.text(sorted(set(KNOWN)), max_size=60))
def test_known_text_comes_back(name, text):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@lossless
@given(data=st.one_of(st.binary(max_size=60), mixtures.map(str.encode)))
def test_any_bytes_come_back_exactly(name, data):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.decode_bytes(tokenizer.encode(data)) == data


@lossless
@given(data=st.binary(max_size=40))
def test_undecodable_bytes_survive_as_text_with_surrogateescape(name, data):
    tokenizer = TOKENIZERS[name]
    text = tokenizer.decode(tokenizer.encode(data), "surrogateescape")
    assert tokenizer.encode(text) == tokenizer.encode(data)


@every
@given(text=any_text)
def test_any_str_is_accepted_and_ids_stay_inside_the_vocabulary(name, text):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert len(tokenizer.decode(ids).encode("utf-8")) >= 0  # what comes back is valid text


@every
@given(text=mixtures)
def test_text_never_makes_special_tokens_unless_asked(name, text):
    tokenizer = TOKENIZERS[name]
    assert not set(tokenizer.encode(text)) & set(tokenizer.special_tokens.values())


@every
@given(texts=st.lists(st.one_of(mixtures, st.binary(max_size=10)), max_size=4))
def test_a_batch_equals_its_texts_one_by_one(name, texts):
    tokenizer = TOKENIZERS[name]
    for allowed in ((), "all"):
        expected = [tokenizer.encode(text, allowed_special=allowed) for text in texts]
        assert tokenizer.encode_batch(texts, allowed_special=allowed) == expected


@every
@given(text=mixtures, cuts=st.lists(st.integers(0, 60), max_size=6))
def test_encoding_in_chunks_equals_encoding_at_once(name, text, cuts):
    tokenizer = TOKENIZERS[name]
    for source in (text, text.encode("utf-8")):
        edges = [0, *sorted(min(cut, len(source)) for cut in cuts), len(source)]
        chunks = [source[a:b] for a, b in itertools.pairwise(edges)]
        for allowed in ((), "all", {"<|end|>"}):
            whole = tokenizer.encode(source, allowed_special=allowed)
            assert list(tokenizer.encode_iterable(chunks, allowed_special=allowed)) == whole


@every
@given(text=st.text(st.sampled_from("'l s\nr\r1a.\u3000<|end>"), max_size=24))
def test_encoding_letter_by_letter_equals_encoding_at_once(name, text):
    tokenizer = TOKENIZERS[name]
    assert list(tokenizer.encode_iterable(text)) == tokenizer.encode(text)


@lossless
@given(data=st.binary(max_size=24), step=st.integers(1, 5))
def test_broken_bytes_in_chunks_equal_broken_bytes_at_once(name, data, step):
    tokenizer = TOKENIZERS[name]
    chunks = [data[i : i + step] for i in range(0, len(data), step)]
    assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(data)


@every
def test_a_surrogate_pair_cut_between_chunks_is_joined(name):
    tokenizer = TOKENIZERS[name]
    assert list(tokenizer.encode_iterable(["\ud83c", "\udf89", "\ud83c"])) == tokenizer.encode("🎉\ufffd")


@every
def test_streaming_does_not_wait_for_the_end(name):
    def chunks():
        for i in range(1000):
            yield f"the low sun {i} "
            seen.append(i)

    seen: list[int] = []
    ids = TOKENIZERS[name].encode_iterable(chunks())
    next(ids)
    assert len(seen) < 5


@every
def test_the_longest_of_overlapping_special_tokens_wins(name):
    tokenizer = TOKENIZERS[name]
    one, two = tokenizer.special_tokens["<|end|>"], tokenizer.special_tokens["<|end|><|end|>"]
    assert tokenizer.encode("<|end|><|end|><|end|>", allowed_special="all") == [two, one]
    assert tokenizer.encode("<|end|><|end|>", allowed_special={"<|end|>"}) == [one, one]


@every
def test_special_tokens_between_text_leave_the_text_alone(name):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode("the<|endoftext|>low", allowed_special={"<|endoftext|>"})
    assert ids == tokenizer.encode("the") + [tokenizer.eos_id] + tokenizer.encode("low")
    assert tokenizer.decode(ids) == "the<|endoftext|>low"


@every
def test_a_saved_tokenizer_loads_as_the_same_one(name, tmp_path):
    tokenizer = TOKENIZERS[name]
    path = tokenizer.save(tmp_path / "new" / "folder")
    assert path.name == "tokenizer.json"
    for place in (path, path.parent):
        loaded = load_tokenizer(place)
        assert type(loaded) is type(tokenizer)
        assert loaded.fingerprint() == tokenizer.fingerprint()
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.encode(KNOWN) == tokenizer.encode(KNOWN)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == path.read_bytes()


def test_fingerprints_differ_and_do_not_change_between_versions():
    prints = {name: tokenizer.fingerprint() for name, tokenizer in TOKENIZERS.items()}
    assert len(set(prints.values())) == len(prints)
    # Checkpoints store this number: a change here means that old checkpoints no longer match their tokenizer.
    assert ByteTokenizer().fingerprint() == "7bbdf97abc6bc44458b69414bf95e3b997c310a0e74050387cce51ab7b385c68"


@every
@pytest.mark.parametrize("wrong", [-1, 10**9])
def test_an_id_outside_the_vocabulary_is_an_error(name, wrong):
    tokenizer = TOKENIZERS[name]
    with pytest.raises(ValueError, match=rf"ids: got {wrong}.*vocabulary size {tokenizer.vocab_size}"):
        tokenizer.decode([0, wrong])


@every
@pytest.mark.parametrize("wrong", [[1.0], [None], "ab", 7, [[1]]])
def test_ids_that_are_not_whole_numbers_are_an_error(name, wrong):
    with pytest.raises(ValueError, match="whole numbers"):
        TOKENIZERS[name].decode(wrong)


@every
def test_arrays_of_ids_are_decoded(name):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode("the low")
    for dtype in (np.int64, np.uint16, np.int32):
        assert tokenizer.decode(np.array(ids, dtype)) == "the low"


@every
def test_every_single_id_decodes_and_the_empty_text_has_none(name):
    tokenizer = TOKENIZERS[name]
    assert b"".join(tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)) == b"".join(tokenizer.tokens)
    assert tokenizer.encode("") == [] == tokenizer.encode(b"") and tokenizer.decode([]) == ""


@every
def test_wrong_arguments_are_explained(name):
    tokenizer = TOKENIZERS[name]
    for call, text in [
        (lambda: tokenizer.encode(7), "text: got int, expected str or bytes"),
        (lambda: tokenizer.encode("a", allowed_special="<|end|>"), 'expected a set of tokens or "all"'),
        (lambda: tokenizer.encode("a", allowed_special={"<|nope|>"}), "not a special token here; known: '<|end"),
        (lambda: tokenizer.encode_batch("ab"), "texts: got one str"),
    ]:
        with pytest.raises(ValueError) as caught:
            call()
        assert text in str(caught.value)


@pytest.mark.parametrize("special", [["<a>", "<a>"], [""], ["\ud800"], ["\udc80"], ["a"]])
def test_unusable_special_tokens_are_refused(special):
    with pytest.raises(ValueError, match="special_tokens"):
        ByteTokenizer(special_tokens=special)


def test_a_special_token_written_like_an_ordinary_one_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="special_tokens: 'é' is written like the ordinary token"):
        ByteTokenizer(special_tokens=["é"]).save(tmp_path)  # é is how the file shows byte 0xE9


def test_the_end_of_text_token_is_found_by_its_usual_names():
    assert ByteTokenizer(special_tokens=["<pad>", "</s>"]).eos_id == 257
    assert ByteTokenizer(special_tokens=["<pad>"]).eos_id is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ud83c\udf89", "🎉".encode()),  # a pair is its character, as in UTF-16
        ("\udc80\udcff", b"\x80\xff"),  # escaped bytes
        ("\udcc3\udca9", "é".encode()),  # escaped bytes that are UTF-8 together
        ("a\ud800b", "a\ufffdb".encode()),  # any other lone half
        ("\udd00", "\ufffd".encode()),
    ],
)
def test_the_rule_for_surrogates(text, expected):
    assert to_bytes(to_text(text)) == expected


@given(data=st.binary(max_size=50))
def test_bytes_survive_the_way_through_text(data):
    assert to_bytes(to_text(data)) == data


@every
def test_special_tokens_can_be_added_and_what_was_there_keeps_its_id(name, tmp_path):
    tokenizer = TOKENIZERS[name]
    more = tokenizer.with_special_tokens(("<|user|>", "<|end|>", "<|tool|>", "<|user|>"))  # <|end|> is there already
    n = tokenizer.vocab_size
    assert more.special_tokens == {**tokenizer.special_tokens, "<|user|>": n, "<|tool|>": n + 1}
    assert more.vocab_size == n + 2 and tokenizer.vocab_size == n and "<|user|>" not in tokenizer.special_tokens
    text = KNOWN + "<|user|>"
    assert more.encode(text) == tokenizer.encode(text)
    assert more.encode("the<|user|>", allowed_special="all") == [*tokenizer.encode("the"), n]
    assert more.eos_id == tokenizer.eos_id and type(more) is type(tokenizer)
    assert tokenizer.with_special_tokens("<|end|>") is tokenizer
    more.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint() == more.fingerprint() != tokenizer.fingerprint()
    assert load_tokenizer(tmp_path).encode(text, allowed_special="all") == more.encode(text, allowed_special="all")


@pytest.mark.parametrize(("wrong", "complaint"), [("a", "ordinary token"), ("", "one character"), ("\ud800", "surrogates")])
def test_an_unusable_added_token_is_refused_and_changes_nothing(wrong, complaint):
    tokenizer = ByteTokenizer()
    with pytest.raises(ValueError, match=complaint):
        tokenizer.with_special_tokens([wrong])
    assert tokenizer.vocab_size == 257


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    tokenizer = TOKENIZERS["gpt4"]
    path = tokenizer.save(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError):
        TOKENIZERS["byte"].save(tmp_path)
    assert path.read_bytes() == before and {p.name for p in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    assert json.loads(before)["model"]["type"] == "BPE"


REFUSING = ByteTokenizer(special_tokens=["<|a|>", "<|a|><|b|>"]).with_special_text("error")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text, **allowed: REFUSING.encode(text, **allowed),
        lambda text, **allowed: REFUSING.encoding(text, **allowed).ids,
        lambda text, **allowed: REFUSING.encode_batch([text], **allowed)[0],
        lambda text, **allowed: list(REFUSING.encode_iterable(list(text), **allowed)),
    ],
    ids=["encode", "encoding", "batch", "stream"],
)
def test_text_that_spells_a_special_token_can_be_an_error(encode):
    text = "x" * 50 + "中<|a|>"
    with pytest.raises(ValueError, match=r"at character 51 stands the special token '<\|a\|>', which text may not spell"):
        encode(text)
    with pytest.raises(ValueError, match=r"'<\|a\|><\|b\|>'"):
        encode("<|a|><|b|>", allowed_special={"<|a|>"})
    assert (
        encode(text, allowed_special="all")[-1] == encode(text, allowed_special={"<|a|>"})[-1] == REFUSING.special_tokens["<|a|>"]
    )
    assert encode("<|a") == REFUSING.with_special_text("plain").encode("<|a")
    with pytest.raises(ValueError, match="special_text: got 'raise', expected 'plain' or 'error'"):
        REFUSING.with_special_text("raise")


class TestDropout:
    """BPE-dropout, of both kinds of BPE."""

    DOCUMENTS = ["the lowest newest widest words of the lower low"] * 5
    MADE = (BPETokenizer.train(DOCUMENTS, vocab_size=300), SentencePieceBPETokenizer.train(DOCUMENTS, vocab_size=320))

    @pytest.mark.parametrize("tokenizer", MADE, ids=["bytes", "marked"])
    def test_tokens_between_the_usual_ones_and_none_merged(self, tokenizer):
        rng, text = np.random.default_rng(0), "the lowest lower é"
        assert tokenizer.sample(text, rng=rng, dropout=0.0) == tokenizer.encode(text)
        apart = tokenizer.sample(text, rng=rng, dropout=1.0)
        assert len(apart) == (len(text.encode()) if tokenizer is self.MADE[0] else len(text) + 2)  # a space before, é as bytes
        cuts = [tokenizer.sample(text, rng=rng, dropout=0.3) for _ in range(200)]
        assert {tokenizer.decode(cut) for cut in cuts} == {text} and len(set(map(tuple, cuts))) > 20
        assert len(tokenizer.encode(text)) < np.mean(list(map(len, cuts))) < len(apart)

    def test_a_pair_is_passed_over_as_often_as_said(self):
        """One word of two symbols, one merge: it is made unless it is passed over."""
        rng = np.random.default_rng(1)
        made = sum(len(merge_with_dropout([0, 1], {(0, 1): (0, 2)}, dropout=0.25, rng=rng)) == 1 for _ in range(4000))
        assert abs(made - 3000) < 110  # four standard deviations

    def test_a_probability_is_asked_for(self):
        for tokenizer in self.MADE:
            with pytest.raises(ValueError, match="dropout: got 1.5, expected a probability, 0 to 1"):
                tokenizer.sample("a", rng=np.random.default_rng(0), dropout=1.5)
