"""One JSON value a line, only ever added to: the cheapest write that cannot harm what is already there.

A crash can tear nothing but the last line. The next one to be added closes a torn line off, so that it keeps to itself, and
readers pass it over.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.storage import strict_json
from tinyllm.storage.atomic import write_file
from tinyllm.storage.strict_json import FormatError


@dataclass(frozen=True)
class JsonLine:
    """A line that is not empty: its number from 1, and its value, or the error that says why it has none."""

    number: int
    value: Any
    error: FormatError | None = None
    torn: bool = False  # it begins as an object does, or is zeros: a size that reached the disk before the bytes


def read_lines(path: str | os.PathLike[str]) -> Iterator[JsonLine]:
    """The lines of a file; none if it is not there. Nothing is changed, also while another process adds to it."""
    content = Path(path).read_bytes() if Path(path).exists() else b""
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                yield JsonLine(number, strict_json.parse(line, file=path, field=f"line {number}"))
            except FormatError as error:
                yield JsonLine(number, None, error, torn=line.startswith(b"{") or not line.strip(b"\0"))


def append_line(path: str | os.PathLike[str], value: Any) -> None:
    """Adds one line to a file, which is made if it is not there."""
    descriptor = open_lines(path)
    try:
        add_line(descriptor, value)
    finally:
        os.close(descriptor)


def write_lines(path: str | os.PathLike[str], values: Iterable[Any]) -> None:
    """The file anew, whole or not at all."""
    write_file(path, b"".join(strict_json.dump(value) + b"\n" for value in values))


def open_lines(path: str | os.PathLike[str]) -> int:
    """A descriptor for `add_line`; the file is made if it is not there."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)


def add_line(descriptor: int, value: Any) -> None:
    """Adds one line in one write. OSError if the disk took only a part of it, which is then taken back if that can be done."""
    end = os.fstat(descriptor).st_size
    line = strict_json.dump(value) + b"\n"
    if end:
        os.lseek(descriptor, -1, os.SEEK_END)
        line = line if os.read(descriptor, 1) == b"\n" else b"\n" + line
    try:
        n_written = os.write(descriptor, line)
        if n_written < len(line):
            raise OSError(f"the disk took {n_written} of {len(line)} bytes; make room and try again")
    except OSError:
        os.ftruncate(descriptor, end)
        raise
