"""`tinyllm info`: how large a model is, what memory it takes, and how much arithmetic.

Three numbers decide what one can do with a model: its parameters (what it can hold), bytes (whether it fits) and
floating point operations per token (how long one waits). Give the folder of a model, or a shape as flags to see what
it would be before training it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group
    from tinyllm.models.gpt import GPTConfig

EPILOG = """examples:
  tinyllm info                                             GPT-2 small
  tinyllm info runs/mine                                   a model of yours
  tinyllm info --n-layers 48 --n-heads 25 --d-model 1600   GPT-2 XL
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "info", help="a model's parameters, memory and arithmetic", description=lesson(__doc__), epilog=EPILOG
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="folder of a model or a run (default: the shape below)")
    parser.add_argument("--batch-size", type=int, default=12, metavar="N", help="rows in a training batch (default: 12)")

    def fill() -> None:
        from tinyllm.cli.settings import add_options

        add_options(parser, [_group()])

    parser.later(fill)


def _group() -> Group:
    from tinyllm.cli.settings import Group
    from tinyllm.models.gpt import GPTConfig

    return Group("model", GPTConfig)


def run(args: argparse.Namespace) -> int:
    """Print the three tables."""
    if args.batch_size < 1:
        raise ValueError(f"--batch-size is {args.batch_size}; expected at least 1")
    title, config = shape_of(args, _group())
    settings = dataclasses.asdict(config).items()
    print(title)
    print("  " + "  ".join(f"{name} {_plain(value)}" for name, value in settings))
    for heading, rows in (
        ("Parameters", parameter_rows(config)),
        ("Memory, in float32", memory_rows(config, batch_size=args.batch_size)),
        ("Floating point operations", flops_rows(config, batch_size=args.batch_size)),
    ):
        print(f"\n{heading}")
        print(table(list(rows)))
    return 0


def shape_of(args: argparse.Namespace, group: Group) -> tuple[str, GPTConfig]:
    """What is looked at, in words, and its shape: that of the folder args.model, or that of `group`'s flags."""
    from tinyllm.cli.settings import read_groups, values_of

    if args.model is None:
        return "A GPT of this shape", read_groups([group], args)[group.name]
    if given := values_of([group], args)[group.name]:
        flag = group.flag(next(iter(given)))
        raise ValueError(f"{flag} and a model folder came; a trained model has its own shape: leave one of them out")
    from tinyllm.models import GPT, RewardModel, SequenceClassifier
    from tinyllm.models.gpt_layout import HEAD
    from tinyllm.models.pretrained import load
    from tinyllm.training import find_model

    folder = find_model(args.model)
    head = load(folder, model_type="gpt2")[1].get(HEAD)
    if head is None:
        return f"The GPT in {folder}", GPT.from_pretrained(folder).config
    if head.shape[0] == 1:
        return f"The reward model in {folder}: a GPT and a head of C more weights", RewardModel.from_pretrained(folder).config
    labels = f"a GPT and a head for {head.shape[0]} labels, of C weights each"
    return f"The classifier in {folder}: {labels}", SequenceClassifier.from_pretrained(folder).config


def _plain(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def parameter_rows(config: GPTConfig) -> Iterator[tuple[str, str, str]]:
    """(part, how its number comes about, number and share), and the total."""
    C, F, L, bias = config.d_model, config.d_feedforward, config.n_layers, config.bias
    plus = " + {}" if bias else ""
    parts = [
        ("token table, also the output", "V·C", config.vocab_size * C),
        ("positions", "block_size·C", config.block_size * C),
        ("attention: query, key, value", "L·(3C·C" + plus.format("3C") + ")", L * (3 * C * C + bias * 3 * C)),
        ("attention: output", "L·(C·C" + plus.format("C") + ")", L * (C * C + bias * C)),
        ("feed-forward: up", "L·(F·C" + plus.format("F") + ")", L * (F * C + bias * F)),
        ("feed-forward: down", "L·(C·F" + plus.format("C") + ")", L * (C * F + bias * C)),
        ("norms", "(2L + 1)·" + ("2C" if bias else "C"), (2 * L + 1) * C * (1 + bias)),
    ]
    total = sum(count for _, _, count in parts)
    for name, formula, count in parts:
        yield name, formula, f"{count:,}  {count / total:6.1%}"
    yield "in all", "", f"{total:,}  {1:6.1%}"


def memory_rows(config: GPTConfig, *, batch_size: int) -> Iterator[tuple[str, str, str]]:
    """(what for, of what it consists, size): weights, training, key/value cache."""
    from tinyllm.data.text.mixture import format_bytes
    from tinyllm.training import available_memory, estimate_memory

    need = estimate_memory(config, batch_size=batch_size)
    cache = 2 * config.n_layers * config.d_model * 4
    yield "weights", "4 bytes each", format_bytes(need.weights)
    yield "gradients and AdamW's moments", "3 x the weights, training only", format_bytes(need.gradients + need.moments)
    yield "activations", f"{batch_size} rows of {config.block_size} tokens, training only", format_bytes(need.activations)
    yield "training, in all", "with Python and the kernels", format_bytes(need.total)
    yield "key/value cache", "2·L·C numbers a token, generating only", f"{format_bytes(cache)} a token"
    yield "", f"a full context of {config.block_size} tokens", format_bytes(cache * config.block_size)
    free = available_memory()
    if free is not None:
        yield "available here", "", format_bytes(free)


def flops_rows(config: GPTConfig, *, batch_size: int) -> Iterator[tuple[str, str, str]]:
    """(what is done, formula, operations)."""
    forward = config.flops_per_token()
    tokens = batch_size * config.block_size
    yield "reading a token", "2·(L·(4·C² + 2·C·F) + V·C) + 4·L·C·S", _count(forward)
    yield "learning from a token", "3 x reading: backward makes two products of each", _count(3 * forward)
    yield "a training step", f"{batch_size} x {config.block_size} = {tokens:,} tokens", _count(3 * forward * tokens)
    yield "", "at 100 GFLOP/s, what two good cores may reach", f"{3 * forward * tokens / 1e11:,.2f} s"


def _count(n: float) -> str:
    """A large number as people say it: 12.3 G."""
    for unit in ("", " k", " M", " G", " T", " P"):
        if n < 999.5:
            return f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:,.0f} E"


def table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Three columns, the last one to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows)
