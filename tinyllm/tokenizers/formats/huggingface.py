"""Reading tokenizer.json, the file Hugging Face's `tokenizers` writes: every part is checked, none is skipped in silence.

A file is a pipeline: added_tokens -> normalizer -> pre_tokenizer -> model -> post_processor -> decoder. We read those
that are byte-level BPE (GPT-2's and GPT-4's cuts), and our own character and byte tokenizers. A part that would change the
ids and that we do not have is refused by name, for a tokenizer that is almost right ruins a model without a word.
Trap: {"Split": {"pattern": {"String": p}}} is a literal text, {"Regex": p} an expression; mixing them up has broken tokenizers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, strict_json
from tinyllm.storage.strict_json import MapOf, Optional
from tinyllm.tokenizers.bpe import BPETokenizer
from tinyllm.tokenizers.byte import ByteTokenizer
from tinyllm.tokenizers.character import UNKNOWN, CharacterTokenizer
from tinyllm.tokenizers.layout import EVERY_CHARACTER, from_visible
from tinyllm.tokenizers.pretokenize import PATTERNS, pattern_from_regex
from tinyllm.tokenizers.tokenizer import Tokenizer

_ADDED = {
    "id": int,
    "content": str,
    "special": bool,
    "single_word": Optional(bool),
    "lstrip": Optional(bool),
    "rstrip": Optional(bool),
    "normalized": Optional(bool),
}
_FILE = {
    "version": Optional(str),
    "truncation": Optional(object),
    "padding": Optional(object),
    "added_tokens": Optional([_ADDED]),
    "normalizer": Optional(object),
    "pre_tokenizer": object,
    "post_processor": Optional(object),
    "decoder": Optional(object),
    "model": MapOf(object),
}
_BPE = {
    "type": Optional(str),
    "dropout": Optional((None, float)),
    "unk_token": Optional((None, str)),
    "continuing_subword_prefix": Optional((None, str)),
    "end_of_word_suffix": Optional((None, str)),
    "fuse_unk": Optional(bool),
    "byte_fallback": Optional(bool),
    "ignore_merges": Optional(bool),
    "vocab": MapOf(int),
    "merges": [object],
}
_WORD_LEVEL = {"type": str, "vocab": MapOf(int), "unk_token": str}
_BYTE_LEVEL = {
    "type": str,
    "add_prefix_space": bool,
    "trim_offsets": Optional(bool),
    "use_regex": Optional(bool),
}
_SPLIT = {"type": str, "pattern": MapOf(str), "behavior": str, "invert": Optional(bool)}
_SEQUENCE = {"type": str, "pretokenizers": [MapOf(object)]}


class _File:
    """A parsed file that knows its name, so that every complaint can say file and field."""

    def __init__(self, path: Path):
        self.path = path
        self.content: dict[str, Any] = strict_json.read(path, schema=_FILE)

    def error(self, field: str, expected: str, found: object) -> FormatError:
        """A FormatError about one field."""
        return FormatError(self.path, field=field, expected=expected, found=found)

    def check(self, value: Any, schema: Any, field: str) -> Any:
        """`value`, if it follows `schema`."""
        strict_json.check(value, schema, file=self.path, field=field)
        return value

    def require(self, part: dict[str, Any], field: str, wanted: dict[str, Any]) -> None:
        """Refuse settings we do not have: where a key is present it must have the wanted value."""
        for key, value in wanted.items():
            if part.get(key, value) != value:
                raise self.error(f"{field}.{key}", f"{value!r} (nothing else is supported)", part[key])


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer in a tokenizer.json, or in the folder that holds one. The file's content decides its class.

    FormatError (a ValueError) names file, field, what was expected and found; OSError if it cannot be read.
    """
    path = Path(path)
    file = _File(path / "tokenizer.json" if path.is_dir() else path)
    for field in ("truncation", "padding", "normalizer"):
        if file.content.get(field) is not None:
            raise file.error(field, "null (it is not supported)", _kind(file.content[field]))
    special = _special_tokens(file)
    kind = file.content["model"].get("type", "BPE" if "merges" in file.content["model"] else None)
    if kind == "WordLevel":
        return _read_character(file, special)
    if kind == "BPE":
        return _read_bpe(file, special)
    raise file.error("model.type", "'BPE' or 'WordLevel' (of single characters)", kind)


def _kind(part: Any) -> object:
    """The type of a part, for errors."""
    return part.get("type", part) if isinstance(part, dict) else part


def _special_tokens(file: _File) -> dict[str, int]:
    """text -> id of the added tokens; those that strip spaces or match inside normalized text only are refused."""
    special: dict[str, int] = {}
    for i, token in enumerate(file.content.get("added_tokens") or []):
        field = f"added_tokens[{i}]"
        file.require(token, field, {"special": True, "single_word": False, "lstrip": False, "rstrip": False})
        if token["content"] in special or token["id"] in special.values():
            raise file.error(field, "a content and an id of its own", f"{token['content']!r} = {token['id']}, again")
        if not token["content"]:
            raise file.error(f"{field}.content", "at least one character", "nothing")
        special[token["content"]] = token["id"]
    return special


def _token_list(file: _File, vocab: dict[str, int], special: dict[str, int]) -> list[str]:
    """The texts in order of id: ids must be 0, 1, 2 ... without holes or repeats."""
    for text, index in special.items():
        if vocab.get(text, index) != index:
            raise file.error(f"model.vocab.{text}", f"{index}, as in added_tokens", vocab[text])
    texts: dict[int, str] = {}
    for text, index in {**vocab, **special}.items():
        if index in texts:
            raise file.error(f"model.vocab.{text}", "an id of its own", f"{index}, the id of {texts[index]!r} too")
        texts[index] = text
    for index in range(len(texts)):
        if index not in texts:
            raise file.error("model.vocab", f"ids 0 to {len(texts) - 1} without holes", f"no token {index}")
    return [texts[index] for index in range(len(texts))]


def _read_character(file: _File, special: dict[str, int]) -> CharacterTokenizer:
    """The WordLevel layout of `layout.character_layout`; a table of real words is refused."""
    model = file.check(file.content["model"], _WORD_LEVEL, "model")
    texts = _token_list(file, model["vocab"], special)
    if _split_pattern(file, file.content["pre_tokenizer"], "pre_tokenizer") != EVERY_CHARACTER:
        raise file.error("pre_tokenizer", f"a Split by {EVERY_CHARACTER}", _kind(file.content["pre_tokenizer"]))
    if _kind(file.content.get("decoder")) != "Fuse":
        raise file.error("decoder", "Fuse", _kind(file.content.get("decoder")))
    if file.content.get("post_processor") is not None:
        raise file.error("post_processor", "null", _kind(file.content["post_processor"]))
    n = len(texts) - len(special)
    for index, text in enumerate(texts):
        if (text in special) != (index >= n) or (index < n and len(text) != 1):
            raise file.error(f"model.vocab.{text}", "single characters first, special tokens last", index)
    if model["unk_token"] != UNKNOWN or UNKNOWN not in texts[:n]:
        raise file.error("model.unk_token", f"{UNKNOWN!r}, in the vocabulary", model["unk_token"])
    return CharacterTokenizer(texts[:n], special_tokens=texts[n:])


def _read_bpe(file: _File, special: dict[str, int]) -> Tokenizer:
    """A byte-level BPE; without merges and cuts, and with ids that are byte values, it is the byte tokenizer."""
    model = file.check(file.content["model"], _BPE, "model")
    off = dict.fromkeys(("dropout", "unk_token"), None) | dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    file.require(model, "model", off)
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):  # null and "" both mean none
            raise file.error(f"model.{key}", "null (it is not supported)", model[key])
    _check_byte_level_ends(file)
    texts = _token_list(file, model["vocab"], special)
    tokens = [_token_bytes(file, text, special) for text in texts]
    merges = [_merge(file, i, merge) for i, merge in enumerate(model["merges"])]
    pattern = _cut(file)
    try:
        if pattern is None:
            return _read_byte(file, tokens, merges, special)
        return BPETokenizer(tokens, merges, pattern=pattern, special_tokens=special)
    except FormatError:
        raise
    except ValueError as error:  # the constructor names the field: "merges[3]: ..."
        field, _, text = str(error).partition(": ")
        raise file.error(f"model.{field}", "a consistent vocabulary", text) from None


def _token_bytes(file: _File, text: str, special: dict[str, int]) -> bytes:
    """The bytes of one entry of the vocabulary."""
    token = text.encode("utf-8") if text in special else from_visible(text)
    if token is None:
        raise file.error(f"model.vocab.{text}", "the byte-level alphabet", text)
    return token


def _merge(file: _File, index: int, merge: Any) -> tuple[bytes, bytes]:
    """One merge, written ["a", "b"] or, in older files, "a b"."""
    field = f"model.merges[{index}]"
    parts = merge.split(" ") if isinstance(merge, str) else file.check(merge, [str], field)
    if len(parts) != 2:
        raise file.error(field, "two tokens", merge)
    left, right = map(from_visible, parts)
    if left is None or right is None:
        raise file.error(field, "tokens of the byte-level alphabet", merge)
    return left, right


def _check_byte_level_ends(file: _File) -> None:
    """Decoder and post-processor must be byte-level: the latter only trims offsets, which we do not report."""
    decoder, post = file.content.get("decoder"), file.content.get("post_processor")
    if _kind(decoder) != "ByteLevel":
        raise file.error("decoder", "ByteLevel", _kind(decoder))
    if post is not None and _kind(post) != "ByteLevel":
        raise file.error("post_processor", "null or ByteLevel", _kind(post))


def _read_byte(file: _File, tokens: list[bytes], merges: list[tuple[bytes, bytes]], special: dict[str, int]) -> ByteTokenizer:
    """The layout of `layout.byte_layout`: ids 0 to 255 are the bytes, special tokens follow, nothing is merged."""
    if merges or tokens[:256] != [bytes([b]) for b in range(256)] or len(tokens) != 256 + len(special):
        raise file.error("pre_tokenizer", f"a known cut ({', '.join(PATTERNS)})", "none, for a model that is not plain bytes")
    return ByteTokenizer(special_tokens=sorted(special, key=special.__getitem__))


def _cut(file: _File) -> str | None:
    """The name of the pattern that the pre_tokenizer spells; None when text is not cut at all."""
    part = file.content["pre_tokenizer"]
    if _kind(part) == "Sequence":
        parts = file.check(part, _SEQUENCE, "pre_tokenizer")["pretokenizers"]
        if [_kind(p) for p in parts] != ["Split", "ByteLevel"]:
            raise file.error("pre_tokenizer.pretokenizers", "[Split, ByteLevel]", [_kind(p) for p in parts])
        field = "pre_tokenizer.pretokenizers[1]"
        if _uses_regex(file, parts[1], field):
            raise file.error(f"{field}.use_regex", "false after a Split (nothing else is supported)", True)
        text = _split_pattern(file, parts[0], "pre_tokenizer.pretokenizers[0]")
        pattern = pattern_from_regex(text)
        if pattern is None:
            raise file.error("pre_tokenizer.pretokenizers[0].pattern", f"the pattern of {' or '.join(PATTERNS)}", text)
        return pattern.name
    return "gpt2" if _uses_regex(file, part, "pre_tokenizer") else None


def _uses_regex(file: _File, part: Any, field: str) -> bool:
    """Whether a ByteLevel part cuts by GPT-2's pattern (the default when the key is absent)."""
    if _kind(part) != "ByteLevel":
        raise file.error(field, "ByteLevel, or Sequence of Split and ByteLevel", _kind(part))
    file.require(file.check(part, _BYTE_LEVEL, field), field, {"add_prefix_space": False})
    return part.get("use_regex", True)


def _split_pattern(file: _File, part: Any, field: str) -> str:
    """The regular expression of a Split part."""
    if _kind(part) != "Split":
        raise file.error(field, "Split", _kind(part))
    file.require(file.check(part, _SPLIT, field), field, {"behavior": "Isolated", "invert": False})
    if list(part["pattern"]) != ["Regex"]:
        found = f"{list(part['pattern'])}; a String is matched literally"
        raise file.error(f"{field}.pattern", '{"Regex": "..."}', found)
    return part["pattern"]["Regex"]
