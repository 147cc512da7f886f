"""Files of records that people exchange: one JSON object a line (.jsonl), or one JSON list of them (.json).

A file of a million records, made by strangers, has some that are useless (an empty answer), some that are broken (a number
where a text belongs, half a line), and keys that nobody here knows. None of these is a reason to refuse the file, and none
goes without a word: `ReadReport` counts what was skipped, why, and where first, and which keys were not used. Only a file
of which nothing is left is refused, with its first fault.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tinyllm.storage import FormatError, strict_json

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin a UTF-8 file with it
SUFFIXES = (".jsonl", ".json", ".ndjson", ".jsonlines")
MALFORMED = "malformed"
MOST_REASONS = 6  # that one line names
# Keys that say where a record is from, not what it says: nothing is lost with them.
HARMLESS = frozenset(
    "_id id idx index uuid hash key conversation_id prompt_id message_id question_id record_id source dataset origin url uri "
    "link license lang language category topic tags split created created_at updated_at date time timestamp meta metadata "
    "model model_name tokens n_tokens num_tokens token_count length".split()
)

_CONTROL_TOKEN = re.compile(r"<\|[a-z_]{2,30}\|>|\[/?INST\]|</s>")
Made = TypeVar("Made")


class Skip(Exception):
    """Raised while a record is read: it is well-formed, but nothing can be learned from it. The text is the reason."""


@dataclass
class ReadReport:
    """What became of a file's records. str(report) is one line for people."""

    file: str
    n_records: int = 0
    places: dict[str, list[str]] = field(default_factory=dict)  # reason -> where, "line 7"
    unused: dict[str, list[str]] = field(default_factory=dict)  # key that was not used -> where
    spelled: dict[str, list[str]] = field(default_factory=dict)  # control token of some chat that a text spells -> where
    faults: list[FormatError] = field(default_factory=list)  # of the malformed records

    def skip(self, reason: str, place: str) -> None:
        """Count one skipped record."""
        self.places.setdefault(reason, []).append(place)

    def check_keys(self, record: Mapping[str, Any], used: Iterable[str], place: str, *, inside: str = "") -> None:
        """Count the keys of a record, or of an object `inside` it, that hold something and are not used."""
        for key in record.keys() - set(used) - HARMLESS:
            if record[key] not in (None, "", [], {}, False):
                places = self.unused.setdefault(inside + key, [])
                if places[-1:] != [place]:
                    places.append(place)

    def check_text(self, text: str, place: str) -> None:
        """Count what looks like a control token in a text: whoever wrote it meant the token, and it is read as letters."""
        for token in set(_CONTROL_TOKEN.findall(text)):
            places = self.spelled.setdefault(token, [])
            if places[-1:] != [place]:
                places.append(place)

    @property
    def n_skipped(self) -> int:
        """The number of records that were left out."""
        return sum(map(len, self.places.values()))

    @property
    def reasons(self) -> dict[str, int]:
        """reason -> how many."""
        return {reason: len(places) for reason, places in self.places.items()}

    @property
    def says_something(self) -> bool:
        """Whether anything was skipped, not used, or not what it was meant to be."""
        return bool(self.places or self.unused or self.spelled)

    def __str__(self) -> str:
        text = f"{self.file}: {self.n_records:,} record{'s' * (self.n_records != 1)}"
        if self.places:
            ordered = sorted(self.places.items(), key=lambda item: -len(item[1]))
            why = [f"{len(places):,} {reason} (first: {self._first(reason)})" for reason, places in ordered[:MOST_REASONS]]
            others = sum(len(places) for _, places in ordered[MOST_REASONS:])
            text += (
                f", {self.n_skipped:,} skipped: {', '.join([*why, f'{others:,} for other reasons'][: len(why) + bool(others)])}"
            )
        text += f"; keys that were not used: {_most_frequent(self.unused, 'of')}" if self.unused else ""
        text += f"; control tokens that are read as letters: {_most_frequent(self.spelled, 'in')}" if self.spelled else ""
        return text

    def _first(self, reason: str) -> str:
        """Where a reason comes first; of malformed records also what is wrong."""
        if reason != MALFORMED:
            return self.places[reason][0]
        fault = self.faults[0]
        return f"{fault.field}: expected {fault.expected}, found {fault.found}"

    def check_some_left(self, kept: list[Any]) -> None:
        """ValueError if nothing was kept: the first fault where all are malformed, else all that was counted."""
        if not kept and self.faults and len(self.places) == 1:
            raise self.faults[0]
        if not kept:
            raise ValueError(f"{self}; nothing is left to learn from" if self.n_records else f"{self.file}: holds no records")


def _most_frequent(found: Mapping[str, list[str]], word: str) -> str:
    """What was found, with how many and where first, in the order of how many."""
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    named = [f"{name!r} {word} {len(places):,} (first: {places[0]})" for name, places in ordered[:MOST_REASONS]]
    return ", ".join(named) + (f" and {len(ordered) - MOST_REASONS} more" if len(ordered) > MOST_REASONS else "")


class Where:
    """A place in a file, to be named in errors: Where(path, "line 3").at("messages").item(0) is "line 3: messages[0]"."""

    def __init__(self, path: str | os.PathLike[str], place: str, key: str = "", report: ReadReport | None = None):
        self.path, self.place, self.key = Path(path), place, key
        self.report = report

    def at(self, key: str) -> Where:
        """The value of `key` in the object here."""
        return Where(self.path, self.place, f"{self.key}.{key}" if self.key else key, self.report)

    def item(self, index: int) -> Where:
        """An item of the list here, counted from 0."""
        return Where(self.path, self.place, f"{self.key}[{index}]", self.report)

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

    def object(self, value: Any, used: Iterable[str] | None = None) -> dict[str, Any]:
        """`value`, if it is an object. Its keys beyond `used` go into the report."""
        self.check(value, strict_json.MapOf(object))
        if used is not None and self.report is not None:
            inside = f"{self.key.split('[')[0]}[]." if "[" in self.key else ""  # one name for all items of a list
            self.report.check_keys(value, used, self.place, inside=inside)
        return value

    def text(self, record: dict[str, Any], key: str) -> str:
        """record[key] as text; "" if it is missing or null."""
        value = record.get(key)
        return "" if value is None else self.at(key).check(value, str)


def read_each(
    path: str | os.PathLike[str], read: Callable[[Any, Where], Made], *, parse: Callable[[bytes, Where], Any] | None = None
) -> tuple[list[Made], ReadReport]:
    """What `read` makes of each record of a file, and what became of the others.

    read   raises Skip for a record that is of no use, FormatError for one that is malformed
    parse  a line's bytes -> the record; strict_json by default

    Raises FormatError if the file as a whole is not one of records; ValueError if nothing is left.
    """
    report, kept = ReadReport(str(path)), []
    for place, record in read_records(path, parse=parse):
        report.n_records += 1
        try:
            if isinstance(record, FormatError):
                raise record
            kept.append(read(record, Where(path, place, report=report)))
        except Skip as reason:
            report.skip(str(reason), place)
        except FormatError as fault:
            report.skip(MALFORMED, place)
            report.faults.append(fault)
    report.check_some_left(kept)
    return kept, report


def read_records(
    path: str | os.PathLike[str], *, parse: Callable[[bytes, Where], Any] | None = None
) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """(place, record) for each record of a file; place is "line 3", or "record 3" in a list; both count from 1.

    Whether it is a list or lines is seen from the content, since both go by both names: a file that begins with "[" is
    one list, unless several lines are each a value, or its only list is that of one conversation's messages. A single object
    may go over several lines.
    A line that is not JSON comes as the FormatError that says so; FormatError is raised for a file that is not of records.
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
    elif first == b"{" and (record := _try_object(path)) is not None:
        yield "record 1", record
    else:
        yield from _read_lines(path, parse or _parse)


def _parse(line: bytes, where: Where) -> Any:
    return strict_json.parse(line, file=where.path, field=where.place)


def _try_list(line: bytes) -> list[Any] | None:
    """The list that a line holds, None if it does not hold one whole."""
    try:
        return strict_json.parse(line, file="", schema=[object]) if line.startswith(b"[") else None
    except FormatError:
        return None


def _try_object(path: Path) -> dict[str, Any] | None:
    """The single object that a file holds, written over several lines; None if it is something else."""
    try:
        return strict_json.read(path, schema=strict_json.MapOf(object))
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


def _read_lines(path: Path, parse: Callable[[bytes, Where], Any]) -> Iterator[tuple[str, Any]]:
    begun = False
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip()
            if not line:
                continue
            place = f"line {number}"
            if not begun and line[:1] not in (b"{", b"["):
                expected = "a JSON object a line (.jsonl), or one JSON list of them (.json), in UTF-8"
                raise FormatError(path, field=place, expected=expected, found=repr(line[:40].decode(errors="replace")))
            begun = True
            try:
                record = parse(line, Where(path, place))
            except FormatError as fault:
                record = fault
            yield place, record
