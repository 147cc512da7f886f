"""WordPiece, Unigram and BPE with marked spaces give what the libraries give whose files they are.

The files and what is expected: fixtures/make_tokenizer_schemes.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tinyllm.storage import FormatError
from tinyllm.tokenizers import StreamDecoder, load_tokenizer
from tinyllm.tokenizers.formats.protobuf import read_fields, write_field
from tinyllm.tokenizers.formats.sentencepiece import read_sentencepiece, write_sentencepiece
from tinyllm.tokenizers.formats.vocab_txt import read_vocab_txt, write_vocab_txt

HERE = Path(__file__).parents[2] / "fixtures" / "tokenizers" / "schemes"
EXPECTED = json.loads((HERE / "expected.json").read_text("utf-8"))
TEXTS, FILES = EXPECTED["texts"], EXPECTED["files"]
every_file = pytest.mark.parametrize("name", FILES)


def load(name):
    return load_tokenizer(HERE / name)


@every_file
def test_ids_are_the_reference_s(name):
    tokenizer = load(name)
    for text, ids in zip(TEXTS, FILES[name]["ids"], strict=True):
        found = tokenizer.encode(text) if name.endswith(".model") else tokenizer.encoding(text).ids
        assert found == ids, text


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".json")])
def test_offsets_are_the_reference_s(name):
    tokenizer = load(name)
    for text, offsets in zip(TEXTS, FILES[name]["offsets"], strict=True):
        assert [list(span) for span in tokenizer.encoding(text).offsets] == offsets, text


@every_file
def test_decoded_text_is_the_reference_s(name):
    tokenizer = load(name)
    for ids, text in zip(FILES[name]["ids"], FILES[name]["decoded"], strict=True):
        if "\ufffd" not in text and "\u2047" not in text:  # sentencepiece's sign for the unknown
            assert tokenizer.decode(ids) == text
            stream = StreamDecoder(tokenizer)
            assert "".join(map(stream.feed, ids)) + stream.flush() == text


@every_file
def test_encode_is_encoding_without_its_template(name):
    tokenizer = load(name)
    for text, ids in zip(TEXTS, tokenizer.encode_arrays(TEXTS), strict=True):
        assert ids.tolist() == tokenizer.encode(text) == tokenizer.encoding(text, add_template=False).ids


@every_file
def test_a_text_in_chunks_gives_the_ids_of_the_whole(name):
    tokenizer = load(name)
    text = "\n".join(TEXTS[:20])
    assert list(tokenizer.encode_iterable(text[i : i + 7] for i in range(0, len(text), 7))) == tokenizer.encode(text)


@every_file
def test_written_and_read_again_it_is_the_same(name, tmp_path):
    tokenizer = load(name)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint()
    for text in TEXTS:
        assert again.encoding(text) == tokenizer.encoding(text)


@every_file
def test_with_new_special_tokens_it_is_written_and_read_again(name, tmp_path):
    tokenizer = load(name).with_special_tokens(["<|user|>", "<|end|>"])
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint() == tokenizer.fingerprint() != load(name).fingerprint()
    assert again.vocab_size == tokenizer.vocab_size == load(name).vocab_size + 2
    for text in ("Hello<|user|> the low<|end|>new", "<|user|>", " <|end|>  sun"):
        assert again.encode(text, allowed_special="all") == tokenizer.encode(text, allowed_special="all")
        assert tokenizer.special_tokens["<|end|>"] not in tokenizer.encode(text)
    if name.endswith(".model"):
        write_sentencepiece(tokenizer, tmp_path / "x.model")
        assert read_sentencepiece(tmp_path / "x.model").special_tokens == tokenizer.special_tokens


@pytest.mark.parametrize("name", ["unigram.model", "unigram_bytes.model", "bpe.model"])
def test_a_sentencepiece_model_is_written_and_read_again(name, tmp_path):
    tokenizer = load(name)
    write_sentencepiece(tokenizer, tmp_path / "again.model")
    again = read_sentencepiece(tmp_path / "again.model")
    assert again.fingerprint() == tokenizer.fingerprint()
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    assert (again.eos_id, again.bos_id) == (tokenizer.eos_id, tokenizer.bos_id) == (2, 1)


def test_n_best_cuts_are_the_reference_s():
    for name in ("unigram.model", "unigram_bytes.model"):
        found = load(name).n_best(TEXTS[8], 5)
        assert [ids for ids, _ in found] == [ids for ids, _ in FILES[name]["n_best"]]
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        assert found[0][0] == load(name).encode(TEXTS[8])


def test_cuts_are_drawn_by_their_probability():
    tokenizer = load("unigram.model")
    cuts = tokenizer.n_best("the the", 400)
    p = np.exp([score for _, score in cuts])
    rng = np.random.default_rng(0)
    drawn = [tuple(tokenizer.sample("the the", rng=rng)) for _ in range(2000)]
    for (ids, _), share in zip(cuts[:3], (p / p.sum())[:3], strict=True):
        assert abs(drawn.count(tuple(ids)) / 2000 - share) < 4 * np.sqrt(share * (1 - share) / 2000) + 1e-3
    assert all(tokenizer.decode(ids) == "the the" for ids in drawn)
    assert len(set(map(tuple, (tokenizer.sample("the the", rng=rng, alpha=0) for _ in range(200))))) > 3


def test_a_vocab_txt_gives_the_same_tokenizer(tmp_path):
    tokenizer = load("bert.json")
    write_vocab_txt(tokenizer, tmp_path / "vocab.txt")
    again = read_vocab_txt(tmp_path / "vocab.txt")
    plain = [
        text for text in TEXTS if "mixed" not in text and "NA" not in text.upper()
    ]  # words that the file cannot say are added
    assert [again.encoding(text) for text in plain] == [tokenizer.encoding(text) for text in plain]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_tokenizer(tmp_path).encode("The") != again.encode("The")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda data: data[:-3], "content: expected a SentencePiece model"),
        (lambda data: b"", "pieces.type: expected one unknown piece, found 0"),
        (lambda data: data + write_field(1, write_field(1, b"x")) * 2, "pieces: expected each piece once, found 'x'"),
        (lambda data: data + write_field(1, write_field(1, b"x") + write_field(3, 5)), "no unused pieces"),
        (lambda data: data + write_field(1, write_field(1, b"\xff")), "content: expected a SentencePiece model"),
        (lambda data: data + write_field(1, write_field(1, b"xyz") + write_field(2, float("nan"))), "has nan"),
        (
            lambda data: data + write_field(2, write_field(3, 3)),
            "trainer_spec.model_type: expected 1 (Unigram) or 2 (BPE), found 3",
        ),
        (lambda data: data + write_field(2, write_field(24, 1)), "treat_whitespace_as_suffix"),
        (lambda data: data + write_field(2, write_field(35, 1)), "byte_fallback: expected pieces for all 256 bytes"),
        (lambda data: data + write_field(3, write_field(2, b"\x05\0\0\0")), "precompiled_charsmap"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "expected a SentencePiece model"),
    ],
)
def test_a_damaged_model_is_refused_by_name(change, complaint, tmp_path):
    path = tmp_path / "x.model"
    path.write_bytes(change((HERE / "unigram.model").read_bytes()))
    with pytest.raises(FormatError, match="x.model") as caught:
        load_tokenizer(path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("kind", ["unigram.model", "bpe.model", "bert.json", "t5.json", "llama.json"])
def test_damaged_files_are_refused_or_read(kind, tmp_path):
    rng = np.random.default_rng(5)
    whole = (HERE / kind).read_bytes()
    path = tmp_path / ("x.model" if kind.endswith("model") else "tokenizer.json")
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data))
        try:
            tokenizer = load_tokenizer(path)
        except FormatError:
            continue
        ids = tokenizer.encode("The low sun ﬁ 中")
        assert all(0 <= i < tokenizer.vocab_size for i in ids) and isinstance(tokenizer.decode(ids), str)


def test_protocol_buffer_fields_are_written_as_they_are_read():
    data = write_field(1, 300) + write_field(2, b"abc") + write_field(3, -1) + write_field(4, 1.5)
    assert list(read_fields(data)) == [(1, 0, 300), (2, 2, b"abc"), (3, 0, 2**64 - 1), (4, 5, b"\0\0\xc0?")]
    for wrong in (b"\x08", b"\x08" + b"\xff" * 10, b"\x12\x05ab", b"\x0b", b"\0\0"):
        with pytest.raises(ValueError, match="byte"):
            list(read_fields(wrong))
