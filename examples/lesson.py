"""What every example has around its lesson: flags, a word before the compiler makes anybody wait, a figure, things to try.

An example is a function main(steps=..., seed=..., ...) whose defaults are the class mode: at most a minute on two cores. `run`
makes a flag of each of its parameters, adds --full (the settings that took today's full figures) and --figure, calls it,
and ends with three commands to try and what came of them when they were run.
"""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def save_figure(svg: str, path: str | None) -> None:
    """Writes the figure and says where; nothing without a path."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(svg, encoding="utf-8")
        print(f"\nthe figure is {path}: open it in a browser")


def run(
    main: Callable[..., Any],
    *,
    file: str,
    doc: str | None,
    flags: Mapping[str, str],
    full: Mapping[str, Any],
    full_time: str,
    tries: Sequence[tuple[str, str]],
) -> None:
    """Read the command line, call `main`, name what to try.

    flags      parameter of main -> what it is
    full       parameter of main -> its value with --full; `full_time` says how long that takes
    tries      (flags to add, what happens then)
    """
    here = f"python examples/{Path(file).name}"
    given = vars(parser(main, here=here, figure=f"runs/figures/{Path(file).stem}.svg", doc=doc, flags=flags, full=full,
                        full_time=full_time).parse_args())  # fmt: skip
    settings = {**(full if given.pop("full") else {}), **given}
    compile_first()
    main(**settings)
    print("\nThree things to try, and what came of them here:")
    for added, outcome in tries:
        print(f"\n  {here} {added}\n" + textwrap.indent(textwrap.fill(outcome, 100), "      "))


def parser(
    main: Callable[..., Any], *, here: str, figure: str, doc: str | None, flags: Mapping[str, str], full: Mapping[str, Any],
    full_time: str,
) -> argparse.ArgumentParser:  # fmt: skip
    """A flag for each parameter of `main`; one that is not given is not among the parsed."""
    made = argparse.ArgumentParser(prog=here, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
                                   allow_abbrev=False, argument_default=argparse.SUPPRESS)  # fmt: skip
    told = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in full.items())
    made.add_argument("--full", action="store_true", default=False, help=f"the full figures, {full_time}: {told}")
    for name, parameter in inspect.signature(main).parameters.items():
        flag, default = "--" + name.replace("_", "-"), parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:  # settings passed on, for who calls it from Python
            continue
        if name == "figure":
            made.add_argument(flag, metavar="FILE", default=figure, help=f"where the figure is written (default: {figure})")
        elif isinstance(default, bool):
            made.add_argument(flag, action="store_true", help=flags[name])
        else:
            others = f"; with --full {full[name]}" if name in full else ""
            shown = f" (default: {default}{others})" if default is not None else ""
            kind = type(default) if default is not None else str
            made.add_argument(flag, type=kind, metavar="N" if kind in (int, float) else "WORD", help=flags[name] + shown)
    return made


def compile_first() -> None:
    """Machine code is made once on each machine; that is said, with its progress, before anything waits for it."""
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.compile_ahead import ensure_compiled

    with Terminal() as show:
        ensure_compiled(show)
