"""JSON that says what it means, or is refused. Grammar: RFC 8259.

Python's own parser accepts NaN, keeps the last of two equal keys, reads 1e999 as infinity, and `True` passes for the
number 1. A model folder comes from strangers, so here each of these is an error that names the file and the field.
A schema is plain Python: `int`, `float`, `str`, `bool`, `object` (anything), `None`, a tuple (one of these), `[item]` (a
list), `{"key": schema}` (a closed object: no other key; `Optional(schema)` may be missing) and `MapOf(schema)` (an
object with free keys).
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.storage import foreign
from tinyllm.storage.explain import suggestion

MAX_DEPTH = 64  # levels of nesting; our own files use 6
MAX_DIGITS = 80  # digits of one integer; the largest we write is PCG64's 128-bit state, 39 digits
MAX_BYTES = 100_000_000  # the same limit as a safetensors header


class FormatError(ValueError):
    """A file is not what its format promises. Attributes: file, field, expected, found."""

    def __init__(self, file: str | os.PathLike[str], *, field: str, expected: str, found: object):
        self.file, self.field, self.expected, self.found = str(file), field, expected, _short(found)
        super().__init__(f"{self.file}: {field}: expected {expected}, found {self.found}")


def _short(value: object, limit: int = 120) -> str:
    """One printable line of at most `limit` characters: a hostile file must not fill the terminal, or steer it."""
    text = value if isinstance(value, str) else repr(value)[: limit + 1]
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "..."


@dataclass(frozen=True)
class Optional:
    """A key of a closed object that may be missing."""

    schema: Any


@dataclass(frozen=True)
class MapOf:
    """An object with free string keys whose values all follow one schema."""

    schema: Any


def parse(source: bytes | str, *, file: str | os.PathLike[str], field: str = "JSON", schema: Any = object) -> Any:
    """The value of a JSON text, checked against `schema`. Any fault raises FormatError naming `file` and the field."""

    def refuse(expected: str, found: object) -> FormatError:
        return FormatError(file, field=field, expected=expected, found=found)

    if len(source) > MAX_BYTES:
        raise refuse(f"at most {MAX_BYTES} bytes", f"{len(source)} bytes")
    try:
        text = source.decode("utf-8-sig") if isinstance(source, bytes) else source
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: _unique(pairs, refuse),
            parse_constant=lambda name: _raise(refuse("finite numbers", name)),
            parse_int=lambda digits: _integer(digits, refuse),
            parse_float=lambda digits: _finite(digits, refuse),
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        start = source[: foreign.LENGTH]
        if what := foreign.recognised(start if isinstance(start, bytes) else start.encode("utf-8", "replace")):
            raise refuse("valid JSON", what) from None
        raise refuse(*_why_not_json(error)) from None
    except RecursionError:
        raise refuse(f"at most {MAX_DEPTH} levels of nesting", "more") from None
    _check_depth_and_text(value, text, refuse)
    check(value, schema, file=file, field=field)
    return value


def _why_not_json(error: UnicodeDecodeError | json.JSONDecodeError) -> tuple[str, str]:
    """What was expected and found where a text stopped being JSON."""
    if isinstance(error, json.JSONDecodeError):
        return "valid JSON", f"{error.msg} at line {error.lineno} column {error.colno}"
    return "UTF-8 text", f"byte 0x{error.object[error.start]:02x} at position {error.start}"


def _raise(error: Exception) -> Any:
    """`raise` as an expression, for the parser's hooks."""
    raise error


def _unique(pairs: list[tuple[str, Any]], refuse: Any) -> dict[str, Any]:
    """The object of these pairs; a repeated key is refused, since readers disagree on which one counts."""
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise refuse("each key once", f"key {key!r} twice")
            seen.add(key)
    return value


def _integer(digits: str, refuse: Any) -> int:
    """An integer of a sane length: int() of a million digits takes quadratic time, or fails."""
    if len(digits) > MAX_DIGITS:
        raise refuse(f"integers of at most {MAX_DIGITS} digits", f"{len(digits)} digits")
    return int(digits)


def _finite(digits: str, refuse: Any) -> float:
    """A float that did not overflow: 1e999 would become infinity without a word."""
    value = float(digits)
    if not math.isfinite(value):
        raise refuse("finite numbers", digits)
    return value


def _check_depth_and_text(value: Any, text: str, refuse: Any) -> None:
    """Refuses nesting beyond MAX_DEPTH and escaped lone surrogates, which no UTF-8 file could hold."""
    has_surrogates = "\\ud" in text or "\\uD" in text
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise refuse(f"at most {MAX_DEPTH} levels of nesting", "more")
        if has_surrogates:
            _refuse_surrogates(level, refuse)
        level = [child for item in level for child in _children(item)]


def _children(item: Any) -> Any:
    """The values inside a list or an object; nothing for the rest."""
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _refuse_surrogates(items: list[Any], refuse: Any) -> None:
    """Raises for a string, or an object's key, that holds half of a surrogate pair."""
    for item in items:
        for string in [item] if isinstance(item, str) else item if isinstance(item, dict) else ():
            if any("\ud800" <= c <= "\udfff" for c in string):
                raise refuse("text without lone surrogates", ascii(string))


_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false", None: "null"}


def check(value: Any, schema: Any, *, file: str | os.PathLike[str], field: str = "JSON") -> None:
    """Raises FormatError unless `value` follows `schema` (see the module's docstring). `field` names where we are."""
    if schema is object:
        return
    if isinstance(schema, tuple):
        if not any(_follows(value, choice, file) for choice in schema):
            raise FormatError(file, field=field, expected=describe(schema), found=value)
    elif isinstance(schema, MapOf | dict):
        if not isinstance(value, dict):
            raise FormatError(file, field=field, expected=describe(schema), found=value)
        _check_object(value, schema, file, field)
    elif isinstance(schema, list):
        if not isinstance(value, list):
            raise FormatError(file, field=field, expected=describe(schema), found=value)
        for i, item in enumerate(value):
            check(item, schema[0], file=file, field=f"{field}[{i}]")
    elif not _is_scalar(value, schema):
        raise FormatError(file, field=field, expected=describe(schema), found=value)


def _check_object(value: dict[str, Any], schema: Any, file: str | os.PathLike[str], field: str) -> None:
    """The checks of one object: unknown keys (naming the nearest known one), missing keys, then the values."""
    prefix = "" if field == "JSON" else field + "."
    if isinstance(schema, MapOf):
        for key, item in value.items():
            check(item, schema.schema, file=file, field=f"{prefix}{_short(key)}")
        return
    for key in value:
        if key not in schema:
            hint = suggestion(key, schema)
            expected = "one of " + ", ".join(schema) if schema else "no key at all"
            raise FormatError(file, field=f"{prefix}{_short(key)}", expected=expected, found=f"an unknown key{hint}")
    for key, rule in schema.items():
        inner = rule.schema if isinstance(rule, Optional) else rule
        if key in value:
            check(value[key], inner, file=file, field=prefix + key)
        elif not isinstance(rule, Optional):
            raise FormatError(file, field=prefix + key, expected=describe(inner), found="nothing: the key is missing")


def _follows(value: Any, schema: Any, file: str | os.PathLike[str]) -> bool:
    """Whether `value` follows `schema`."""
    try:
        check(value, schema, file=file)
    except FormatError:
        return False
    return True


def _is_scalar(value: Any, schema: Any) -> bool:
    """Whether `value` has the scalar type `schema`; a bool is never a number, an integer is a fine float."""
    if schema is None:
        return value is None
    if isinstance(value, bool):
        return schema is bool
    return isinstance(value, (int, float) if schema is float else schema)


def describe(schema: Any) -> str:
    """A schema in words, for error texts."""
    if isinstance(schema, tuple):
        return " or ".join(describe(choice) for choice in schema)
    if isinstance(schema, list):
        return "a list" if schema[0] is object else f"a list, each {describe(schema[0])}"
    if isinstance(schema, dict | MapOf):
        return "an object"
    return _NAMES.get(schema, "a value")


def dump(value: Any, *, indent: int | None = None) -> bytes:
    """UTF-8 JSON in one canonical form, so that equal values have equal hashes: keys sorted.

    ValueError for NaN, and for more than MAX_BYTES, which `read` would refuse: what is written can be read.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False, indent=indent, separators=separators)
    content = (text + ("" if indent is None else "\n")).encode("utf-8")
    if len(content) > MAX_BYTES:
        found = f"value: takes {len(content)} bytes as JSON, expected at most {MAX_BYTES}"
        raise ValueError(f"{found}; put large arrays into a safetensors file")
    return content


def read(path: str | os.PathLike[str], *, schema: Any = object) -> Any:
    """The checked value of a JSON file. OSError if it cannot be read, FormatError if it is not what `schema` says."""
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FormatError(path, field="file size", expected=f"at most {MAX_BYTES} bytes", found=f"{size} bytes")
    return parse(path.read_bytes(), file=path, schema=schema)
