"""Files by Hugging Face load in ours, files by ours were loaded by Hugging Face (fixtures/make_tokenizers.py)."""

import copy
import json
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllm import kernels
from tinyllm.storage import FormatError
from tinyllm.tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, bpe, load_tokenizer
from tinyllm.tokenizers.pretokenize import own_pattern

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tokenizers"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
GPT2 = json.loads((FIXTURES / "gpt2.json").read_text(encoding="utf-8"))
GPT4 = json.loads((FIXTURES / "gpt4.json").read_text(encoding="utf-8"))
OURS = {
    "gpt2": lambda: BPETokenizer.train(EXPECTED["documents"], vocab_size=600, pattern="gpt2"),
    "gpt4": lambda: BPETokenizer.train(EXPECTED["documents"], vocab_size=600, pattern="gpt4"),
    "byte": ByteTokenizer,
    "character": lambda: CharacterTokenizer.train(EXPECTED["documents"]),
}


@pytest.mark.parametrize("name", ["gpt2", "gpt4"])
def test_a_file_by_hugging_face_gives_its_ids(name):
    tokenizer = load_tokenizer(FIXTURES / f"{name}.json")
    assert tokenizer.encode_batch(EXPECTED["texts"]) == EXPECTED[name]["ids"]
    assert tokenizer.special_tokens == {"<|endoftext|>": 0} and tokenizer.eos_id == 0


@pytest.mark.parametrize("name", OURS)
def test_hugging_face_reads_our_files_as_we_do(name):
    tokenizer, theirs = OURS[name](), EXPECTED[name]["ours"]
    ids = tokenizer.encode_batch(EXPECTED["texts_with_special"], allowed_special="all")
    assert ids == theirs["ids"]
    assert [tokenizer.decode(i) for i in ids] == theirs["decoded"]
    assert tokenizer.vocab_size == theirs["vocab_size"]


def test_older_files_write_merges_as_one_string():
    content = copy.deepcopy(GPT2)
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    assert _load(content).fingerprint() == load_tokenizer(FIXTURES / "gpt2.json").fingerprint()


def _load(content):
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "tokenizer.json")
        path.write_text(json.dumps(content), encoding="utf-8")
        return load_tokenizer(path)


def _set(content, field, value):
    """A deep copy with one field (dotted) set; value `...` removes it."""
    content = copy.deepcopy(content)
    *path, last = field.split(".")
    place = content
    for key in path:
        place = place[int(key) if isinstance(place, list) else key]
    last = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return content


SPLIT = "pre_tokenizer.pretokenizers.0"
TWICE = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Sequence", "normalizers": [{"type": "NFKC"}]}]}
ADDS = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A"}}]}
CLS = {**ADDS, "pair": [], "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [0], "tokens": ["[CLS]"]}}}
STRING = {"String": GPT4["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]}


@pytest.mark.parametrize(
    ("content", "field", "value", "complaint"),
    [
        (GPT2, "model", ..., "model: expected an object, found nothing"),
        (GPT2, "model.vocab", ..., "model.vocab: expected an object, found nothing"),
        (GPT2, "model.merges", ..., "model.merges: expected a list, found nothing"),
        (GPT2, "model.merges", {}, "model.merges: expected a list"),
        (GPT2, "model.vocab.Ġ", "7", "model.vocab.Ġ: expected an integer, found 7"),
        (GPT2, "model.vocab.Ġ", True, "model.vocab.Ġ: expected an integer"),
        (GPT2, "model.vocab.Ġ", 5, "expected an id of its own, found 5"),
        (GPT2, "model.vocab.Ġ", 10**12, "model.vocab.Ġ: expected 0 to"),
        (
            GPT2,
            "model.vocab.Ġ",
            10**6,
            "model.vocab: expected ids without large holes, found 600 tokens, of which one has id 1000000",
        ),
        (GPT2, "model.vocab.Ġ", -1, "model.vocab.Ġ: expected 0 to"),
        (GPT2, "model.vocab.Ġ", ..., "b' ' is not in the vocabulary"),
        (GPT2, "model.vocab.中", 600, "model.vocab.中: expected the byte-level alphabet"),
        (GPT2, "model.vocab.new key", 600, "expected the byte-level alphabet"),
        (GPT2, "model.merges.3", ["a", "Ġzzz"], "model.merges[3]: expected a consistent vocabulary"),
        (GPT2, "model.merges.3", ["a"], "model.merges[3]: expected two tokens"),
        (GPT2, "model.merges.3", "abc", "model.merges[3]: expected two tokens, found abc"),
        (GPT2, "model.merges.3", [1, 2], "model.merges[3][0]: expected a string"),
        (GPT2, "model.merges.3", 7, "model.merges[3]: expected a list"),
        (GPT2, "model.merges.3", ["中", "b"], "model.merges[3]: expected tokens of the byte-level alphabet"),
        (GPT2, "model.type", "Trie", "model.type: expected 'BPE' or 'Unigram' or 'WordPiece' or 'WordLevel', found Trie"),
        (GPT2, "model.dropout", 0.1, "model.dropout: expected null or 0"),
        (GPT2, "model.end_of_word_suffix", "</w>", "model.end_of_word_suffix: expected null"),
        (GPT2, "model.surprise", 1, "model.surprise: expected one of"),
        (GPT2, "surprise", 1, "surprise: expected one of"),
        (GPT2, "normalizer", {"type": "Lowercase"}, "normalizer: expected nothing that changes the text, or one of NFC, NFD"),
        (
            GPT2,
            "normalizer",
            TWICE,
            "normalizer.normalizers[1].normalizers[0]: expected nothing that changes the text, or one of",
        ),
        (GPT2, "normalizer", {"type": "Strip", "strip_left": True, "strip_right": False}, "found Strip("),
        (GPT2, "normalizer", {"type": "Prepend", "prepend": "x"}, "found Prepend("),
        (GPT2, "normalizer", {"type": "Sequence"}, "normalizer.normalizers: expected a list"),
        (GPT2, "normalizer", "NFC", "normalizer: expected null or an object"),
        (GPT2, "truncation", 5, "truncation: expected null or an object"),
        (GPT2, "decoder", {"type": "WordPiece"}, "decoder: expected null, ByteLevel or Fuse, found WordPiece"),
        (GPT2, "post_processor", ADDS, "post_processor.pair: expected a list"),
        (GPT2, "post_processor", {"type": "BertProcessing"}, "post_processor.cls: expected a token and its id below 600"),
        (GPT2, "post_processor", {"type": "TemplateProcessing"}, "post_processor."),
        (GPT2, "post_processor", {"type": "Digits"}, "post_processor: expected TemplateProcessing, BertProcessing"),
        (GPT2, "pre_tokenizer", None, "pre_tokenizer: expected ByteLevel, or Split and ByteLevel: a BPE of bytes, found null"),
        (GPT2, "pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer: expected ByteLevel, or Split and ByteLevel"),
        (GPT2, "pre_tokenizer.add_prefix_space", True, "pre_tokenizer.add_prefix_space: expected False"),
        (
            GPT2,
            "pre_tokenizer.use_regex",
            False,
            "pre_tokenizer: expected a known cut (gpt2, gpt4, gpt4o, qwen2, smollm, deepseek), found none",
        ),
        (GPT2, "added_tokens.0.id", 1 << 40, "added_tokens[0].id: expected 0 to"),
        (GPT2, "added_tokens.0.special", 1, "added_tokens[0].special: expected true or false"),
        (GPT2, "added_tokens.0.id", 5, "model.vocab.<|endoftext|>: expected 5, as in added_tokens, found 0"),
        (GPT2, "added_tokens.0.content", "", "added_tokens[0].content: expected at least one character"),
        (GPT2, "added_tokens", GPT2["added_tokens"] * 2, "added_tokens[1]: expected a content and an id of its own"),
        (GPT4, f"{SPLIT}.pattern", STRING, 'pretokenizers[0].pattern: expected {"Regex": "..."}, found [\'String\']'),
        (
            GPT4,
            f"{SPLIT}.pattern",
            {"Regex": "(a+)+$"},
            "pattern: expected the pattern of gpt2 or gpt4 or gpt4o or qwen2 or smollm or deepseek, or one given to load",
        ),
        (GPT4, f"{SPLIT}.pattern", {"Regex": 3}, "pattern.Regex: expected a string"),
        (GPT4, f"{SPLIT}.behavior", "Removed", "pretokenizers[0].behavior: expected 'Isolated'"),
        (GPT4, f"{SPLIT}.invert", True, "pretokenizers[0].invert: expected False"),
        (GPT4, "pre_tokenizer.pretokenizers.1.use_regex", True, "pretokenizers[1].use_regex: expected false"),
        (
            GPT4,
            "pre_tokenizer.pretokenizers.1",
            ...,
            "pre_tokenizer: expected ByteLevel, or Split and ByteLevel: a BPE of bytes, found Split",
        ),
    ],
)
def test_what_we_do_not_have_is_refused_by_name(content, field, value, complaint):
    with pytest.raises(FormatError) as caught:
        _load(_set(content, field, value))
    assert "tokenizer.json: " in str(caught.value) and complaint in str(caught.value)


TRUNCATED = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
PADDED = {
    "strategy": {"Fixed": 8},
    "direction": "Left",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "<|endoftext|>",
}
ALONE = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}
EMPTY = {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": []}]}
BYTES = GPT2["pre_tokenizer"]
NESTED = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Sequence", "pretokenizers": GPT4["pre_tokenizer"]["pretokenizers"]},
        {"type": "Sequence", "pretokenizers": []},
    ],
}


@pytest.mark.parametrize(
    ("content", "field", "value"),
    [
        (GPT2, "truncation", TRUNCATED),
        (GPT2, "padding", PADDED),
        (GPT2, "normalizer", EMPTY),
        (GPT2, "normalizer", {"type": "Strip", "strip_left": False, "strip_right": False}),
        (GPT2, "normalizer", {"type": "Prepend", "prepend": ""}),
        (GPT2, "pre_tokenizer", {"type": "Sequence", "pretokenizers": [BYTES]}),
        (GPT4, "pre_tokenizer", NESTED),
        (GPT2, "post_processor", None),
        (GPT2, "post_processor", ALONE),
        (GPT2, "post_processor", {"type": "Sequence", "processors": [{"type": "ByteLevel"}, ALONE]}),
        (GPT2, "decoder", None),
        (GPT2, "decoder", {"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "Fuse"}]}),
        (GPT2, "model.unk_token", "<unk>"),
        (GPT2, "model.unk_token", "<|endoftext|>"),
        (GPT2, "model.fuse_unk", True),
        (GPT2, "model.byte_fallback", True),
        (GPT2, "model.dropout", 0.0),
        (GPT2, "model.end_of_word_suffix", ""),
        (GPT2, "model.surprise", None),
        (GPT2, "surprise", False),
    ],
)
def test_a_part_without_effect_on_the_ids_is_read_whatever_its_type(content, field, value):
    name = "gpt2" if content is GPT2 else "gpt4"
    tokenizer = _load(_set(content, field, value))
    assert tokenizer.encode_batch(EXPECTED["texts"]) == EXPECTED[name]["ids"]
    assert tokenizer.fingerprint() == load_tokenizer(FIXTURES / f"{name}.json").fingerprint()


def test_with_ignore_merges_a_piece_that_is_a_token_becomes_it_without_them(monkeypatch):
    target = next(merge for merge in GPT2["model"]["merges"] if len("".join(merge)) > 3)
    merges = [merge for merge in GPT2["model"]["merges"] if merge != target and "".join(target) not in merge]
    content = _set(_set(GPT2, "model.ignore_merges", True), "model.merges", merges)
    word, index = "".join(target).replace("Ġ", " "), GPT2["model"]["vocab"]["".join(target)]
    tokenizer = _load(content)
    assert tokenizer.encode(word) == [index] and tokenizer.to_json()["model"]["ignore_merges"]
    monkeypatch.setattr(bpe, "LARGE", 1)
    many = tokenizer.encode_arrays([word * 2, "\n" + "xy zw\n" * 200])[0]  # in the kernels
    assert many.tolist() == tokenizer.encode(word * 2)
    assert len(_load(_set(content, "model.ignore_merges", False)).encode(word)) > 1


def test_text_is_normalized_first_where_the_file_says_so(monkeypatch):
    monkeypatch.setattr(bpe, "LARGE", 1 << 16)
    tokenizer = _load(_set(GPT2, "normalizer", {"type": "NFC"}))
    assert tokenizer.encode("cafe\u0301") == tokenizer.encode("caf\u00e9") == _load(GPT2).encode("caf\u00e9")
    assert tokenizer.decode(tokenizer.encode("cafe\u0301")) == "caf\u00e9"
    assert tokenizer.to_json()["normalizer"] == {"type": "NFC"}
    text = "cafe\u0301 \u1112\u1161\u11ab e\n" * 30
    chunks = [text[i : i + 7] for i in range(0, len(text), 7)]
    assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)
    large = text + "e" * 100 + ("\u0301\u0301a" + "b" * 90) * 800 + "\udcff\u0301"
    wanted = [i for piece in tokenizer.pattern.split(unicodedata.normalize("NFC", large)) for i in tokenizer._encode_piece(piece)]
    assert tokenizer.encode(large) == wanted and bool(tokenizer._coder) == (kernels.backend() == "numba")


def test_a_plain_added_token_is_found_always_and_a_special_one_only_if_allowed():
    plain = {**GPT2["added_tokens"][0], "id": 600, "content": "<think>", "special": False}
    tokenizer = _load(_set(GPT2, "added_tokens", [*GPT2["added_tokens"], plain]))
    ids = tokenizer.encode("a<think>b<|endoftext|>")
    assert ids[1] == 600 and 0 not in ids and tokenizer.decode(ids) == "a<think>b<|endoftext|>"
    assert tokenizer.encode("a<think>b<|endoftext|>", allowed_special="all") == [*ids[:3], 0]
    assert list(tokenizer.encode_iterable("a<think>b<|endoftext|>", allowed_special="all")) == [*ids[:3], 0]
    assert _load(tokenizer.to_json()).to_json() == tokenizer.to_json()


@pytest.mark.parametrize(
    ("flags", "text", "tokens"),
    [
        ({"lstrip": True}, "a  <m> b", ["a", "<m>", "\u0120", "b"]),
        ({"rstrip": True}, "a <m> b", ["a", "\u0120", "<m>", "b"]),
        ({"single_word": True}, "x<m> <m>", None),
    ],
)
def test_added_tokens_take_the_space_beside_them_as_the_file_says(flags, text, tokens):
    added = {**GPT2["added_tokens"][0], "id": 600, "content": "<m>", "special": False, **flags}
    tokenizer = _load(_set(GPT2, "added_tokens", [*GPT2["added_tokens"], added]))
    ids = tokenizer.encode(text)
    vocab = GPT2["model"]["vocab"] | {"<m>": 600}
    if tokens is None:
        assert ids.count(600) == 1 and ids[-1] == 600
    else:
        assert ids == [vocab[token] for token in tokens]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["a", " ", "  ", "\n", "<m>", "<r>", "<w>", "b c", "x" * 9]), max_size=12), st.integers(1, 7))
def test_a_text_in_chunks_has_the_ids_of_the_whole_whatever_space_its_added_tokens_take(parts, cut):
    flags = {"<m>": {"lstrip": True}, "<r>": {"rstrip": True}, "<w>": {"single_word": True}}
    added = [
        {**GPT2["added_tokens"][0], "id": 600 + i, "content": content, "special": False, **own}
        for i, (content, own) in enumerate(flags.items())
    ]
    tokenizer = _load(_set(GPT2, "added_tokens", [*GPT2["added_tokens"], *added]))
    text = "".join(parts)
    chunks = [text[i : i + cut] for i in range(0, len(text), cut)]
    assert list(tokenizer.encode_iterable(chunks)) == tokenizer.encode(text)


def test_a_pattern_of_your_own_is_run_only_if_you_give_it_again(tmp_path):
    own = own_pattern(r"[a-z]+|\d")
    BPETokenizer.train(["ab ab 12"] * 3, vocab_size=260, pattern=own).save(tmp_path)
    with pytest.raises(FormatError, match="or one given to load_tokenizer"):
        load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path, pattern=own).pattern == own


def test_ids_may_have_holes_and_what_no_id_stands_for_is_refused():
    tokenizer = _load(_set(GPT2, "added_tokens.0", {**GPT2["added_tokens"][0], "content": "<|end|>", "id": 605}))
    assert tokenizer.vocab_size == 606 and tokenizer.encode("<|end|>", allowed_special="all") == [605]
    with pytest.raises(ValueError, match="ids: got 603, which stands for no token here"):
        tokenizer.decode([5, 603])
    assert _load(tokenizer.to_json()).to_json() == tokenizer.to_json()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model": {"type": "Unigramme", "vocab": {}}, "normalizer": {"type": "Precompiled"}}, "model.type: expected"),
        (
            {"pre_tokenizer": None, "normalizer": {"type": "Prepend", "prepend": "_"}, "decoder": {"type": "Strip"}},
            "model.fuse_unk: expected true",  # no cut and a decoder of words: taken as SentencePiece's
        ),
    ],
)
def test_the_first_complaint_is_the_reason_behind_the_others(changes, complaint):
    with pytest.raises(FormatError, match=complaint):
        _load({**copy.deepcopy(GPT2), **changes})


# ---- GPT-2's two files


def two_files(folder, *, merges=None):
    vocab = GPT2["model"]["vocab"] | {"<|endoftext|>": 0}
    lines = [" ".join(merge) for merge in GPT2["model"]["merges"]] if merges is None else merges
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")


def test_vocab_json_and_merges_txt_give_the_ids_of_the_one_file(tmp_path):
    two_files(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode_batch(EXPECTED["texts"]) == EXPECTED["gpt2"]["ids"]
    assert tokenizer.special_tokens == {"<|endoftext|>": 0} and tokenizer.eos_id == 0
    (tmp_path / "added_tokens.json").write_text('{"<|pad|>": 600}')
    assert load_tokenizer(tmp_path).special_tokens == {"<|endoftext|>": 0, "<|pad|>": 600}


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_one_of_the_two_files_says_that_the_other_is_missing(tmp_path, name):
    two_files(tmp_path)
    for path in tmp_path.iterdir():
        if path.name != name:
            path.unlink()
    text = f"expected tokenizer.json, or vocab.json and merges.txt; found only {name}, from which no tokenizer can be read"
    with pytest.raises(FileNotFoundError, match=text):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("merges", "complaint"),
    [
        (["a"], "merges.txt: merge 1: expected two tokens with a space between, found a"),
        (["a b", "a b c"], "merges.txt: merge 2: expected two tokens"),
        (["a Ġzzz"], "vocab.json: model.merges.0.: expected a consistent vocabulary"),
        (["中 b"], "expected tokens of the byte-level alphabet"),
    ],
)
def test_merges_that_are_none_are_refused(tmp_path, merges, complaint):
    two_files(tmp_path, merges=merges)
    with pytest.raises(FormatError, match=complaint):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"version https://git-lfs.github.com", "a Git LFS pointer"), (b"\xff", "UTF-8")]
)
def test_a_merges_txt_that_is_something_else_says_so(tmp_path, content, complaint):
    two_files(tmp_path)
    (tmp_path / "merges.txt").write_bytes(content)
    with pytest.raises(FormatError, match=f"merges.txt: content: .*{complaint}"):
        load_tokenizer(tmp_path)


CHARACTER = CharacterTokenizer.train(["ab"]).to_json()
BYTE = ByteTokenizer().to_json()


@pytest.mark.parametrize(
    ("content", "field", "value", "complaint"),
    [
        (CHARACTER, "model.unk_token", "a", "model.unk_token: expected"),
        (CHARACTER, "model.vocab.ab", 4, "expected single characters first, special tokens last"),
        (CHARACTER, "pre_tokenizer.pattern", {"Regex": r"\w+"}, "pre_tokenizer: expected a Split by"),
        (CHARACTER, "pre_tokenizer", {"type": "Punctuation"}, "pre_tokenizer: expected Split, found Punctuation"),
        (CHARACTER, "pre_tokenizer", None, "pre_tokenizer: expected a Split by"),
        (CHARACTER, "decoder", None, "decoder: expected Fuse"),
        (CHARACTER, "post_processor", CLS, "none that adds tokens"),
        (BYTE, "model.merges", [["a", "b"]], "pre_tokenizer: expected a known cut"),
        (BYTE, "model.vocab.ab", 257, "pre_tokenizer: expected a known cut"),
    ],
)
def test_the_other_layouts_are_checked_too(content, field, value, complaint):
    assert _load(content).to_json() == content
    with pytest.raises(FormatError) as caught:
        _load(_set(content, field, value))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"model": {"type": "BPE"}', "\x00", "[" * 100_000, '{"a":1,"a":2}'])
def test_files_that_are_not_json_objects_are_refused(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(FormatError):
        load_tokenizer(tmp_path)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        load_tokenizer(tmp_path)
