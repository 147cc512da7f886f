"""Did a change make it slower? Two checkouts of this project, in turn: a training step, generating, a rollout, PPO.

    git worktree add /tmp/before HEAD~1
    python benchmarks/before_after.py /tmp/before

Each side runs the scripts of its own checkout as workers (see `side_by_side.py`), with the same weights, prompts and seeds,
and must compute the same: losses and log-probabilities to 1e-3, the same likeliest tokens. Then they take turns. A ratio
above 1 means that this checkout is faster than the one before; below 0.97 is more than the noise of a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from benchmarks import generate, ppo_iteration, rollout, train_step
from benchmarks.side_by_side import ROOT, Worker, available_cores, table, take_turns, undisturbed, with_quartiles

TOLERANCE = 1e-3
LEAST = 0.97  # of the speed before
Workers = Mapping[str, Worker]
Turn = Callable[[Worker], float]


def training_step(workers: Workers, folder: str, *, case: str) -> Turn:
    """Milliseconds a step, the same batches for both."""
    losses = {side: worker.ask("steps", count=3)["losses"] for side, worker in workers.items()}
    check_close("losses", losses)
    return lambda worker: train_step.one_turn(worker, steps=train_step.CASES[case]["steps"])


def generating(workers: Workers, folder: str, *, size: str, new: int) -> Turn:
    """Seconds for one row's likeliest tokens."""
    config = {**generate.SIZES[size], "init_std": generate.INIT_STD[size]}
    load_both(workers, folder, config)
    ask = {"prompts": np.random.default_rng(1).integers(0, config["vocab_size"], (1, 16)).tolist(), "new": new}
    check_same("tokens", {side: worker.ask("generate", **ask)["tokens"] for side, worker in workers.items()})
    return lambda worker: undisturbed(worker, lambda worker: worker.ask("generate", **ask))["seconds"]


def sampling(workers: Workers, folder: str, *, size: str, batch: int) -> Turn:
    """Seconds for `batch` answers of 64 tokens."""
    config = {**rollout.SIZES[size], "init_std": rollout.INIT_STD[size]}
    load_both(workers, folder, config)
    prompts = rollout.ragged_prompts(batch, (16, 48), config["vocab_size"])
    ask: dict[str, Any] = {"prompts": prompts, "new": min(64, config["block_size"] - 48), "seed": 1}
    found = {side: worker.ask("generate", temperature=0.0, **ask)["tokens"] for side, worker in workers.items()}
    check_same("tokens", found)
    return lambda worker: undisturbed(worker, lambda worker: worker.ask("generate", temperature=1.0, **ask))["seconds"]


def improving(workers: Workers, folder: str, *, size: str, batch: int) -> Turn:
    """Seconds for an iteration of PPO."""
    config = {**ppo_iteration.SIZES[size], "init_std": ppo_iteration.INIT_STD[size]}
    next(iter(workers.values())).ask("save", folder=folder, config=config)
    drawn = rollout.ragged_prompts(batch, (4, 16), config["vocab_size"])
    prompts = [[max(token, ppo_iteration.STOP + 1) for token in ids] for ids in drawn]
    for worker in workers.values():
        worker.ask("load", folder=folder, prompts=prompts, new=min(48, config["block_size"] - 16), minibatch=batch // 2)
    scores = {side: worker.ask("score", prompts=prompts, answers=prompts) for side, worker in workers.items()}
    check_close("log-probabilities", {side: found["log_probs"] for side, found in scores.items()})
    for worker in workers.values():
        worker.ask("iterate")  # the first one is not counted
    return lambda worker: undisturbed(worker, lambda worker: worker.ask("iterate"))["seconds"]


def load_both(workers: Workers, folder: str, config: dict[str, Any]) -> None:
    """One model, written by the first side, read by both."""
    next(iter(workers.values())).ask("save", folder=folder, config=config)
    for worker in workers.values():
        worker.ask("load", folder=folder)


def check_close(what: str, found: Mapping[str, list[float]]) -> None:
    """SystemExit if the sides differ by more than TOLERANCE: then times mean nothing."""
    before, after = map(np.array, found.values())
    worst = float(np.max(np.abs(before / after - 1)))
    if not worst <= TOLERANCE:
        raise SystemExit(f"{what} differ by {worst:.1e}: the two checkouts do not compute the same")


def check_same(what: str, found: Mapping[str, Any]) -> None:
    """SystemExit if the sides gave other results."""
    before, after = found.values()
    if before != after:
        raise SystemExit(f"other {what}: the two checkouts do not compute the same")


SUBJECTS: dict[str, tuple[str, dict[str, Any], Callable[..., Turn], dict[str, Any]]] = {
    "train_step nano": ("train_step.py", {"side": "tinyllm", "case": "nano"}, training_step, {"case": "nano"}),
    "train_step mid": ("train_step.py", {"side": "tinyllm", "case": "mid"}, training_step, {"case": "mid"}),
    "generate gpt2": ("generate.py", {"side": "tinyllm"}, generating, {"size": "gpt2", "new": 48}),
    "rollout": ("rollout.py", {"side": "tinyllm"}, sampling, {"size": "assistant", "batch": 64}),
    "ppo_iteration": ("ppo_iteration.py", {"side": "tinyllm"}, improving, {"size": "assistant", "batch": 64}),
}
QUICK: dict[str, tuple[str, dict[str, Any], Callable[..., Turn], dict[str, Any]]] = {
    "train_step quick": ("train_step.py", {"side": "tinyllm", "case": "quick"}, training_step, {"case": "quick"}),
    "generate quick": ("generate.py", {"side": "tinyllm"}, generating, {"size": "quick", "new": 8}),
    "rollout quick": ("rollout.py", {"side": "tinyllm"}, sampling, {"size": "quick", "batch": 4}),
    "ppo quick": ("ppo_iteration.py", {"side": "tinyllm"}, improving, {"size": "quick", "batch": 4}),
}


def compare(before: Path, *, subjects: Mapping[str, Any], threads: int, pairs: int) -> Iterator[tuple[str, list[float]]]:
    """Yield (subject, its time before / its time now, pair by pair)."""
    for name, (script, settings, prepare, sizes) in subjects.items():
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            workers = {
                side: stack.enter_context(Worker(str(root / "benchmarks" / script), threads=threads, root=root, **settings))
                for side, root in (("before", before), ("now", ROOT))
            }
            turn = prepare(workers, folder, **sizes)
            turns = {side: partial(turn, worker) for side, worker in workers.items()}
            yield name, [times["before"] / times["now"] for times in take_turns(turns, rounds=pairs)]


def main(before: str, *, subjects: Mapping[str, Any], threads: int, pairs: int) -> dict[str, float]:
    """Print a row a subject; returns the median ratios."""
    ratios = {}
    rows = [["", f"speed now / before, {pairs} pairs", ""]]
    for name, found in compare(Path(before).resolve(), subjects=subjects, threads=threads, pairs=pairs):
        ratios[name] = statistics.median(found)
        rows.append([name, with_quartiles(found), "" if ratios[name] >= LEAST else f"below {LEAST}"])
        print(f"{name}: {with_quartiles(found)}", flush=True)
    print("\n" + table(rows))
    return ratios


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", metavar="FOLDER", help="the other checkout")
    parser.add_argument("--subject", choices=SUBJECTS, nargs="+", help="default: all")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of both sides (default: all cores)")
    parser.add_argument("--pairs", type=int, default=9, help="turns of each side (default 9)")
    parser.add_argument("--quick", action="store_true", help="toy models and two pairs: does it run?")
    args = parser.parse_args()
    wanted = QUICK if args.quick else {name: SUBJECTS[name] for name in args.subject or SUBJECTS}
    main(args.before, subjects=wanted, threads=args.threads, pairs=2 if args.quick else args.pairs)
