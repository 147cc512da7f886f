"""Reading a corpus from a short description: what to learn from, as named sources of documents.

python, python:docstrings,source    the offline default, or parts of it (standard_library.py)
notes.txt, stories.jsonl            a file, cut at blank lines (documents.py); JSON lines: one document each, under "text"
my/folder, "my/*.md"                every text file, each one a document (over 64 kB: cut), in sorted order
https://...                         fetched once and kept (download.py), then as a file
Bytes stay as they are. A file named by itself must be text; in a folder, what is not text is listed in `Source.skipped`.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tinyllm.data.documents import Source, cut_at_paragraphs, document_size_for, limit_bytes
from tinyllm.data.download import Progress, download
from tinyllm.data.standard_library import read_standard_library

LARGE_FILE_BYTES = 64 * 1024  # a larger file in a folder is cut into documents, since one document never divides
_LOOK_FOR_NUL_BYTES = 8192  # text has no NUL; images, archives and UTF-16 have one early


def read_corpus(
    specs: str | Path | Sequence[str | Path],
    *,
    max_bytes: int | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[Source]:
    """The sources that `specs` (one description or several, see above) stand for; names are made unique.

    max_bytes: limit for each source, see `documents.limit_bytes`. cache: folder for downloads. progress: called with
    (bytes so far, total or None) during a download. ValueError for what is missing, empty, binary or unreachable.
    """
    specs = [specs] if isinstance(specs, str | Path) else list(specs)
    if not specs or "" in specs:  # an unset variable of a shell must not mean the folder one stands in
        raise ValueError("data names nothing to read; give 'python', a file, a folder, a pattern or a URL")
    sources = [source for spec in specs for source in _read_spec(os.fspath(spec), cache, progress)]
    return [limit_bytes(source, max_bytes) for source in _uniquely_named(sources)]


def _read_spec(spec: str, cache: Path | None, progress: Progress | None) -> list[Source]:
    if spec == "python":
        return read_standard_library()
    if spec.startswith("python:"):
        return read_standard_library(tuple(part.strip() for part in spec.removeprefix("python:").split(",")))
    if "://" in spec:
        path = download(spec, folder=cache, progress=progress)
        return [Source(path.stem.split("-", 1)[-1], read_file(path))]
    path = Path(os.path.expanduser(spec))
    if path.is_dir():
        return [_read_files(path.resolve().name or "root", sorted(_files_under(path)), spec)]
    if path.exists() or not glob.has_magic(spec):
        return [Source(path.stem, read_file(path))]
    matches = sorted(Path(found) for found in glob.glob(str(path), recursive=True))
    return [_read_files(path.parent.name or "files", [found for found in matches if found.is_file()], spec)]


def read_file(path: Path) -> tuple[bytes, ...]:
    """The documents of one file. Raises ValueError naming the file if it is missing, unreadable, empty or binary."""
    content, fault = _read_text(path)
    if fault:
        raise ValueError(f"data file {str(path)!r} {fault}")
    if path.suffix == ".jsonl":
        return tuple(_json_lines(path, content))
    return tuple(cut_at_paragraphs(content, document_size_for(len(content))))


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
    return (content, "") if content.strip() else (b"", "is empty; a corpus needs text")


def _json_lines(path: Path, content: bytes) -> Iterator[bytes]:
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"data file {str(path)!r}, line {number}: not JSON ({error})") from None
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise ValueError(f'data file {str(path)!r}, line {number}: expected an object with a string under "text"')
        if text:
            yield text.encode("utf-8", errors="replace")  # JSON can spell half a surrogate pair; UTF-8 cannot


def _files_under(folder: Path) -> Iterator[Path]:
    """Every file below `folder` that is not hidden, and the folders that may not be listed."""
    closed: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        yield from (Path(here, name) for name in files if not name.startswith("."))
    yield from (Path(error.filename) for error in closed)  # reading them will say why not


def _read_files(name: str, paths: Sequence[Path], spec: str) -> Source:
    """Many files as one source; what is empty, binary or unreadable is passed over and noted."""
    documents: list[bytes] = []
    skipped: list[str] = []
    for path in paths:
        content, fault = _read_text(path)
        if fault:
            skipped.append(f"{path} {fault.split(';')[0]}")
        elif path.suffix == ".jsonl":
            documents.extend(_json_lines(path, content))
        else:
            documents.extend(cut_at_paragraphs(content) if len(content) > LARGE_FILE_BYTES else [content])
    if not documents:
        passed_over = f" ({len(skipped)} passed over, first {skipped[0]})" if skipped else ""
        raise ValueError(f"data {spec!r} holds no text files{passed_over}; name a place with text in it")
    return Source(name, tuple(documents), tuple(skipped))


def _uniquely_named(sources: list[Source]) -> list[Source]:
    """The same sources; a name seen before gets -2, -3 and so on."""
    unique: dict[str, Source] = {}
    for source in sources:
        name, count = source.name, 1
        while name in unique:
            count += 1
            name = f"{source.name}-{count}"
        unique[name] = Source(name, source.documents, source.skipped)
    return list(unique.values())
