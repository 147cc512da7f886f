"""`tinyllm info`: how large a model is, what memory it takes, and how much arithmetic.

Three numbers decide what one can do with a model: its parameters (what it can hold), bytes (whether it fits) and
floating point operations per token (how long one waits). Give the folder of a model, or a shape as flags to see what
it would be before training it.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from tinyllm.cli.architectures import add_kind
from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group
    from tinyllm.models import Model

EPILOG = """examples:
  tinyllm info                                             GPT-2 small
  tinyllm info runs/mine                                   a model of yours
  tinyllm info --model llama                               Llama 7B
  tinyllm info --n-layers 48 --n-heads 25 --d-model 1600   GPT-2 XL
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "info", help="a model's parameters, memory and arithmetic", description=lesson(__doc__), epilog=EPILOG
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="folder of a model or a run (default: the shape below)")
    parser.add_argument("--batch-size", type=int, default=12, metavar="N", help="rows in a training batch (default: 12)")
    add_kind(parser, _group)


def _group(kind: str) -> Group:
    from tinyllm.cli.settings import Group
    from tinyllm.models import ARCHITECTURES

    return Group("model", ARCHITECTURES[kind].Config())


def run(args: argparse.Namespace) -> int:
    """Print the three tables."""
    from tinyllm.report.model_size import flops_rows, memory_rows, parameter_rows, table

    if args.batch_size < 1:
        raise ValueError(f"--batch-size is {args.batch_size}; expected at least 1")
    title, model = shape_of(args, _group(args.kind))
    settings = dataclasses.asdict(model.config).items()
    print(title)
    print("  " + "  ".join(f"{name} {_plain(value)}" for name, value in settings))
    for heading, rows in (
        ("Parameters", parameter_rows(model)),
        ("Memory, in float32", memory_rows(model, batch_size=args.batch_size)),
        ("Floating point operations", flops_rows(model, batch_size=args.batch_size)),
    ):
        print(f"\n{heading}")
        print(table(list(rows)))
    return 0


def shape_of(args: argparse.Namespace, group: Group) -> tuple[str, Model]:
    """What is looked at, in words, and a model like it: that of the folder args.model, or of the shape by `group`'s flags."""
    from tinyllm.cli.settings import read_groups, values_of
    from tinyllm.models import make_model
    from tinyllm.recipes.sizes import refuse_others

    if args.model is None:
        refuse_others(args.kind, vars(args))
        model = make_model(read_groups([group], args)[group.name], rng=None)
        return f"A {type(model).__name__} of this shape", model
    if given := values_of([group], args)[group.name]:
        flag = group.flag(next(iter(given)))
        raise ValueError(f"{flag} and a model folder came; a trained model has its own shape: leave one of them out")
    from tinyllm.recipes.loading import describe

    return describe(args.model)


def _plain(value: Any) -> str:
    if isinstance(value, dict):  # settings inside settings
        return " ".join(f"{name}={_plain(inner)}" for name, inner in value.items() if inner is not None)
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
