"""WordPiece (BERT) and tables of words or characters, from a parsed tokenizer.json."""

from typing import Any

from tinyllm.storage.strict_json import MapOf, Optional
from tinyllm.tokenizers.character import UNKNOWN, CharacterTokenizer
from tinyllm.tokenizers.encoding import NO_TEMPLATE
from tinyllm.tokenizers.formats.parsed import (
    File,
    added_tokens,
    kind_of,
    split_pattern,
    token_list,
    usual_tokens,
    without_holes,
)  # fmt: skip
from tinyllm.tokenizers.formats.pipeline import read_normalizer, read_post_processor
from tinyllm.tokenizers.layout import EVERY_CHARACTER
from tinyllm.tokenizers.tokenizer import Tokenizer
from tinyllm.tokenizers.word import WordTokenizer
from tinyllm.tokenizers.wordpiece import LONGEST_WORD, PREFIX, WordPieceTokenizer

_WORD_LEVEL = {"type": str, "vocab": MapOf(int), "unk_token": str}
_WORDPIECE = {
    "type": str, "unk_token": str, "continuing_subword_prefix": Optional(str), "max_input_chars_per_word": Optional(int),
    "vocab": MapOf(int),
}  # fmt: skip
_DECODER = {"type": str, "prefix": Optional(str), "cleanup": Optional(bool)}
_WORD_CUTS = {"Whitespace": "words", "WhitespaceSplit": "spaces"}


def _kinds(leaves: list[tuple[str, dict[str, Any]]]) -> str:
    """The parts of one field in words, for errors."""
    return " and ".join(str(kind_of(part)) for _, part in leaves) or "null"


def read_wordpiece(file: File) -> Tokenizer:
    """BERT's kind."""
    model = file.check(file.content["model"], _WORDPIECE, "model")
    cuts = file.leaves("pre_tokenizer", "pretokenizers")
    if [kind_of(part) for _, part in cuts] != ["BertPreTokenizer"]:
        raise file.error("pre_tokenizer", "BertPreTokenizer", _kinds(cuts))
    prefix = model.get("continuing_subword_prefix", PREFIX)
    joins = file.leaves("decoder", "decoders")
    clean_up = True
    if joins:
        field, part = joins[0]
        if len(joins) > 1 or kind_of(part) != "WordPiece":
            raise file.error("decoder", "WordPiece", _kinds(joins))
        part = file.check(part, _DECODER, field)
        clean_up = part.get("cleanup", True)
        file.require(part, field, {"prefix": prefix})
    added = added_tokens(file)
    texts = token_list(file, model["vocab"], added)
    template, _ = read_post_processor(file, texts)
    special = {token.content: token.id for token in added if token.special}
    try:
        return WordPieceTokenizer(
            texts, normalizer=read_normalizer(file), unknown=model["unk_token"], prefix=prefix, clean_up=clean_up,
            longest_word=model.get("max_input_chars_per_word", LONGEST_WORD), special_tokens=special, added_tokens=added,
            template=template,
        )  # fmt: skip
    except ValueError as error:
        field, _, text = str(error).partition(": ")
        raise file.error(f"model.{field}", "a consistent vocabulary", text) from None


def read_word_level(file: File) -> Tokenizer:
    """A table of words, or of single characters if text is cut at each of them."""
    cuts = file.leaves("pre_tokenizer", "pretokenizers")
    kinds = [kind_of(part) for _, part in cuts]
    if len(kinds) != 1 or kinds[0] not in _WORD_CUTS:
        return _read_character(file)
    model = file.check(file.content["model"], _WORD_LEVEL, "model")
    if joins := file.leaves("decoder", "decoders"):
        raise file.error("decoder", "null: words with spaces between", _kinds(joins))
    added = added_tokens(file)
    texts = token_list(file, model["vocab"], added)
    special = {token.content: token.id for token in added if token.special}
    template, _ = read_post_processor(file, texts)
    try:
        return WordTokenizer(
            texts, unknown=model["unk_token"], cut=_WORD_CUTS[str(kinds[0])], normalizer=read_normalizer(file),
            special_tokens=special, added_tokens=added, template=template,
        )  # fmt: skip
    except ValueError as error:
        field, _, text = str(error).partition(": ")
        raise file.error(f"model.{field}", "a consistent vocabulary", text) from None


def _read_character(file: File) -> CharacterTokenizer:
    """The WordLevel layout of `layout.character_layout`; single characters."""
    model = file.check(file.content["model"], _WORD_LEVEL, "model")
    if steps := read_normalizer(file).steps:
        raise file.error("normalizer", "nothing that changes the text", " and ".join(map(repr, steps)))
    added = added_tokens(file)
    if read_post_processor(file, list(model["vocab"]))[0] != NO_TEMPLATE:
        raise file.error("post_processor", "none that adds tokens to a text", "one that does")
    special = usual_tokens(file, added)
    texts = without_holes(file, token_list(file, model["vocab"], added))
    cuts, joins = file.leaves("pre_tokenizer", "pretokenizers"), file.leaves("decoder", "decoders")
    if len(cuts) != 1 or split_pattern(file, cuts[0][1], cuts[0][0]) != EVERY_CHARACTER:
        raise file.error(
            "pre_tokenizer", f"a Split by {EVERY_CHARACTER}", " and ".join(str(kind_of(p)) for _, p in cuts) or "null"
        )
    if [kind_of(part) for _, part in joins] != ["Fuse"]:
        raise file.error("decoder", "Fuse", " and ".join(str(kind_of(part)) for _, part in joins) or "null")
    n = len(texts) - len(special)
    for index, text in enumerate(texts):
        if (text in special) != (index >= n) or (index < n and len(text) != 1):
            raise file.error(f"model.vocab.{text}", "single characters first, special tokens last", index)
    if model["unk_token"] != UNKNOWN or UNKNOWN not in texts[:n]:
        raise file.error("model.unk_token", f"{UNKNOWN!r}, in the vocabulary", model["unk_token"])
    return CharacterTokenizer(texts[:n], special_tokens=texts[n:])
