"""`tinyllm quickstart`: from raw text to an assistant shaped by feedback, in one go, in less than ten minutes.

Reads the documentation and the source code that come with every Python, learns a tokenizer from them, pre-trains a small GPT,
teaches it to answer, has its answers rated by a simulated labeler, learns the labeler's taste, and improves the model against
it by PPO. Each stage says what it does and why, so that the command is itself the first lesson. It needs no internet.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.cli.parser import lesson
from tinyllm.cli.progress import Progress, format_seconds

EPILOG = """examples:
  tinyllm quickstart                                  the whole journey
  tinyllm quickstart --minutes 2                      less training
  tinyllm quickstart --out runs/quickstart --resume   go on after a stop
"""
DATA = ("docs=python:reference:1", "docstrings=python:docstrings:3", "code=python:source:1")
SHAPE: dict[str, Any] = {"block_size": 128, "n_layers": 4, "n_heads": 4, "d_model": 128, "bias": False, "init_std": 0.05}
VOCAB_SIZE = 2048
TRAINING: dict[str, Any] = {
    "batch_size": 16,
    "learning_rate": 2e-3,
    "min_learning_rate": 1e-4,
    "warmup_steps": 50,
    "eval_batches": 8,
}
SHARES = {"base": 0.35, "tuned": 0.55, "improved": 0.1}  # of the minutes of training
STEPS_PER_ROLLOUT = 4  # 64 answers, twice, 32 a step
COST_OF_ROLLOUT = 8  # in training steps: sampling, three models' scores, and the updates
N_DEMONSTRATIONS, N_STORIES, N_TEST = 100_000, 1500, 300
PROMPT = "The return value"
WIDTH = 96
SECONDS_OF_TIMING = 6.0


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser(
        "quickstart", help="the whole journey, in less than ten minutes", description=lesson(__doc__), epilog=EPILOG
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder of the journey (default: runs/quickstart, or the next free name)")
    parser.add_argument("--minutes", type=float, default=6.0, help="how long to train, about, all stages together (default: 6)")
    parser.add_argument("--steps", type=int, help="train each stage for exactly so many steps instead")
    parser.add_argument("--seed", type=int, default=1337, help="starts every random stream (default: 1337)")
    parser.add_argument("--resume", action="store_true", help="go on with the journey in --out")


@dataclass(frozen=True)
class Plan:
    """How much of everything; written down at the start, so that a journey that was stopped goes on as planned."""

    base_steps: int
    tuned_steps: int
    improved_steps: int
    n_demonstrations: int
    n_stories: int
    n_test: int
    seed: int


def run(args: argparse.Namespace) -> int:
    """All stages, each with its sentence of explanation."""
    from tinyllm.cli.journey import Journey
    from tinyllm.cli.warmup import ensure_compiled

    _check(args)
    out = _out_folder(args)
    start = time.monotonic()
    tell(
        1,
        "The kernels",
        "Python is too slow for the inner loops of a neural network, so they are compiled to machine code, "
        "once: matrix products, attention, softmax and a few more.",
    )
    ensure_compiled()
    journey = Journey(out, plan=_plan(out, args))
    journey.pretrain()
    journey.tune()
    journey.label()
    journey.learn_reward()
    journey.improve()
    journey.compare()
    tell(12, "Your turn", f"All that took {format_seconds(time.monotonic() - start)}.")
    print("  It knows a few dozen phrasings and no more. Ask it, for instance:")
    print("\n".join(f"    {question}" for question in journey.questions), end="\n\n")
    print(
        f"  report          {out / 'report.html'}   (open it in a browser)\n"
        f"  look inside     tinyllm info {out}\n"
        f"  rate answers    tinyllm label serve {out / 'labels' / 'items.jsonl'} --out my-labels.jsonl\n"
        f"  your own data   tinyllm finetune {out / 'base'} --data chats.jsonl --out runs/mine\n"
        f"  talk with it    tinyllm chat {out}"
    )
    return 0


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


def _plan(out: Path, args: argparse.Namespace) -> Plan:
    """The plan in the folder, or a new one, written there."""
    from tinyllm.storage import strict_json, write_file

    file = out / "plan.json"
    if args.resume:
        return Plan(**strict_json.read(file, schema={one.name: int for one in dataclasses.fields(Plan)}))
    plan = make_plan(args)
    out.mkdir(parents=True, exist_ok=True)
    write_file(file, strict_json.dump(dataclasses.asdict(plan), indent=1))
    return plan


def make_plan(args: argparse.Namespace) -> Plan:
    """Steps for each stage, from the minutes and from how fast a step is here; less data where there are few steps."""
    from tinyllm.models import GPTConfig

    if args.steps:
        steps = {"base": args.steps, "tuned": args.steps, "improved": args.steps}
        part = min(1.0, args.steps / 1000)
    else:
        seconds = seconds_per_step(GPTConfig(vocab_size=VOCAB_SIZE, **SHAPE))
        steps = {name: max(100, int(60 * args.minutes * share / seconds)) for name, share in SHARES.items()}
        steps["improved"] = max(4, steps["improved"] // COST_OF_ROLLOUT * STEPS_PER_ROLLOUT)
        part = min(1.0, args.minutes / 3)
    amounts = {name: max(least, int(part * most)) for name, least, most in (
        ("n_demonstrations", 200, N_DEMONSTRATIONS), ("n_stories", 20, N_STORIES), ("n_test", 20, N_TEST))}  # fmt: skip
    return Plan(steps["base"], steps["tuned"], steps["improved"], seed=args.seed, **amounts)


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


def seconds_per_step(config: Any) -> float:
    """How long a training step takes here: for some seconds a model is trained that is then thrown away."""
    import statistics

    import numpy as np

    from tinyllm.data import Batch
    from tinyllm.models import GPT
    from tinyllm.pretraining import next_token_loss
    from tinyllm.training import TrainConfig
    from tinyllm.training.loop import make_optimizer
    from tinyllm.training.step import add_gradients, update_weights

    rng = np.random.default_rng(0)
    model = GPT(config, rng=rng)
    optimizer = make_optimizer(model, TrainConfig())
    ids = rng.integers(0, config.vocab_size, (TRAINING["batch_size"], config.block_size + 1))
    batch = Batch(ids[:, :-1], ids[:, 1:])
    times: list[float] = []
    while len(times) < 8 or sum(times) < SECONDS_OF_TIMING:
        begin = time.perf_counter()
        add_gradients(model, batch, loss_fn=next_token_loss, n_counted=batch.n_counted)
        update_weights(optimizer, learning_rate=1e-3, grad_clip=1.0)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[len(times) // 2 :])  # the first ones are slower: caches, fresh memory
