"""`tinyllm bench`: how long a training step takes here, how near that is to what the machine can do, and where the time goes.

Without --profile it times whole training steps (forward, backward, AdamW) of the shape you give: nanoGPT's CPU recipe
unless told otherwise. GFLOP/s counts the arithmetic of the model's formula, not what was really computed; the peak is
measured just before, with multiply-adds in registers. With --profile it also shows each op's share, what Python costs, and
writes a page with a picture of one step.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.architectures import add_kind
from tinyllm.cli.parser import lesson

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group
    from tinyllm.models import ModelConfig

EPILOG = """examples:
  tinyllm bench                                nanoGPT's CPU recipe
  tinyllm bench --profile                      and where the time goes
  tinyllm bench --n-layers 6 --d-model 384 --n-heads 6 --batch-size 4
  tinyllm bench runs/mine --steps 5            the shape of a model of yours
"""
PAGE = "profile.html"


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "bench", help="how fast a training step is, and where its time goes", description=lesson(__doc__), epilog=EPILOG
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="take the shape of this model or run")
    parser.add_argument("--batch-size", type=int, default=12, metavar="N", help="rows in a batch (default: 12)")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="steps that are timed (default: 50)")
    parser.add_argument(
        "--profile", nargs="?", const=PAGE, metavar="FILE", help=f"show where the time goes; the page is FILE ({PAGE})"
    )
    add_kind(parser, _group)


def _group(kind: str) -> Group:
    from tinyllm.cli.settings import Group
    from tinyllm.recipes import sizes

    shape = sizes.SHAPES[kind][sizes.DEFAULT]
    return Group("model", dataclasses.replace(shape, vocab_size=65, block_size=64))  # nanoGPT's recipe for a CPU


def run(args: argparse.Namespace) -> int:
    """Time the step, and profile it if that is asked for."""
    from tinyllm.cli.info import shape_of
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.compile_ahead import ensure_compiled
    from tinyllm.report.profile import time_steps
    from tinyllm.report.speed import speed_table, training_step
    from tinyllm.training import check_memory

    for name in ("batch_size", "steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; expected at least 1")
    title, model = shape_of(args, _group(args.kind))
    config = model.config
    check_memory(model, batch_size=args.batch_size)
    ensure_compiled(Terminal())
    shape = f"{config.n_layers} layers, width {config.d_model}, {config.n_heads} heads"
    n_weights, window = model.num_parameters(), f"{args.batch_size} x {config.block_size}"
    print(f"{title}: {shape}, {n_weights:,} parameters; batches of {window} tokens", flush=True)
    step = training_step(config, batch_size=args.batch_size)
    if args.profile is None:
        print(speed_table(time_steps(step, n_steps=args.steps), config, batch_size=args.batch_size))
        return 0
    _profile(args, step, config)
    return 0


def _profile(args: argparse.Namespace, step: Callable[[], None], config: ModelConfig) -> None:
    """The profile as tables here, as a picture in the page."""
    from tinyllm.report.flame import profile_page
    from tinyllm.report.profile import profile
    from tinyllm.report.speed import op_table, parts_table, shrunk, speed_table, training_step
    from tinyllm.storage import write_file

    found = profile(step, shrunk_step=training_step(shrunk(config), batch_size=1), n_steps=args.steps)
    print(speed_table(found.plain_ms, config, batch_size=args.batch_size))
    print(f"\n{parts_table(found)}\n\n{op_table(found)}", flush=True)
    path = Path(args.profile).expanduser()
    write_file(path, profile_page(found, title=_title(config, args.batch_size)).encode())
    print(f"\nThe picture of a step is {path}")


def _title(config: ModelConfig, batch_size: int) -> str:
    return f"{config.n_layers} layers, width {config.d_model}, {batch_size} x {config.block_size} tokens"
