"""Files of records that people exchange: one JSON object a line (.jsonl), or one JSON list of them (.json).

Data made by strangers has two kinds of faults. A record that is not what the format says (a number where a text belongs)
is an error with file, line and key: somebody should look. A record that is well-formed but useless (an empty answer) is
skipped, and counted with its reason, because a file of a million has some: `ReadReport` says how many, why, and where the
first one is. Nothing is dropped without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, strict_json

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin a UTF-8 file with it


class Skip(Exception):
    """Raised while a record is read: it is well-formed, but nothing can be learned from it. The text is the reason."""


@dataclass
class ReadReport:
    """What became of a file's records. str(report) is one line for people."""

    file: str
    n_records: int = 0
    places: dict[str, list[str]] = field(default_factory=dict)  # reason -> where, "line 7"

    def skip(self, reason: str, place: str) -> None:
        """Count one skipped record."""
        self.places.setdefault(reason, []).append(place)

    @property
    def n_skipped(self) -> int:
        """The number of records that were left out."""
        return sum(map(len, self.places.values()))

    @property
    def reasons(self) -> dict[str, int]:
        """reason -> how many."""
        return {reason: len(places) for reason, places in self.places.items()}

    def __str__(self) -> str:
        text = f"{self.file}: {self.n_records:,} record{'s' * (self.n_records != 1)}"
        why = [f"{len(places):,} {reason} (first: {places[0]})" for reason, places in self.places.items()]
        return f"{text}, {self.n_skipped:,} skipped: {', '.join(why)}" if why else text

    def check_some_left(self, kept: list[Any]) -> None:
        """ValueError if nothing was kept."""
        if not kept:
            raise ValueError(f"{self}; nothing is left to learn from" if self.n_records else f"{self.file}: holds no records")


def read_records(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """(place, record) for each record of a file; place is "line 3", or "record 3" in a list; both count from 1.

    Whether it is a list or lines is seen from the content, since both go by both names: a file that begins with "[" is
    one list, unless several lines are each a value, or its only list is that of one conversation's messages.
    FormatError for what is not JSON.
    """
    path = Path(path)
    with path.open("rb") as file:
        lines = (line.removeprefix(BYTE_ORDER_MARK).strip() for line in file)
        first = next(filter(None, lines), b"")
        one_line = next(filter(None, lines), None) is None
    items = _try_list(first)
    if first.startswith(b"[") and (items is None or (one_line and not _are_messages(items))):
        for i, record in enumerate(_read_list(path), start=1):
            yield f"record {i}", record
    else:
        yield from _read_lines(path)


def _try_list(line: bytes) -> list[Any] | None:
    """The list that a line holds, None if it does not hold one whole."""
    try:
        return strict_json.parse(line, file="", schema=[object]) if line.startswith(b"[") else None
    except FormatError:
        return None


def _are_messages(items: list[Any]) -> bool:
    """Whether a list is one conversation, not a list of records."""
    return bool(items) and all(isinstance(item, dict) and ("role" in item or "from" in item) for item in items)


def _read_list(path: Path) -> list[Any]:
    size = path.stat().st_size
    if size > strict_json.MAX_BYTES:
        expected = f"at most {strict_json.MAX_BYTES} bytes in one JSON list (write one record a line: .jsonl)"
        raise FormatError(path, field="file size", expected=expected, found=f"{size} bytes")
    return strict_json.parse(path.read_bytes().removeprefix(BYTE_ORDER_MARK), file=path, schema=[object])


def _read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if number == 1 and line.strip()[:1] not in (b"{", b"[", b""):
                expected = "a JSON object a line (.jsonl), or one JSON list of them (.json)"
                raise FormatError(path, field="line 1", expected=expected, found=repr(line.strip()[:40].decode(errors="replace")))
            if line.strip():
                yield f"line {number}", strict_json.parse(line, file=path, field=f"line {number}")


class Where:
    """A place in a file, to be named in errors: Where(path, "line 3").at("messages").item(0) is "line 3: messages[0]"."""

    def __init__(self, path: str | os.PathLike[str], place: str, key: str = ""):
        self.path, self.place, self.key = Path(path), place, key

    def at(self, key: str) -> Where:
        """The value of `key` in the object here."""
        return Where(self.path, self.place, f"{self.key}.{key}" if self.key else key)

    def item(self, index: int) -> Where:
        """An item of the list here, counted from 0."""
        return Where(self.path, self.place, f"{self.key}[{index}]")

    @property
    def field(self) -> str:
        """The place in words."""
        return f"{self.place}: {self.key}" if self.key else self.place

    def error(self, expected: str, found: object) -> FormatError:
        """The error that says what was expected here."""
        return FormatError(self.path, field=self.field, expected=expected, found=found)

    def check(self, value: Any, schema: Any) -> Any:
        """`value`, if it follows `schema` (see storage/strict_json.py)."""
        strict_json.check(value, schema, file=self.path, field=self.field)
        return value

    def require(self, record: dict[str, Any], key: str) -> Any:
        """record[key]; FormatError if it is missing, naming the keys that came."""
        if key not in record:
            raise self.at(key).error("this key, as in the first record", f"only the keys {', '.join(record) or '(none)'}")
        return record[key]

    def text(self, record: dict[str, Any], key: str) -> str:
        """record[key] as text; "" if it is missing or null."""
        value = record.get(key)
        return "" if value is None else self.at(key).check(value, str)
