"""The offline corpus: what every Python installation already holds, as three sources of different character.

"reference" is what `help()` shows about the language (pydoc_data.topics): English about Python. "docstrings" are those of
the standard library: short English, mixed with signatures. "source" is its code with the docstrings cut out, because the
same sentence in two sources could stand in training and in validation. Files are parsed with `ast`, never imported, so
nothing in them runs. Tests, generated tables (entities, locale names, codecs) and this machine's build settings are left
out. The text differs a little from one Python to the next.
"""

import ast
import importlib.util
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from tinyllm.data.text.documents import Source, canonical, without_duplicates

SOURCE_NAMES = ("reference", "docstrings", "source")

_SKIPPED_FOLDERS = re.compile(
    r"__pycache__|(site|dist)-packages|tests?|idle_test|encodings|pydoc_data|_bundled|turtledemo|config-.*|lib2to3|\..*"
)
_SKIPPED_FILES = re.compile(r"(_sysconfigdata.*|_sysconfig_vars.*|__phello__.*|this)\.py")
_BLANK_LINE = re.compile(rb"\n[ \t]*\n")
_SMALLEST_BYTES = 200  # an empty __init__.py teaches nothing
_LARGEST_TABLE = (60, 0.25)  # a file whose longest value has over 60 lines and a quarter of the file is a data table

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def read_standard_library(names: tuple[str, ...] = SOURCE_NAMES, folder: Path | None = None) -> list[Source]:
    """The named sources, in the order asked for; `folder` is the standard library (found by default).

    Raises ValueError when a name is unknown or when this installation ships without the files.
    """
    unknown = [name for name in names if name not in SOURCE_NAMES]
    if unknown:
        raise ValueError(f"unknown part {unknown[0]!r} of the Python corpus; the parts are {', '.join(SOURCE_NAMES)}")
    found = {"reference": _reference()} if "reference" in names else {}
    if {"docstrings", "source"} & set(names):
        found |= _read_modules(folder or Path(sysconfig.get_paths()["stdlib"]))
    return [Source(name, without_duplicates(found[name])) for name in names]


def _reference() -> list[bytes]:
    if importlib.util.find_spec("pydoc_data.topics") is None:
        raise ValueError(
            "this Python installation has no language reference (module pydoc_data.topics); "
            "use python:docstrings,source, or name a file, folder or URL"
        )
    from pydoc_data.topics import topics

    return _without_sections([topics[name].strip().encode() + b"\n" for name in sorted(topics)])


def _without_sections(topics: list[bytes]) -> list[bytes]:
    """The topics without those that a larger one holds: `help()` shows a chapter, and each of its sections again by itself.

    Held out, a section would be trained on in its chapter.
    """
    seen: set[bytes] = set()
    left_out = set()
    for topic in sorted(topics, key=len, reverse=True):
        paragraphs = [text for text in map(canonical, _BLANK_LINE.split(topic)) if len(text) >= 60]
        n_bytes, n_seen = (sum(map(len, texts)) for texts in (paragraphs, [text for text in paragraphs if text in seen]))
        if n_bytes and n_seen > 0.8 * n_bytes:
            left_out.add(topic)
        else:
            seen.update(paragraphs)
    return [topic for topic in topics if topic not in left_out]


def _read_modules(folder: Path) -> dict[str, list[bytes]]:
    docstrings, sources = [], []
    for name, text, tree in parsed_modules(folder):
        docstrings.append(docstrings_of(name, tree).encode())
        sources.append(without_docstrings(text, tree).encode())
    if not sources:
        raise ValueError(
            f"no Python source files in {folder}: this installation keeps its standard library elsewhere, or compiled "
            "only; name a file, folder or URL as the data instead"
        )
    return {"docstrings": [text for text in docstrings if text], "source": sources}


def parsed_modules(folder: Path) -> Iterator[tuple[str, str, ast.Module]]:
    """(module name, text, syntax tree) for each module worth reading under `folder`, in sorted order."""
    for path in _python_files(folder):
        try:
            text = path.read_text(encoding="utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escapes such as "\d" are not this reader's affair
                tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue  # not for this Python: lib2to3 kept files of Python 2
        if not is_data_table(tree, n_lines=text.count("\n")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), text, tree


def _python_files(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _SKIPPED_FOLDERS.fullmatch(name))
        for file in sorted(files):
            path = Path(here, file)
            wanted = file.endswith(".py") and not _SKIPPED_FILES.fullmatch(file)
            if wanted and path.is_file() and path.stat().st_size >= _SMALLEST_BYTES:
                yield path


def is_data_table(tree: ast.Module, *, n_lines: int) -> bool:
    """Whether one literal given a name fills so much of the module that it is data rather than code."""
    values = (node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value)
    longest = max(map(_n_lines, values), default=0)
    return longest > _LARGEST_TABLE[0] and longest > _LARGEST_TABLE[1] * n_lines


def _n_lines(node: ast.expr) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def docstrings_of(module_name: str, tree: ast.Module) -> str:
    """All docstrings of a module as one text, each under its full name and signature; "" if there are none."""
    parts = [
        f"{heading}\n{_indented(text)}\n" for heading, node in _documented(module_name, tree) if (text := ast.get_docstring(node))
    ]
    return "\n".join(parts)


def _documented(name: str, node: _Documented) -> Iterator[tuple[str, _Documented]]:
    """The module, its classes and functions, and their methods, in the order of the file, each with its heading."""
    kind = {ast.Module: "module ", ast.ClassDef: "class "}.get(type(node), "")
    yield f"{kind}{name}{_signature(node)}", node
    for child in _definitions(node):
        yield from _documented(f"{name}.{child.name}", child)


def _definitions(node: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The classes and functions defined in `node`, also those under its `if`, `try` and `with`."""
    for field in ("body", "orelse", "handlers", "finalbody"):
        for child in getattr(node, field, ()):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield child
            else:
                yield from _definitions(child)


def _signature(node: _Documented) -> str:
    return f"({ast.unparse(node.args)})" if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def without_docstrings(text: str, tree: ast.Module) -> str:
    """The module's text with the lines of its docstrings cut out; a body that was only a docstring becomes `...`.

    A docstring that shares its line with other code stays, since cutting lines would cut that code too.
    """
    lines = [f"{line}\n" for line in text.split("\n")]  # not splitlines, which also cuts at form feeds; ast does not
    for _, node in _documented("", tree):
        if ast.get_docstring(node, clean=False) is not None:
            _cut_docstring(lines, node)
    return re.sub(r"\n{4,}", "\n\n\n", "".join(lines)).strip("\n") + "\n"


def _cut_docstring(lines: list[str], node: _Documented) -> None:
    first = node.body[0]
    start, end = first.lineno - 1, first.end_lineno or first.lineno
    # col_offset counts UTF-8 bytes; before a docstring that begins its line there is only white space
    before, after = lines[start][: first.col_offset], lines[end - 1].encode()[first.end_col_offset :].strip()
    if before.strip() or after:
        return
    alone = len(node.body) == 1 and not isinstance(node, ast.Module)
    lines[start] = f"{before}...\n" if alone else ""
    lines[start + 1 : end] = [""] * (end - start - 1)
