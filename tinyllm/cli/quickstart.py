"""`tinyllm quickstart`: from raw text to an assistant shaped by feedback, in one go, in less than ten minutes.

Reads the documentation and the source code that come with every Python, learns a tokenizer from them, pre-trains a small GPT,
teaches it to answer, has its answers rated by a simulated labeler, learns the labeler's taste, and improves the model against
it by PPO. Each stage says what it does and why, so that the command is itself the first lesson. It needs no internet.
"""

import argparse
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyllm.cli.parser import lesson
from tinyllm.cli.progress import format_seconds
from tinyllm.cli.resuming import resumable
from tinyllm.recipes.plan import MINUTES, Plan

EPILOG = """examples:
  tinyllm quickstart                                  the whole journey
  tinyllm quickstart --minutes 2                      less training
  tinyllm quickstart --out runs/quickstart --resume   go on after a stop
"""


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
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.events import Chapter
    from tinyllm.recipes.journey import STAGES
    from tinyllm.recipes.quickstart import quickstart
    from tinyllm.storage.out_folder import free_folder

    _check(args)
    out = Path(os.path.expanduser(args.out)) if args.out else free_folder(Path("runs/quickstart"))
    start = time.monotonic()
    with Terminal() as show, resumable("quickstart", out, runs=STAGES):
        done = quickstart(out, _plan(args, plan or Plan()), resume=args.resume, show=show)
        show(Chapter(12, "Your turn", f"All that took {format_seconds(time.monotonic() - start)}."))
    _your_turn(out, done.questions)
    return 0


def _your_turn(out: Path, questions: Sequence[str]) -> None:
    """What one can do now, and above all what to ask: only kinds of questions that it has just been seen to answer."""
    if questions:
        print("  It knows a few kinds of questions, and says so of all others. Ask it, for instance:")
        print("\n".join(f"    {question}" for question in questions), end="\n\n")
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


def _plan(args: argparse.Namespace, plan: Plan) -> Plan:
    """The plan for so many minutes, or steps."""
    plan = plan.for_steps(args.steps) if args.steps else plan.for_minutes(args.minutes)
    return replace(plan, seed=args.seed)
