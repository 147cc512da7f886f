"""`--model gpt2|llama`, and the settings that only one of them has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

KINDS = ("gpt2", "llama")  # models.ARCHITECTURES, said here so that --help loads no model


def add_kind(parser: Any, group: Callable[[str], Group]) -> None:
    """--model, and the model settings of all kinds: `group(kind)` describes those of one. What they share is listed once."""
    words = "the architecture (default: gpt2); the settings of all are below"
    parser.add_argument("--model", dest="kind", choices=KINDS, default=KINDS[0], metavar="{" + ",".join(KINDS) + "}", help=words)

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        first = group(KINDS[0])
        add_options(parser, [first])
        for kind in KINDS[1:]:
            own = group(kind)
            title, known = f"{kind} settings, with --model {kind}", (*own.without, *first.settings)
            rest = dataclasses.replace(own, without=known, title=title)
            add_options(parser, [rest], config=False)

    parser.later(fill)
