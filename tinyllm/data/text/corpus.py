"""Reading a corpus from a short description: what to learn from, as named sources of documents.

python, python:docstrings,source    the offline default, or parts of it (standard_library.py)
notes.txt                           a file, cut at blank lines, or at the end-of-text marks in it (documents.py)
stories.jsonl                       records, one document each, under "text"; also one JSON list of them, in .json
my/folder, "my/*.md"                every text file, each one a document (over 64 kB: cut), in sorted order
https://...                         fetched once and kept (download.py), then as a file
Bytes stay as they are, but for a byte order mark and end-of-text marks. A file named by itself must be text; in a folder,
what is not text is listed in `Source.skipped`. Records that could not be read and keys that were not used are in `notes`.
"""

import dataclasses
import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.data.records import BYTE_ORDER_MARK, SUFFIXES, Where, read_each, read_records
from tinyllm.data.text.documents import END_OF_TEXT, Source, as_documents, limit_bytes
from tinyllm.data.text.download import Progress, download
from tinyllm.data.text.standard_library import read_standard_library
from tinyllm.storage import FormatError
from tinyllm.storage.names import name_as_text, name_from_text

_LOOK_FOR_NUL_BYTES = 8192  # text has no NUL; images, archives and UTF-16 have one early


@dataclass(frozen=True)
class _Reading:
    """What the caller asked for."""

    cache: Path | None
    progress: Progress | None
    marks: tuple[str, ...]


def read_corpus(
    specs: str | Path | Sequence[str | Path], *, max_bytes: int | None = None, cache: Path | None = None,
    progress: Progress | None = None, end_of_text: Sequence[str] = (END_OF_TEXT,),
) -> list[Source]:  # fmt: skip
    """The sources that `specs` (one description or several, see above) stand for; names are made unique.

    max_bytes: limit for each source, see `documents.limit_bytes`. cache: folder for downloads. progress: called with
    (bytes so far, total or None) during a download. end_of_text: marks at which a text is cut into documents.
    ValueError for what is missing, empty, binary or unreachable.
    """
    specs = [specs] if isinstance(specs, str | Path) else list(specs)
    if not specs or "" in specs:  # an unset variable of a shell must not mean the folder one stands in
        raise ValueError("data names nothing to read; give 'python', a file, a folder, a pattern or a URL")
    how = _Reading(cache, progress, tuple(end_of_text))
    sources = [source for spec in specs for source in _read_spec(os.fspath(spec), how)]
    return [limit_bytes(source, max_bytes) for source in _uniquely_named(sources)]


def _read_spec(spec: str, how: _Reading) -> list[Source]:
    if spec == "python":
        return read_standard_library()
    if spec.startswith("python:"):
        return read_standard_library(tuple(part.strip() for part in spec.removeprefix("python:").split(",")))
    if "://" in spec:
        path = download(spec, folder=how.cache, progress=how.progress)
        return [read_file(path, how.marks, name=path.stem.split("-", 1)[-1])]
    path = Path(os.path.expanduser(name_from_text(spec)))
    if path.is_dir():
        return [_read_files(path.resolve().name or "root", sorted(_files_under(path)), spec, how.marks)]
    if path.exists() or not glob.has_magic(spec):
        return [read_file(path, how.marks)]
    matches = sorted(Path(found) for found in glob.glob(str(path), recursive=True))
    return [_read_files(path.parent.name or "files", [found for found in matches if found.is_file()], spec, how.marks)]


def read_file(path: Path, marks: Sequence[str] = (END_OF_TEXT,), *, name: str = "") -> Source:
    """One file as a source. Raises ValueError naming the file if it is missing, unreadable, empty or binary."""
    try:
        return _read(path, marks, name or path.stem, whole=False)
    except _UnfitError as fault:
        raise ValueError(f"data file {str(path)!r} {fault}") from None


class _UnfitError(ValueError):
    """A file is not one to learn from. The text says why: "is empty; what to do"."""


def _read(path: Path, marks: Sequence[str], name: str, *, whole: bool) -> Source:
    """A file of any kind. `whole`: a text is one document, unless it is large."""
    content, fault = _read_text(path)
    if fault:
        raise _UnfitError(fault)
    if _holds_records(path):
        return _read_records(path, marks, name)
    documents, n_marks = as_documents(content, marks, whole=whole)
    if not documents:
        raise _UnfitError("holds nothing but end-of-text marks; a corpus needs text")
    return Source(name, tuple(documents), n_marks=n_marks)


def _read_text(path: Path) -> tuple[bytes, str]:
    """(content, "") or (b"", what is wrong with it); a large binary file is left after its first bytes."""
    try:
        if path.is_dir():
            return b"", "is a folder that cannot be looked into; change its permissions, or leave it out"
        if not path.is_file() and path.exists():
            return b"", "is not an ordinary file; give a file, or save its content in one"  # a pipe would wait for ever
        with path.open("rb") as file:
            content = file.read(_LOOK_FOR_NUL_BYTES)
            if b"\0" in content:
                return b"", "is binary (it has NUL bytes); unpack it, or convert it to UTF-8 text, first"
            content += file.read()
    except FileNotFoundError:
        return b"", "does not exist; give 'python', an existing file or folder, a pattern or a URL"
    except OSError as error:
        return b"", f"cannot be read: {error.strerror or error}"
    content = content.removeprefix(BYTE_ORDER_MARK)
    return (content, "") if content.strip() else (b"", "is empty; a corpus needs text")


def _holds_records(path: Path) -> bool:
    """Whether a file is one of records; other JSON than a list of texts (a package.json, say) is a text as any other."""
    suffix = path.suffix.lower()
    if suffix != ".json":
        return suffix in SUFFIXES
    try:
        return next((isinstance(record, dict) and "text" in record for _, record in read_records(path)), False)
    except FormatError as fault:  # one that is too large to be looked into is not learned as text without a word
        return fault.field == "file size"


def _read_records(path: Path, marks: Sequence[str], name: str) -> Source:
    """The documents under "text". What was skipped or not used stands in `notes`."""

    def read(record: Any, where: Where) -> bytes:
        if "text" not in where.object(record, ("text",)):
            raise where.error('an object with a string under "text"', f"the keys {', '.join(record) or '(none)'}")
        return where.at("text").check(record["text"], str).encode("utf-8", errors="replace")

    try:
        texts, report = read_each(path, read, parse=_parse)
    except ValueError as error:
        raise _UnfitError(f"holds no text: {str(error).removeprefix(f'{path}: ')}") from None
    cut = [as_documents(text, marks, whole=True) for text in texts]
    documents = tuple(part for parts, _ in cut for part in parts)
    if not documents:
        raise _UnfitError("is empty; a corpus needs text")
    return Source(name, documents, notes=(str(report),) * report.says_something, n_marks=sum(n for _, n in cut))


def _parse(line: bytes, where: Where) -> Any:
    """A line of JSON, read mildly: of a corpus only the texts count, and half a surrogate pair in one of them becomes "?"."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise where.error("valid JSON", str(error)) from None


def _files_under(folder: Path) -> Iterator[Path]:
    """Every file below `folder` that is not hidden, and the folders that may not be listed."""
    closed: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        yield from (Path(here, name) for name in files if not name.startswith("."))
    yield from (Path(error.filename) for error in closed)  # reading them will say why not


def _read_files(name: str, paths: Sequence[Path], spec: str, marks: Sequence[str]) -> Source:
    """Many files as one source; what is empty, binary or unreadable is passed over and noted."""
    found: list[Source] = []
    skipped: list[str] = []
    for path in paths:
        try:
            found.append(_read(path, marks, name, whole=True))
        except _UnfitError as fault:
            skipped.append(f"{path} {str(fault).split(';')[0]}")
    if not found:
        passed_over = f" ({len(skipped)} passed over, first {skipped[0]})" if skipped else ""
        raise ValueError(f"data {spec!r} holds no text files{passed_over}; name a place with text in it")
    documents = tuple(document for source in found for document in source.documents)
    notes = tuple(line for source in found for line in source.notes)
    return Source(name, documents, tuple(skipped), notes, sum(source.n_marks for source in found))


def _uniquely_named(sources: list[Source]) -> list[Source]:
    """The same sources; a name seen before gets -2, -3 and so on."""
    unique: dict[str, Source] = {}
    for source in sources:
        own, count = name_as_text(source.name), 1
        name = own
        while name in unique:
            count += 1
            name = f"{own}-{count}"
        unique[name] = dataclasses.replace(source, name=name)
    return list(unique.values())
