"""Options that several verbs share, and the words in which they are described."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group

WORDS = {  # the comments in TrainConfig say where pre-training's defaults are from
    "max_steps": "optimizer steps in the whole run",
    "batch_size": "rows in one micro-batch",
    "learning_rate": "peak, per step",
    "min_learning_rate": "at the end",
    "warmup_steps": "steps before the peak is reached",
    "weight_decay": "pull of matrices towards 0, times the learning rate",
    "eval_interval": "steps between evaluations on what is held out, 0 = never",
    "eval_batches": "held-out batches per evaluation, the same ones each time",
    "epsilon": "Adam's guard against division by zero",
    "seed": "starts every random stream of the run",
}


def groups_of(settings: Any, *, words: Mapping[str, str] | None = None, without: tuple[str, ...] = ()) -> list[Group]:
    """A group of options for each field of a recipe's settings. words, without: of the training settings."""
    from tinyllm.cli.settings import Group

    own = {"training": ({**WORDS, **(words or {})}, without)}
    found = []
    for name, default in vars(settings).items():
        told, left_out = own.get(name, ({}, ()))
        found.append(Group(name, default, words=told, without=left_out))
    return found


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """MODEL, --out and --resume."""
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="folder of the model to begin with, or of its run")
    add("--out", required=True, metavar="FOLDER", help="folder of this run, such as runs/mine")
    add("--resume", action="store_true", help="go on with the run in --out: nothing else need be given; --max-steps extends it")


def add_settings(parser: Any, groups: Any) -> None:
    """The options of `groups()`, when --help or a run asks for them: until then nothing heavy is imported."""

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, groups())

    parser.later(fill)


def farewell(out: Path) -> None:
    """Where everything is, and what to do with it."""
    print(f"\nThe model is in {out / 'model'}, the report is {out / 'report.html'}")
    print(f"Talk with it:  tinyllm chat {shlex.quote(str(out))}")
