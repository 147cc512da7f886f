"""One validator for whatever comes from outside: every field has a type and a range, and there are no other fields.

A number that is merely parsed is a number an attacker chose (a size, an index, a count). So a request is described by a
table, field -> rule, and reaches the code behind it only if all of it fits.
"""

import asyncio
import re
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any

from tinyllm.server.security import MAX_BODY, Refused
from tinyllm.storage import strict_json
from tinyllm.storage.strict_json import FormatError

BODY_SECONDS = 15.0  # how long a body may take to arrive


@dataclass(frozen=True)
class Whole:
    """A whole number in a range, both ends included."""

    lowest: int
    highest: int

    def check(self, value: Any, where: str) -> int:
        """The value; Refused (400) for anything else."""
        if type(value) is not int or not self.lowest <= value <= self.highest:
            raise Refused(400, f"{where}: expected a whole number from {self.lowest} to {self.highest}")
        return value


@dataclass(frozen=True)
class Text:
    """Text of 1 to `longest` characters that matches `pattern` as a whole, if one is given."""

    longest: int
    pattern: str | None = None

    def check(self, value: Any, where: str) -> str:
        """The value; Refused (400) for anything else."""
        if not isinstance(value, str) or not 0 < len(value) <= self.longest:
            raise Refused(400, f"{where}: expected text of 1 to {self.longest} characters")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise Refused(400, f"{where}: has characters that are not allowed here")
        return value


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def check(self, value: Any, where: str) -> bool:
        """The value; Refused (400) for anything else."""
        if type(value) is not bool:
            raise Refused(400, f"{where}: expected true or false")
        return value


@dataclass(frozen=True)
class ListOf:
    """A list of `shortest` to `longest` values that all follow one rule; with `or_null` also null."""

    rule: Any
    shortest: int
    longest: int
    or_null: bool = False

    def check(self, value: Any, where: str) -> list[Any] | None:
        """The value; Refused (400) for anything else."""
        if value is None and self.or_null:
            return None
        if not isinstance(value, list) or not self.shortest <= len(value) <= self.longest:
            raise Refused(400, f"{where}: expected a list of {self.shortest} to {self.longest} values")
        return [self.rule.check(item, f"{where}[{i}]") for i, item in enumerate(value)]


def validate(value: Any, rules: Mapping[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The object `value` with every field checked. Refused (400) names the field that is unknown, missing or out of range."""
    if not isinstance(value, dict):
        raise Refused(400, "expected a JSON object")
    for name in value:
        if name not in rules:
            raise Refused(400, f"{name[:40]!r}: unknown field; known are {', '.join(rules)}")
    for name in rules:
        if name not in value and name not in optional:
            raise Refused(400, f"{name}: missing")
    return {name: rules[name].check(item, name) for name, item in value.items()}


def validate_query(pairs: list[tuple[str, str]], rules: Mapping[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same for an address's query, where numbers are written as digits and a name may be given once."""
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name in values:
            raise Refused(400, f"{name[:40]!r}: given twice")
        is_number = isinstance(rules.get(name), Whole) and re.fullmatch("[0-9]{1,9}", text)
        values[name] = int(text) if is_number else text
    return validate(values, rules, optional=optional)


async def read_json(chunks: AsyncIterable[bytes]) -> Any:
    """The JSON value of a request's body. Refused: 413 too long, 408 too slow, 400 not JSON as storage.strict_json has it."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY:
                    raise Refused(413, f"a request has at most {MAX_BODY} bytes")
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {BODY_SECONDS:.0f} seconds") from None
    try:
        return strict_json.parse(bytes(body), file="the request")
    except FormatError as error:
        raise Refused(400, str(error)) from None
