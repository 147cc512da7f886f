"""Files by Hugging Face load in ours, files by ours were loaded by Hugging Face (fixtures/make_tokenizers.py)."""

import copy
import json
import tempfile
from pathlib import Path

import pytest

from tinyllm.storage import FormatError
from tinyllm.tokenizers import BPETokenizer, ByteTokenizer, CharacterTokenizer, load_tokenizer

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
        (GPT2, "model.vocab.Ġ", 10**12, "model.vocab: expected ids 0 to 599 without holes"),
        (GPT2, "model.vocab.Ġ", -1, "without holes"),
        (GPT2, "model.vocab.Ġ", ..., "without holes"),
        (GPT2, "model.vocab.中", 600, "model.vocab.中: expected the byte-level alphabet"),
        (GPT2, "model.vocab.new key", 600, "expected the byte-level alphabet"),
        (GPT2, "model.merges.3", ["a", "Ġzzz"], "model.merges[3]: expected a consistent vocabulary"),
        (GPT2, "model.merges.3", ["a"], "model.merges[3]: expected two tokens"),
        (GPT2, "model.merges.3", "abc", "model.merges[3]: expected two tokens, found abc"),
        (GPT2, "model.merges.3", [1, 2], "model.merges[3][0]: expected a string"),
        (GPT2, "model.merges.3", 7, "model.merges[3]: expected a list"),
        (GPT2, "model.merges.3", ["中", "b"], "model.merges[3]: expected tokens of the byte-level alphabet"),
        (GPT2, "model.type", "Unigram", "model.type: expected 'BPE' or 'WordLevel' (of single characters), found Unigram"),
        (GPT2, "model.dropout", 0.1, "model.dropout: expected None"),
        (GPT2, "model.byte_fallback", True, "model.byte_fallback: expected False"),
        (GPT2, "model.ignore_merges", True, "model.ignore_merges: expected False"),
        (GPT2, "model.unk_token", "<unk>", "model.unk_token: expected None"),
        (GPT2, "model.end_of_word_suffix", "</w>", "model.end_of_word_suffix: expected null"),
        (GPT2, "model.surprise", 1, "model.surprise: expected one of"),
        (GPT2, "surprise", 1, "surprise: expected one of"),
        (GPT2, "normalizer", {"type": "NFC"}, "normalizer: expected null (it is not supported), found NFC"),
        (GPT2, "truncation", {"max_length": 5}, "truncation: expected null"),
        (GPT2, "padding", {"strategy": "x"}, "padding: expected null"),
        (GPT2, "decoder", None, "decoder: expected ByteLevel"),
        (GPT2, "decoder", {"type": "WordPiece"}, "decoder: expected ByteLevel, found WordPiece"),
        (GPT2, "post_processor", {"type": "TemplateProcessing"}, "post_processor: expected null or ByteLevel, found Templ"),
        (GPT2, "pre_tokenizer", None, "pre_tokenizer: expected ByteLevel"),
        (GPT2, "pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer: expected ByteLevel, or Sequence"),
        (GPT2, "pre_tokenizer.add_prefix_space", True, "pre_tokenizer.add_prefix_space: expected False"),
        (GPT2, "pre_tokenizer.use_regex", False, "pre_tokenizer: expected a known cut (gpt2, gpt4, qwen2), found none"),
        (GPT2, "added_tokens.0.lstrip", True, "added_tokens[0].lstrip: expected False"),
        (GPT2, "added_tokens.0.special", False, "added_tokens[0].special: expected True"),
        (GPT2, "added_tokens.0.special", 1, "added_tokens[0].special: expected true or false"),
        (GPT2, "added_tokens.0.id", 5, "model.vocab.<|endoftext|>: expected 5, as in added_tokens, found 0"),
        (GPT2, "added_tokens.0.content", "", "added_tokens[0].content: expected at least one character"),
        (GPT2, "added_tokens", GPT2["added_tokens"] * 2, "added_tokens[1]: expected a content and an id of its own"),
        (GPT4, f"{SPLIT}.pattern", STRING, 'pretokenizers[0].pattern: expected {"Regex": "..."}, found [\'String\']'),
        (GPT4, f"{SPLIT}.pattern", {"Regex": "(a+)+$"}, "pattern: expected the pattern of gpt2 or gpt4 or qwen2, found (a+)+$"),
        (GPT4, f"{SPLIT}.pattern", {"Regex": 3}, "pattern.Regex: expected a string"),
        (GPT4, f"{SPLIT}.behavior", "Removed", "pretokenizers[0].behavior: expected 'Isolated'"),
        (GPT4, f"{SPLIT}.invert", True, "pretokenizers[0].invert: expected False"),
        (GPT4, "pre_tokenizer.pretokenizers.1.use_regex", True, "pretokenizers[1].use_regex: expected false"),
        (GPT4, "pre_tokenizer.pretokenizers.1", ..., "pre_tokenizer.pretokenizers: expected [Split, ByteLevel]"),
    ],
)
def test_what_we_do_not_have_is_refused_by_name(content, field, value, complaint):
    with pytest.raises(FormatError) as caught:
        _load(_set(content, field, value))
    assert "tokenizer.json: " in str(caught.value) and complaint in str(caught.value)


CHARACTER = CharacterTokenizer.train(["ab"]).to_json()
BYTE = ByteTokenizer().to_json()


@pytest.mark.parametrize(
    ("content", "field", "value", "complaint"),
    [
        (CHARACTER, "model.unk_token", "a", "model.unk_token: expected"),
        (CHARACTER, "model.vocab.ab", 4, "expected single characters first, special tokens last"),
        (CHARACTER, "pre_tokenizer.pattern", {"Regex": r"\w+"}, "pre_tokenizer: expected a Split by"),
        (CHARACTER, "pre_tokenizer", {"type": "Whitespace"}, "pre_tokenizer: expected Split, found Whitespace"),
        (CHARACTER, "decoder", None, "decoder: expected Fuse"),
        (CHARACTER, "post_processor", {"type": "ByteLevel"}, "post_processor: expected null"),
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
