"""What stands around the model in a tokenizer.json: normalizer, post-processor, and how batches were cut and padded."""

import base64
import binascii
import re
from typing import Any

from tinyllm.storage.strict_json import MapOf, Optional
from tinyllm.tokenizers.charsmap import CharacterMap
from tinyllm.tokenizers.encoding import TEXT_A, TEXT_B, Padding, Part, Strategy, Template, Truncation
from tinyllm.tokenizers.formats.parsed import File, kind_of
from tinyllm.tokenizers.normalizers import (
    FORMS,
    Bert,
    Lowercase,
    Normalizer,
    Prepend,
    Replace,
    Step,
    Strip,
    StripAccents,
    Unicode,
)

_RUN = re.compile(r"(\\A)?( |\\s|\\n|\[ \]|\[ ▁\])(\+|\{\d+,\})(\\z)?")  # the expressions that files have: runs of white space
_BERT = {
    "type": str,
    "clean_text": Optional(bool),
    "handle_chinese_chars": Optional(bool),
    "strip_accents": Optional((None, bool)),
    "lowercase": Optional(bool),
}
_TRUNCATION = {"max_length": int, "stride": Optional(int), "strategy": Optional(str), "direction": Optional(str)}
_PADDING = {
    "strategy": object, "direction": Optional(str), "pad_to_multiple_of": Optional((None, int)), "pad_id": Optional(int),
    "pad_type_id": Optional(int), "pad_token": Optional(str),
}  # fmt: skip
_STRATEGIES: dict[str, Strategy] = {"LongestFirst": "longest_first", "OnlyFirst": "only_first", "OnlySecond": "only_second"}
_SPECIAL = MapOf({"id": str, "ids": [int], "tokens": [str]})


def read_steps(file: File) -> list[tuple[str, Step]]:
    """(field, step) of what is done to a text; parts without effect are left out."""
    found = []
    for field, part in file.leaves("normalizer", "normalizers"):
        step = _step(file, part, field)
        if step is not None:
            found.append((field, step))
    return found


def read_normalizer(file: File) -> Normalizer:
    """All of them."""
    return Normalizer(tuple(step for _, step in read_steps(file)))


def _step(file: File, part: dict[str, Any], field: str) -> Step | None:
    """One step; None for one that does nothing."""
    kind = kind_of(part)
    if kind in FORMS:
        return Unicode(kind)
    if kind == "Lowercase":
        return Lowercase()
    if kind == "StripAccents":
        return StripAccents()
    if kind == "BertNormalizer":
        part = file.check(part, _BERT, field)
        return Bert(**{key: value for key, value in part.items() if key != "type"})
    if kind == "Strip":
        part = file.check(part, {"type": str, "strip_left": bool, "strip_right": bool}, field)
        return Strip(part["strip_left"], part["strip_right"]) if part["strip_left"] or part["strip_right"] else None
    if kind == "Prepend":
        part = file.check(part, {"type": str, "prepend": str, "once": Optional(bool)}, field)
        return Prepend(part["prepend"], part.get("once", False)) if part["prepend"] else None
    if kind == "Replace":
        return _replace(file, part, field)
    if kind == "Precompiled":
        return _character_map(file, part, field)
    known = (
        f"nothing, or one of {', '.join(FORMS)}, Lowercase, StripAccents, BertNormalizer, Strip, Prepend, Replace, Precompiled"
    )
    raise file.error(field, known, kind_of(part))


def _replace(file: File, part: dict[str, Any], field: str) -> Replace:
    part = file.check(part, {"type": str, "pattern": MapOf(str), "content": str}, field)
    kinds = list(part["pattern"])
    if kinds == ["String"]:
        if not part["pattern"]["String"]:
            raise file.error(f"{field}.pattern", "at least one character", "nothing")
        return Replace(part["pattern"]["String"], part["content"])
    if kinds != ["Regex"] or not _RUN.fullmatch(part["pattern"].get("Regex", "")):
        raise file.error(f"{field}.pattern", "a String, or a Regex for runs of white space such as ' {2,}'", part["pattern"])
    return Replace(part["pattern"]["Regex"], part["content"], expression=True)


def _character_map(file: File, part: dict[str, Any], field: str) -> CharacterMap | None:
    part = file.check(part, {"type": str, "precompiled_charsmap": (None, str), "longest_match": Optional(bool)}, field)
    if not part["precompiled_charsmap"]:
        return None
    try:
        return CharacterMap(
            base64.b64decode(part["precompiled_charsmap"], validate=True), graphemes=not part.get("longest_match")
        )
    except (binascii.Error, ValueError) as error:
        raise file.error(f"{field}.precompiled_charsmap", "a double array with its results, in base64", str(error)) from None


def read_post_processor(file: File, texts: list[str | None]) -> tuple[Template, bool]:
    """What is written around a text, and whether offsets leave out spaces. texts: of all ids."""
    template, trim = Template(), False
    for field, part in file.leaves("post_processor", "processors"):
        kind = kind_of(part)
        if kind == "ByteLevel":
            trim = trim or bool(part.get("trim_offsets", True))
            continue
        if template != Template():
            raise file.error(field, "one template", f"a second one, {kind}")
        if kind == "TemplateProcessing":
            template = _template(file, part, field, texts)
        elif kind in ("BertProcessing", "RobertaProcessing"):
            template = _fixed_template(file, part, field, texts, twice=kind == "RobertaProcessing")
            trim = trim or (kind == "RobertaProcessing" and bool(part.get("trim_offsets", True)))
        else:
            raise file.error(field, "TemplateProcessing, BertProcessing, RobertaProcessing or ByteLevel", kind)
    return template, trim


def _template(file: File, part: dict[str, Any], field: str, texts: list[str | None]) -> Template:
    part = file.check(part, {"type": str, "single": [MapOf(object)], "pair": [MapOf(object)], "special_tokens": object}, field)
    special = part["special_tokens"] or {}
    file.check(special, MapOf(MapOf(object)), f"{field}.special_tokens")
    rows = {}
    for name in ("single", "pair"):
        if name == "pair" and not part[name]:  # none for pairs
            continue
        rows[name] = tuple(_part(file, one, f"{field}.{name}[{i}]", special, texts) for i, one in enumerate(part[name]))
    try:
        return Template(**rows)
    except ValueError as error:
        raise file.error(field, "each text once", str(error)) from None


def _part(file: File, part: dict[str, Any], field: str, special: dict[str, Any], texts: list[str | None]) -> Part:
    """One place of a template."""
    kind = next(iter(part), "")
    inner = file.check(part.get(kind), {"id": str, "type_id": Optional(int)}, f"{field}.{kind}") if len(part) == 1 else {}
    if kind == "Sequence" and inner["id"] in ("A", "B"):
        return Part(inner.get("type_id", 0), inner["id"])
    if kind != "SpecialToken" or inner["id"] not in special:
        raise file.error(field, "a Sequence A or B, or a SpecialToken that special_tokens has", part)
    token = special[inner["id"]]
    file.check(token, {"id": str, "ids": [int], "tokens": [str]}, f"{field}.special_tokens.{inner['id']}")
    if len(token["ids"]) != len(token["tokens"]) or any(not 0 <= i < len(texts) for i in token["ids"]):
        raise file.error(f"{field}.special_tokens.{inner['id']}", f"ids below {len(texts)}, each with its token", token)
    return Part(inner.get("type_id", 0), None, tuple(token["ids"]), tuple(token["tokens"]), inner["id"])


def _fixed_template(file: File, part: dict[str, Any], field: str, texts: list[str | None], *, twice: bool) -> Template:
    """[CLS] A [SEP] B [SEP], or RoBERTa's <s> A </s></s> B </s>, in which all type ids are 0."""
    marks = {}
    for name in ("cls", "sep"):
        pair = part.get(name)
        if not isinstance(pair, list) or list(map(type, pair)) != [str, int] or not 0 <= pair[1] < len(texts):
            raise file.error(f"{field}.{name}", f"a token and its id below {len(texts)}", pair)
        marks[name] = pair
    second = 0 if twice else 1
    (cls, cls_id), (sep, sep_id) = marks["cls"], marks["sep"]

    def mark(name: str, index: int, type_id: int = 0) -> Part:
        return Part(type_id, None, (index,), (name,), name)

    begin, between = mark(cls, cls_id), mark(sep, sep_id)
    again = (between,) if twice else ()
    text_b = TEXT_B if second else Part(text="B")
    return Template((begin, TEXT_A, between), (begin, TEXT_A, between, *again, text_b, mark(sep, sep_id, second)))


def read_truncation(file: File) -> Truncation | None:
    """How texts were cut when the file was saved."""
    part = file.content.get("truncation")
    if part is None:
        return None
    part = file.check(part, _TRUNCATION, "truncation")
    strategy = part.get("strategy", "LongestFirst")
    if strategy not in _STRATEGIES:
        raise file.error("truncation.strategy", " or ".join(_STRATEGIES), strategy)
    try:
        return Truncation(
            part["max_length"],
            part.get("stride", 0),
            _STRATEGIES[strategy],
            part.get("direction", "Right").lower(),  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise file.error("truncation", "a length, a stride below it and a side", str(error)) from None


def read_padding(file: File) -> Padding | None:
    """How texts were padded when the file was saved."""
    part = file.content.get("padding")
    if part is None:
        return None
    part = file.check(part, _PADDING, "padding")
    strategy = part["strategy"]
    fixed = strategy.get("Fixed") if isinstance(strategy, dict) else None
    if strategy != "BatchLongest" and type(fixed) is not int:
        raise file.error("padding.strategy", '"BatchLongest" or {"Fixed": length}', strategy)
    try:
        return Padding(
            fixed, part.get("pad_id", 0), part.get("pad_token", "[PAD]"), part.get("pad_type_id", 0),
            part.get("direction", "Right").lower(), part.get("pad_to_multiple_of") or None,
        )  # type: ignore[arg-type]  # fmt: skip
    except ValueError as error:
        raise file.error("padding", "a length and a side", str(error)) from None
