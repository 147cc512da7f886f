"""argparse with five changes: it is fast, its errors are one line with the nearest option in it, its help is tidy, files may
stand before and after options, and other projects' names of an option are understood (`aliases.py`).

An option made from a settings dataclass needs that dataclass's module, and with it NumPy. So a verb hands over a function
with `later`, which is called when the verb's own options are wanted: by its --help, or by a command line that uses it.
`tinyllm --help` therefore loads nothing but argparse.
"""

import argparse
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tinyllm.cli.aliases import advice, aliases_of, translate
from tinyllm.storage.explain import nearest

ALSO = "Names of nanoGPT and Hugging Face are understood too, with - or _:"  # at the end of a verb's help
WIDEST = 110  # columns; longer lines are tiring to read


def lesson(docstring: str | None) -> str:
    """The description of a verb from its file's docstring "`tinyllm verb`: what it does ...", without that beginning."""
    text = (docstring or "").strip()
    start = text.partition("`: ")[2] if text.startswith("`tinyllm") else text
    return start[:1].upper() + start[1:]


PLACES = ("FOLDER", "DIR", "FILE", "MODEL", "ITEMS", "LABELS", "PAIRS", "PROMPTS")  # what names of files and folders are called


class UsageError(ValueError):
    """A command line that cannot be understood."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Verbs as a plain list; options, their help and the examples within the terminal's width."""

    def __init__(self, prog: str):
        columns = min(shutil.get_terminal_size().columns, WIDEST)
        super().__init__(prog, max_help_position=30, width=max(columns - 2, 40))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs are filled to the width; one with indented lines, such as examples, keeps its lines."""
        paragraphs = text.strip().split("\n\n")
        filled = [
            part if "\n " in part else textwrap.fill(" ".join(part.split()), width, break_on_hyphens=False) for part in paragraphs
        ]
        return textwrap.indent("\n\n".join(filled), indent)

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, argparse._SubParsersAction):  # without the line "<verb>" above the list
            return self._join_parts([self._format_action(verb) for verb in action._get_subactions()])
        return super()._format_action(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser for `tinyllm` and, since argparse makes sub-parsers of the same class, for each verb."""

    def __init__(self, **settings: Any):
        settings.setdefault("formatter_class", HelpFormatter)
        settings.setdefault("allow_abbrev", False)  # what a shortened option means must not change with the next release
        self._later: list[Callable[[], None]] = []
        self._sorting = False  # while words are sorted into options and positional arguments
        super().__init__(**settings)

    def later(self, fill: Callable[[], None]) -> None:
        """Call `fill`, which adds options to this parser, when they are needed."""
        self._later.append(fill)

    def _fill(self) -> None:
        waiting, self._later = self._later, []
        for fill in waiting:
            fill()
        self.usage = self.usage or self._short_usage().replace("%", "%%")
        if (names := aliases_of(self._option_string_actions)) and self.epilog and ALSO not in self.epilog:
            self.epilog += f"\n{ALSO} {' '.join(names)}"

    def _short_usage(self) -> str:
        """`tinyllm train --out FOLDER [options]`: what must be given; argparse would name every option there is."""
        words = [self.prog]
        for action in [*self._get_positional_actions(), *self._get_optional_actions()]:
            name = str(action.metavar or action.dest.upper())
            if action.option_strings:
                words += [f"{action.option_strings[0]} {name}"] if action.required else []
            else:
                words.append({"?": f"[{name}]", "+": f"{name} ...", "*": f"[{name} ...]"}.get(str(action.nargs), name))
        width = max(min(shutil.get_terminal_size().columns, WIDEST) - 2, 40)
        begin, below = " " * len("usage: "), " " * (len("usage: ") + 2)
        text = textwrap.fill(" ".join([*words, "[options]"]), width, initial_indent=begin, subsequent_indent=below)
        return text.strip()

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As in argparse, after filling; an option that nobody knows is refused here, where the known ones are known."""
        if self._sorting:
            return super().parse_known_args(args, namespace)
        self._fill()
        words = translate(sys.argv[1:] if args is None else args, self._option_string_actions)
        if any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            namespace, extra = super().parse_known_args(words, namespace)
        else:
            self._sorting = True
            try:  # `finetune MODEL --out X FILE`: plain argparse would close the list of files at the first option
                namespace, extra = self.parse_known_intermixed_args(words, namespace)
            finally:
                self._sorting = False
        if extra:
            raise UsageError(self._unknown(extra[0]))
        self._refuse_empty_names(namespace)
        return namespace, extra

    def _refuse_empty_names(self, namespace: argparse.Namespace) -> None:
        """An empty name of a file or folder is an unset variable of the shell, and not the folder one stands in."""
        for action in self._actions:
            if action.metavar in PLACES or action.dest.endswith("_flag"):
                given = getattr(namespace, action.dest, None)
                if "" in (given if isinstance(given, list) else [given]):
                    name = action.option_strings[0] if action.option_strings else str(action.metavar)
                    raise UsageError(f"{name} is empty; give a name, or '.' for the folder you are in")

    def format_help(self) -> str:
        """The whole help text."""
        self._fill()
        return super().format_help()

    def format_usage(self) -> str:
        """The usage line."""
        self._fill()
        return super().format_usage()

    def _unknown(self, word: str) -> str:
        option = word.split("=", 1)[0]
        if hint := advice(option):
            return f"unknown option {option}; {hint}"
        if not option.startswith("-"):
            return f"{word!r} is not expected here; {self._see_help()}"
        near = nearest(option, self._option_string_actions)
        return f"unknown option {option}; " + (f"did you mean {near}?" if near else self._see_help())

    def _see_help(self) -> str:
        return f"see {self.prog} --help"

    def error(self, message: str) -> NoReturn:
        """argparse's own faults (a missing argument, a wrong choice) as a UsageError with where to look."""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            known = [name.strip(" '") for name in choice[2].split(",")]
            near = nearest(choice[1], known)
            hint = f"did you mean {near}?" if near else f"expected one of {', '.join(known)}"
            place = message[: choice.start()].removeprefix("argument ").rstrip(": ")
            raise UsageError(f"unknown {place.strip('<>')} {choice[1]!r}; {hint}")
        raise UsageError(f"{message} ({self._see_help()})")
