"""The layout of Hugging Face's tokenizer.json: the shapes our tokenizers are written in (`formats/huggingface` reads them).

JSON cannot hold raw bytes, so GPT-2 gave every byte a visible character: the 188 printable ones of Latin-1 stand for
themselves, the other 68 become U+0100, U+0101, ... in order (Radford et al. 2019, the released encoder; a space is "Ġ").
A file is a pipeline of named parts: added_tokens, pre_tokenizer, model, decoder. Character and byte tokenizers are written
with the parts that make other readers produce the same ids.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.encoding import Padding, Part, Template, Truncation

_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))


def _byte_characters() -> dict[int, str]:
    """byte -> its visible character."""
    characters = {byte: chr(byte) for byte in _PRINTABLE}
    rest = (byte for byte in range(256) if byte not in characters)
    characters.update((byte, chr(0x100 + i)) for i, byte in enumerate(rest))
    return characters


CHARACTER_OF_BYTE = _byte_characters()
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}
BYTE_ORDER = tuple(sorted(range(256), key=CHARACTER_OF_BYTE.__getitem__))  # the order of GPT-2's first 256 ids
EVERY_CHARACTER = r"[\s\S]"  # the split that makes each character a piece


def to_visible(token: bytes) -> str:
    """b" the" -> "Ġthe"."""
    return "".join(map(CHARACTER_OF_BYTE.__getitem__, token))


def from_visible(text: str) -> bytes | None:
    """ "Ġthe" -> b" the"; None if a character stands for no byte."""
    try:
        return bytes(map(BYTE_OF_CHARACTER.__getitem__, text))
    except KeyError:
        return None


def _byte_level(use_regex: bool) -> dict[str, Any]:
    """The part that maps bytes to visible characters and, if `use_regex`, cuts with GPT-2's pattern."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(pattern: str) -> dict[str, Any]:
    """The part that cuts by a regular expression. {"String": ...} in this place would be a literal text, not a pattern."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def file_layout(added_tokens: Iterable[AddedToken], **parts: Any) -> dict[str, Any]:
    """A whole file around its parts."""
    order = ("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")
    added = [{name: getattr(token, name) for name in order} for token in sorted(added_tokens, key=lambda token: token.id)]
    fixed = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
    }
    return {**fixed, "added_tokens": added, **parts}


def template_layout(template: Template, *, trim_offsets: bool = False) -> dict[str, Any] | None:
    """What is done to a text's ids at the end."""
    trimming = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    parts = [trimming] if trim_offsets else []
    if template != Template():
        special = {
            p.name: {"id": p.name, "ids": list(p.ids), "tokens": list(p.tokens)}
            for p in (*template.single, *template.pair)
            if p.name
        }
        rows = {name: [_template_part(p) for p in getattr(template, name)] for name in ("single", "pair")}
        parts.append({"type": "TemplateProcessing", **rows, "special_tokens": special})
    return None if not parts else parts[0] if len(parts) == 1 else {"type": "Sequence", "processors": parts}


def _template_part(part: Part) -> dict[str, Any]:
    kind, name = ("SpecialToken", part.name) if part.text is None else ("Sequence", part.text)
    return {kind: {"id": name, "type_id": part.type_id}}


def batch_layout(truncation: Truncation | None, padding: Padding | None) -> dict[str, Any]:
    """How texts of a batch are cut and padded."""
    strategies = {"longest_first": "LongestFirst", "only_first": "OnlyFirst", "only_second": "OnlySecond"}
    cut = truncation and {
        "direction": truncation.direction.capitalize(), "max_length": truncation.max_length,
        "strategy": strategies[truncation.strategy], "stride": truncation.stride,
    }  # fmt: skip
    padded = padding and {
        "strategy": {"Fixed": padding.length} if padding.length else "BatchLongest", "direction": padding.direction.capitalize(),
        "pad_to_multiple_of": padding.multiple_of, "pad_id": padding.id, "pad_type_id": padding.type_id,
        "pad_token": padding.token,
    }  # fmt: skip
    return {"truncation": cut, "padding": padded}


def _vocabulary(tokens: list[bytes], added_tokens: Iterable[AddedToken]) -> dict[str, int]:
    """visible token -> id; added tokens keep their plain text, as Hugging Face's trainers write them."""
    added = {token.content: token.id for token in added_tokens}
    added_ids = set(added.values())
    vocabulary = {to_visible(token): index for index, token in enumerate(tokens) if index not in added_ids and token}
    for text in added:
        if text in vocabulary:
            raise ValueError(f"special_tokens: {text!r} is written like the ordinary token {tokens[vocabulary[text]]!r}")
    return {**vocabulary, **added}


def bpe_layout(
    tokens: list[bytes], merges: list[tuple[bytes, bytes]], *, added_tokens: Iterable[AddedToken], splits: Sequence[str],
    ignore_merges: bool = False, normalization: str | None = None, post_processor: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A byte-level BPE. `splits`: the expressions that cut pieces in turn; none for GPT-2's own, which has a short form."""
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": _vocabulary(tokens, added_tokens),
        "merges": [[to_visible(left), to_visible(right)] for left, right in merges],
    }
    cuts = [*map(_split, splits), _byte_level(not splits)]
    cut = {"type": "Sequence", "pretokenizers": cuts} if splits else cuts[0]
    normalizer = None if normalization is None else {"type": normalization}
    return file_layout(
        added_tokens,
        normalizer=normalizer,
        pre_tokenizer=cut,
        post_processor=post_processor,
        decoder=_byte_level(True),
        model=model,
    )


def byte_layout(tokens: list[bytes], added_tokens: Iterable[AddedToken]) -> dict[str, Any]:
    """A BPE without merges and without cuts: each byte stays alone."""
    layout = bpe_layout(tokens, [], added_tokens=added_tokens, splits=())
    return {**layout, "pre_tokenizer": _byte_level(False)}


def character_layout(tokens: list[bytes], added_tokens: Iterable[AddedToken], unknown: str) -> dict[str, Any]:
    """A table of words in which every character is a word; the decoder `Fuse` joins them without spaces."""
    vocabulary = {token.decode("utf-8"): index for index, token in enumerate(tokens)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": unknown}
    return file_layout(added_tokens, pre_tokenizer=_split(EVERY_CHARACTER), decoder={"type": "Fuse"}, model=model)
