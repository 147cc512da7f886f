"""Byte-level BPE (GPT-2, Llama 3, Qwen, RoBERTa) and plain bytes, from a parsed tokenizer.json."""

from typing import Any

from tinyllm.storage import FormatError
from tinyllm.storage.strict_json import MapOf, Optional
from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.bpe import BPETokenizer
from tinyllm.tokenizers.byte import ByteTokenizer
from tinyllm.tokenizers.formats.parsed import File, added_tokens, kind_of, split_pattern, token_list, usual_tokens
from tinyllm.tokenizers.formats.pipeline import read_post_processor, read_steps
from tinyllm.tokenizers.layout import from_visible
from tinyllm.tokenizers.normalizers import FORMS, Form, Unicode
from tinyllm.tokenizers.pretokenize import PATTERNS, SplitPattern, pattern_from_regex, pattern_of_steps
from tinyllm.tokenizers.tokenizer import Tokenizer

BPE = {
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
_BYTE_LEVEL = {"type": str, "add_prefix_space": bool, "trim_offsets": Optional(bool), "use_regex": Optional(bool)}


def is_byte_level(file: File) -> bool:
    """Whether text is taken as bytes: said by the cut, by the decoder, or by the absence of all that marks spaces."""
    parts = [part for _, part in (*file.leaves("pre_tokenizer", "pretokenizers"), *file.leaves("decoder", "decoders"))]
    kinds = {kind_of(part) for part in parts}
    return "ByteLevel" in kinds or not (
        kinds & {"Metaspace", "ByteFallback"}
        or file.leaves("normalizer", "normalizers")
        or file.content["model"].get("byte_fallback")
    )


def check_model(file: File) -> dict[str, Any]:
    """The BPE model, if it has nothing that changes ids in a way that is not known here."""
    model = file.check(file.content["model"], BPE, "model")
    if model.get("dropout"):
        raise file.error("model.dropout", "null or 0: one text, one sequence of ids", model["dropout"])
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):  # null and "" both mean none
            raise file.error(f"model.{key}", "null (it is not supported)", model[key])
    return model


def read_byte_level(file: File) -> Tokenizer:
    """A byte-level BPE; without merges and cuts, and with ids that are byte values, it is the byte tokenizer."""
    model, pattern, added = check_model(file), _cut(file), added_tokens(file)
    for field, part in file.leaves("decoder", "decoders"):  # none at all: tokens are bytes all the same
        if kind_of(part) not in ("ByteLevel", "Fuse"):
            raise file.error(field, "null, ByteLevel or Fuse", kind_of(part))
    contents = {token.content for token in added}
    texts = token_list(file, model["vocab"], added)
    tokens = [b"" if text is None else _token_bytes(file, text, contents) for text in texts]
    merges = [_merge(file, i, merge) for i, merge in enumerate(model["merges"])]
    form = _form(file)
    if form and pattern is None:
        raise file.error("normalizer", "nothing that changes the text, before plain bytes", form)
    template, trim = read_post_processor(file, texts)
    try:
        if pattern is None:
            return _read_byte(file, tokens, merges, usual_tokens(file, added))
        # every byte must have a token here: so unk_token, fuse_unk and byte_fallback, whatever they are, have no effect
        special = {token.content: token.id for token in added if token.special}
        own_ways = [token for token in added if token != AddedToken(token.content, token.id)]
        whole = bool(model.get("ignore_merges"))
        tokenizer = BPETokenizer(
            tokens, merges, pattern=pattern, special_tokens=special, added_tokens=own_ways, ignore_merges=whole,
            normalization=form, template=template,
        )  # fmt: skip
        tokenizer.trim_offsets = trim
        return tokenizer
    except FormatError:
        raise
    except ValueError as error:  # the constructor names the field: "merges[3]: ..."
        field, _, text = str(error).partition(": ")
        raise file.error(f"model.{field}", "a consistent vocabulary", text) from None


def _form(file: File) -> Form | None:
    """The Unicode form that text is brought into first."""
    form: Form | None = None
    for field, step in read_steps(file):
        if form or not isinstance(step, Unicode):
            raise file.error(field, f"nothing that changes the text, or one of {', '.join(FORMS)}", repr(step))
        form = step.form
    return form


def _token_bytes(file: File, text: str, special: set[str]) -> bytes:
    """The bytes of one entry of the vocabulary."""
    token = text.encode("utf-8") if text in special else from_visible(text)
    if token is None:
        raise file.error(f"model.vocab.{text}", "the byte-level alphabet", text)
    return token


def merge_texts(file: File, index: int, merge: Any) -> list[str]:
    """The two texts of a merge, written ["a", "b"] or, in older files, "a b"."""
    field = f"model.merges[{index}]"
    parts = merge.split(" ") if isinstance(merge, str) else file.check(merge, [str], field)
    if len(parts) != 2:
        raise file.error(field, "two tokens", merge)
    return parts


def _merge(file: File, index: int, merge: Any) -> tuple[bytes, bytes]:
    """One merge of bytes."""
    left, right = map(from_visible, merge_texts(file, index, merge))
    if left is None or right is None:
        raise file.error(f"model.merges[{index}]", "tokens of the byte-level alphabet", merge)
    return left, right


def _read_byte(file: File, tokens: list[bytes], merges: list[tuple[bytes, bytes]], special: dict[str, int]) -> ByteTokenizer:
    """The layout of `layout.byte_layout`: ids 0 to 255 are the bytes, special tokens follow, nothing is merged."""
    if merges or tokens[:256] != [bytes([b]) for b in range(256)] or len(tokens) != 256 + len(special):
        raise file.error("pre_tokenizer", f"a known cut ({', '.join(PATTERNS)})", "none, for a model that is not plain bytes")
    return ByteTokenizer(special_tokens=sorted(special, key=special.__getitem__))


def _cut(file: File) -> str | SplitPattern | None:
    """The pattern that the pre_tokenizer spells, or its name; None when text is not cut at all."""
    leaves = file.leaves("pre_tokenizer", "pretokenizers")
    kinds = [kind_of(part) for _, part in leaves]
    if kinds == ["Digits", "ByteLevel"] and leaves[0][1].get("individual_digits") is True and _uses_regex(file, *leaves[1][::-1]):
        return "smollm"
    splits = ["Split"] * (len(kinds) - 1)
    if kinds != [*splits, "ByteLevel"]:
        found = " and ".join(map(str, kinds)) or "null"
        raise file.error("pre_tokenizer", "ByteLevel, or Split and ByteLevel: a BPE of bytes", found)
    field, byte_level = leaves[-1]
    cuts = _uses_regex(file, byte_level, field)
    if len(leaves) == 1:
        return "gpt2" if cuts else None
    if cuts:
        raise file.error(f"{field}.use_regex", "false after a Split (nothing else is supported)", True)
    texts = [split_pattern(file, split, field) for field, split in leaves[:-1]]
    field, text = leaves[0][0], texts[0]
    if len(texts) > 1:
        if (known := pattern_of_steps(texts)) is None:
            raise file.error("pre_tokenizer", "one Split, or those of DeepSeek", " and ".join(texts))
        return known
    pattern = file.own if file.own and text == file.own.published else pattern_from_regex(text)
    if pattern is None:
        raise file.error(f"{field}.pattern", f"the pattern of {' or '.join(PATTERNS)}, or one given to load_tokenizer", text)
    return pattern


def _uses_regex(file: File, part: dict[str, Any], field: str) -> bool:
    """Whether a ByteLevel part cuts by GPT-2's pattern (the default when the key is absent)."""
    file.require(file.check(part, _BYTE_LEVEL, field), field, {"add_prefix_space": False})
    return part.get("use_regex", True)
