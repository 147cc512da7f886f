"""`tinyllm quickstart`: from raw text to an assistant shaped by feedback, in one go, in less than ten minutes.

Reads the documentation and the source code that come with every Python, learns a tokenizer from them, pre-trains a small GPT,
teaches it to answer, has its answers rated by a simulated labeler, learns the labeler's taste, and improves the model against
it by PPO. Each stage says what it does and why, so that the command is itself the first lesson. It needs no internet.
"""

from __future__ import annotations

import argparse
import math
import os
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.parser import lesson
from tinyllm.cli.progress import Progress, format_seconds
from tinyllm.recipes.plan import MINUTES, Plan, read_plan

if TYPE_CHECKING:
    from tinyllm.recipes.journey import Journey

EPILOG = """examples:
  tinyllm quickstart                                  the whole journey
  tinyllm quickstart --minutes 2                      less training
  tinyllm quickstart --out runs/quickstart --resume   go on after a stop
"""
WIDTH = 96
SECONDS_OF_TIMING = 2.0  # of what is only said


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "quickstart", help="the whole journey, in less than ten minutes", description=lesson(__doc__), epilog=EPILOG
    )
    add = parser.add_argument
    add("--out", metavar="FOLDER", help="folder of the journey (default: runs/quickstart, or the next free name)")
    words = f"train as much as two cores do in about so many minutes; the steps follow, no clock is read (default: {MINUTES:g})"
    add("--minutes", type=float, default=MINUTES, metavar="M", help=words)
    add("--steps", type=int, metavar="N", help="train each stage for exactly so many steps instead")
    add("--seed", type=int, default=1337, help="starts every random stream (default: 1337)")
    add("--resume", action="store_true", help="go on with the journey in --out")


def run(args: argparse.Namespace, plan: Plan | None = None) -> int:
    """All stages, each with its sentence of explanation. `plan`: another one than the default, in small for a test."""
    from tinyllm.cli.warmup import ensure_compiled
    from tinyllm.recipes.journey import Journey

    _check(args)
    out = _out_folder(args)
    plan = _plan(out, args, plan or Plan())
    start = time.monotonic()
    tell(
        1,
        "The kernels",
        "Python is too slow for the inner loops of a neural network, so they are compiled to machine code, "
        "once: matrix products, attention, softmax and a few more.",
    )
    ensure_compiled()
    seconds = plan.cost() * seconds_per_step(plan)
    print(f"   The whole journey takes about {format_seconds(seconds)} on this machine, if nothing else runs on it.")
    journey = Journey(out, plan=plan)
    journey.pretrain()
    journey.tune()
    journey.label()
    journey.learn_reward()
    journey.improve()
    journey.compare()
    _your_turn(out, journey, seconds=time.monotonic() - start)
    return 0


def _your_turn(out: Path, journey: Journey, *, seconds: float) -> None:
    """What one can do now, and above all what to ask: only kinds of questions that it has just been seen to answer."""
    tell(12, "Your turn", f"All that took {format_seconds(seconds)}.")
    if journey.questions:
        print("  It knows a few kinds of questions, and says so of all others. Ask it, for instance:")
        print("\n".join(f"    {question}" for question in journey.questions), end="\n\n")
    else:
        print("  In so few steps it has learned no kind of question well enough to be suggested here.\n")
    print(
        f"  report          {out / 'report.html'}   (open it in a browser)\n"
        f"  look inside     tinyllm info {out}\n"
        f"  rate answers    tinyllm label serve {out / 'labels' / 'items.jsonl'} --out my-labels.jsonl\n"
        f"  your own data   tinyllm finetune {out / 'base'} chats.jsonl --out runs/mine\n"
        f"  talk with it    tinyllm chat {out}"
    )


def _check(args: argparse.Namespace) -> None:
    """ValueError for a number that makes no sense, before minutes are spent on text and tokenizer."""
    if not 0 < args.minutes < math.inf:
        raise ValueError(f"--minutes is {args.minutes:g}; expected a number above 0")
    if args.steps is not None and args.steps < 1:
        raise ValueError(f"--steps is {args.steps}; expected at least 1")
    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}; expected 0 or more")
    if args.resume and not args.out:
        raise ValueError("--resume goes on with a journey: say which, with --out FOLDER")


def _out_folder(args: argparse.Namespace) -> Path:
    """The folder of the journey. ValueError if it cannot be written, is used (and not resumed), or holds no journey to resume."""
    from tinyllm.cli.out_folder import is_free, refuse_unwritable

    out = Path(os.path.expanduser(args.out)) if args.out else _free_folder(Path("runs/quickstart"))
    refuse_unwritable(out)
    if args.resume and not (out / "plan.json").exists():
        raise ValueError(f"out: {out} holds no journey to resume; leave --resume out to begin one")
    if not args.resume and not is_free(out):
        raise ValueError(f"out: {out} is not empty; add --resume to go on with a journey there, or choose another name")
    return out


def _free_folder(wanted: Path) -> Path:
    """`wanted`, or wanted-2, wanted-3 ...: the first that is not there yet."""
    number, folder = 1, wanted
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _plan(out: Path, args: argparse.Namespace, plan: Plan) -> Plan:
    """The plan in the folder, or a new one, written there."""
    from dataclasses import replace

    file = out / "plan.json"
    if args.resume:
        return read_plan(file)
    plan = plan.for_steps(args.steps) if args.steps else plan.for_minutes(args.minutes)
    plan = replace(plan, seed=args.seed)
    out.mkdir(parents=True, exist_ok=True)
    plan.save(file)
    return plan


def tell(number: int, title: str, why: str) -> None:
    """The heading of a stage, and why it is."""
    print(f"\n{number}. {title}\n{textwrap.indent(textwrap.fill(why, WIDTH - 3), '   ')}\n", flush=True)


def merging(progress: Progress) -> Callable[[str, int, int | None], None]:
    """The tokenizer trainer's progress(stage, done, total) on one `Progress`."""

    def show(stage: str, done: int, total: int | None) -> None:
        if stage == "merge":
            progress.total = total
            progress.show(done)

    return show


def seconds_per_step(plan: Plan) -> float:
    """How long a step of pre-training takes here: for a moment a model is trained that is then thrown away."""
    import statistics

    import numpy as np

    from tinyllm.data import Batch
    from tinyllm.models import GPT
    from tinyllm.pretraining import next_token_loss
    from tinyllm.training import TrainConfig
    from tinyllm.training.loop import make_optimizer
    from tinyllm.training.step import add_gradients, update_weights

    rng = np.random.default_rng(0)
    model = GPT(plan.model(plan.vocab_size), rng=rng)
    optimizer = make_optimizer(model, TrainConfig())
    ids = rng.integers(0, plan.vocab_size, (plan.base_batch, plan.block_size + 1))
    batch = Batch(ids[:, :-1], ids[:, 1:])
    times: list[float] = []
    while len(times) < 8 or sum(times) < SECONDS_OF_TIMING:
        begin = time.perf_counter()
        add_gradients(model, batch, loss_fn=next_token_loss, n_counted=batch.n_counted)
        update_weights(optimizer, learning_rate=1e-3, grad_clip=1.0)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[len(times) // 2 :])  # the first ones are slower: caches, fresh memory
