"""Tasks about a text in the question: what happened in a sentence, and what a signature or a name of Python says.

The sentences are about made-up people and places, so the answer stands in the question and nowhere else. The questions
about Python are made from the installed Python: its keywords, built-in names and modules, and the signatures and first
docstring lines of its own library, read with `ast` and never imported. Which names are in the test set is decided by
their hash (`made_up.py`), so a test question is about a function that no training question mentions.
"""

from __future__ import annotations

import ast
import builtins
import functools
import keyword
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyllm.data.exact_tasks import Fields, Phrasing, Task, phrased
from tinyllm.data.made_up import draw, name, pick, split_of

THINGS = ("lamp", "book", "clock", "table", "letter", "ring", "map", "key", "box", "ship", "bell", "cup", "rope", "chair")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SENTENCES = {
    "train": (
        "On {day} {who} bought a {what} in {where}.",
        "{who} found a {what} in {where} on {day}.",
        "In {where}, {who} sold a {what} last {day}.",
        "Last {day} a {what} was made by {who} in {where}.",
        "A {what} came to {where} on {day}, sent by {who}.",
        "{who} of {where} lost a {what} on {day}.",
        "It was {day} when {who} saw a {what} in {where}.",
    ),
    "test": ("On {day}, in {where}, {who} found a {what}.", "{who} sold a {what} in {where} last {day}."),
}
QUESTIONS = {
    "{who}": {
        "train": ("Who was it?", "Who is the person?", "Name the person.", "What is the name of the person?"),
        "test": ("Who is it about?", "Give the name of the person."),
    },
    "{what}": {
        "train": ("What thing was it?", "What is the thing?", "Name the thing.", "What is the name of the thing?"),
        "test": ("What thing is it about?", "Give the name of the thing."),
    },
    "{where}": {
        "train": ("Where was it?", "Where is the place?", "Name the place.", "What is the name of the place?"),
        "test": ("Where did it happen?", "Give the name of the place."),
    },
    "{day}": {
        "train": ("When was it?", "Which day was it?", "Name the day.", "What is the name of the day?"),
        "test": ("When did it happen?", "Give the name of the day."),
    },
}


def event(rng: np.random.Generator, split: str) -> Fields:
    """Who, what, where and when; the made-up names decide the side."""
    who, where = (draw(name, split=split, rng=rng) for _ in range(2))
    return {"who": who, "where": where, "what": str(pick(THINGS, rng)), "day": str(pick(DAYS, rng))}


def _event_phrasings(split: str) -> tuple[Phrasing, ...]:
    return tuple(
        Phrasing(f"{sentence} {question}", answer)
        for sentence in SENTENCES[split]
        for answer, questions in QUESTIONS.items()
        for question in questions[split]
    )


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


@dataclass(frozen=True)
class Function:
    """A documented function of the standard library."""

    module: str
    name: str
    arguments: tuple[str, ...]
    defaults: tuple[tuple[str, str], ...]  # (argument, default) as written

    @property
    def signature(self) -> str:
        """shutil.move(src, dst), as the documentation writes it."""
        given = dict(self.defaults)
        inside = ", ".join(f"{name}={given[name]}" if name in given else name for name in self.arguments)
        return f"{self.module}.{self.name}({inside})"


@functools.cache
def library_functions() -> tuple[Function, ...]:
    """Public functions of `MODULES` with one to four plain arguments; modules this Python lacks are left out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    found = [function for module in MODULES for function in _functions_in(folder / f"{module}.py")]
    return tuple(function for function in found if len(function.signature) <= LONGEST_SIGNATURE)


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
            if not special and 1 <= len(arguments) <= 4:
                late = arguments[len(arguments) - len(given.defaults) :]
                defaults = tuple(zip(late, map(ast.unparse, given.defaults), strict=True))
                yield Function(path.stem, node.name, arguments, defaults)


def signature(rng: np.random.Generator, split: str) -> Fields:
    """A function, and all that is asked of its signature."""
    sided = [function for function in library_functions() if split_of(f"{function.module}.{function.name}") == split]
    function = sided[int(rng.integers(len(sided)))]
    return {
        "signature": function.signature,
        "module": function.module,
        "function": function.name,
        "first": function.arguments[0],
        "last": function.arguments[-1],
        "count": str(len(function.arguments)),
    }


@functools.cache
def python_names() -> dict[str, tuple[str, ...]]:
    """What kind of thing a name of Python is: kind -> names."""
    public = [word for word in dir(builtins) if not word.startswith("_")]
    types = {word: getattr(builtins, word) for word in public if isinstance(getattr(builtins, word), type)}
    errors = [word for word, kind in types.items() if issubclass(kind, BaseException)]
    return {
        "an exception": tuple(errors),
        "a keyword": tuple(keyword.kwlist),
        "a module": tuple(sorted(word for word in sys.stdlib_module_names if not word.startswith("_"))),
        "a built-in function": tuple(sorted(set(public) - set(errors) - set(keyword.kwlist))),
    }


def kind(rng: np.random.Generator, split: str) -> Fields:
    """A name and what it is; the kinds are equally frequent."""
    answer, known = list(python_names().items())[int(rng.integers(4))]
    sided = [word for word in known if split_of(word) == split]
    return {"name": sided[int(rng.integers(len(sided)))], "answer": answer}


TASKS = (
    Task("extract", event, _event_phrasings("train"), _event_phrasings("test")),
    Task(
        "python signature",
        signature,
        (
            *phrased(
                "In {signature}, what is the first argument?", "Name the first argument of {signature}.",
                "Which argument of {signature} comes first?", answer="{first}",
            ),
            *phrased(
                "In {signature}, what is the module?", "Name the module of {signature}.", "Which module holds {signature}?",
                answer="{module}",
            ),
            *phrased(
                "In {signature}, what is the function?", "Name the function {signature}.",
                "Which function is called by {signature}?", answer="{function}",
            ),
            *phrased(
                "In {signature}, how many arguments are there?", "Count the arguments of {signature}.",
                "How many arguments does {signature} take?", answer="{count}",
            ),
        ),
        (
            *phrased("What is the first argument of {signature}?", answer="{first}"),
            *phrased("What is the module of {signature}?", answer="{module}"),
            *phrased("What is the name of the function {signature}?", answer="{function}"),
            *phrased("How many arguments has {signature}?", answer="{count}"),
        ),
    ),
    Task(
        "python names",
        kind,
        phrased(
            "What is {name} in Python?", "In Python, what is {name}?", "What kind of thing is {name} in Python?",
            "Is the Python name {name} an exception, a keyword, a module or a built-in function?", "Python: what is {name}?",
        ),
        phrased("What kind of thing is {name}, in Python?", "What is the Python name {name}?"),
    ),
)
