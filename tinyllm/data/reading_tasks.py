"""Tasks about a text in the question: what happened in a sentence, and what a signature or a name of Python says.

The sentences are about people who do not exist, so the answer stands in the question and nowhere else. The questions about
Python are made from the installed Python: its built-in names and exceptions, and the signatures of its own library, read
with `ast` and never imported. Which names are in the test set is decided by their hash (`made_up.py`), so a test
question is about a function that no training question mentions.
"""

from __future__ import annotations

import ast
import builtins
import functools
import sysconfig
import types
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyllm.data.exact_tasks import Fields, Phrasing, Task, crossed, joined
from tinyllm.data.made_up import TOWNS, draw, person, pick, split_of

THINGS = "lamp book clock table letter ring map key box ship bell cup rope chair".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
SENTENCES = (
    "On {day} {who} bought a {what} in {where}.",
    "{who} found a {what} in {where} on {day}.",
    "In {where}, {who} sold a {what} on {day}.",
    "On {day}, in {where}, {who} made a {what}.",
)
QUESTIONS = {
    "{who}": (" Who was it?", " Name the person.", " Who is the person?", " Person?"),
    "{what}": (" What was it?", " Name the thing.", " What is the thing?", " Thing?"),
    "{where}": (" Where was it?", " Name the town.", " Where is the town?", " Town?"),
    "{day}": (" When was it?", " Name the day.", " When is the day?", " Day?"),
}


def event(rng: np.random.Generator, split: str) -> Fields:
    """Who, what, where and when; the person decides the side."""
    who = draw(person, split=split, rng=rng)
    return {"who": who, "where": pick(TOWNS, rng), "what": pick(THINGS, rng), "day": pick(DAYS, rng)}


# ---- Python

MODULES = (
    "argparse ast base64 bdb bisect calendar cgi cmd code codecs colorsys configparser contextlib copy csv dis difflib "
    "doctest enum filecmp fileinput fnmatch fractions functools genericpath getopt getpass gettext glob gzip hashlib heapq "
    "imaplib inspect io ipaddress json keyword linecache locale mailbox mimetypes netrc ntpath numbers opcode operator os "
    "pathlib pdb pickle pkgutil platform plistlib posixpath pprint profile py_compile pyclbr pydoc quopri random re sched "
    "secrets selectors shelve shlex shutil signal site smtplib socket ssl stat statistics string stringprep struct "
    "subprocess tabnanny tarfile tempfile textwrap threading timeit token tokenize trace traceback types typing uuid "
    "warnings wave weakref webbrowser xdrlib zipapp zipfile"
).split()
LONGEST_SIGNATURE = 44  # characters; a question has to be short
N_ARGUMENT_NAMES = 50  # the commonest: path, file, string ...


@dataclass(frozen=True)
class Function:
    """A documented function of the standard library."""

    module: str
    name: str
    arguments: tuple[str, ...]

    @property
    def signature(self) -> str:
        """shutil.move(src, dst), without defaults."""
        return f"{self.module}.{self.name}({', '.join(self.arguments)})"


@functools.cache
def library_functions() -> tuple[Function, ...]:
    """Public functions of `MODULES` with one to three plain arguments of common names; absent modules are left out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    found = [function for module in MODULES for function in _functions_in(folder / f"{module}.py")]
    counts = Counter(argument for function in found for argument in function.arguments)
    common = {argument for argument, _ in counts.most_common(N_ARGUMENT_NAMES)}
    return tuple(function for function in found if common.issuperset(function.arguments))


def _functions_in(path: Path) -> Iterator[Function]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            given = node.args
            arguments = tuple(argument.arg for argument in given.args)
            special = given.posonlyargs or given.kwonlyargs or given.vararg or given.kwarg
            function = Function(path.stem, node.name, arguments)
            if not special and 1 <= len(arguments) <= 3 and len(function.signature) <= LONGEST_SIGNATURE:
                yield function


def signature(rng: np.random.Generator, split: str) -> Fields:
    """A function, and what is asked of its signature."""
    sided = [function for function in library_functions() if split_of(f"{function.module}.{function.name}") == split]
    function = pick(sided, rng)
    arguments = function.arguments
    return {"signature": function.signature, "first": arguments[0], "last": arguments[-1], "count": str(len(arguments))}


@functools.cache
def python_names() -> dict[str, tuple[str, ...]]:
    """What kind of thing a built-in name of Python is: kind -> names."""
    public = [word for word in dir(builtins) if not word.startswith("_")]
    classes = {word: getattr(builtins, word) for word in public if isinstance(getattr(builtins, word), type)}
    special = {word for kind in (int, str, list, dict, set) for word in dir(kind) if word.startswith("__")}
    return {
        "an exception": tuple(word for word, kind in classes.items() if issubclass(kind, BaseException)),
        "a function": tuple(word for word in public if isinstance(getattr(builtins, word), types.BuiltinFunctionType)),
        "a special name": tuple(sorted(special)),
    }


def kind(rng: np.random.Generator, split: str) -> Fields:
    """A name and what it is; the kinds are equally frequent."""
    answer, known = pick(list(python_names().items()), rng)
    return {"name": pick([word for word in known if split_of(word) == split], rng), "answer": answer}


def _asked(start: str, field: str) -> dict[str, tuple[Phrasing, ...]]:
    """What is asked of a signature."""
    starts = [start, f"Name the {start}", f"Say the {start}", f"What is the {start}"]
    return crossed(starts, [" of {signature}?", " in {signature}.", ": {signature}", " for {signature}?"], answer=field)


TASKS = (
    Task("extract", event, **joined(*(crossed(SENTENCES, asked, answer=answer) for answer, asked in QUESTIONS.items()))),
    Task(
        "python signature",
        signature,
        **joined(_asked("first argument", "{first}"), _asked("last argument", "{last}"),
                 _asked("number of arguments", "{count}")),
    ),
    Task(
        "python names",
        kind,
        **crossed(("What is", "Tell me what is", "Say what is", "Python: what is"),
                  (" {name}?", " {name} in Python?", " the name {name}?", " this: {name}")),
    ),
)  # fmt: skip
