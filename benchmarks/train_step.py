"""A training step: tinyllm against PyTorch, eager and compiled, on the same weights and the same batches.

    python benchmarks/train_step.py --case nano            (nano, mid, gpt2, llama or all; --quick for a glance; --no-compile)

A step is all of it: a fresh batch, forward, loss, backward, clipping at norm 1, AdamW. First the losses of three steps must
agree to 1e-3, then each side steps in turn (see `side_by_side.py`), and the ratio of the times is printed pair by pair.
The peer of a GPT is torch_gpt.py, that of a Llama is transformers'. GFLOP/s counts what PaLM's appendix B counts
(`flops_per_token`, three times for forward and backward); the peak is NumPy's own matrix product, measured between the turns.
Memory is the highest of the process in RAM above what it had when libraries were loaded and a toy model had made one step.
Without PyTorch tinyllm runs alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from benchmarks.side_by_side import (
    Worker,
    WorkerError,
    available_cores,
    forget_peak,
    product_gflops,
    resident_bytes,
    serve,
    table,
    take_turns,
    undisturbed,
    with_quartiles,
)

SETTINGS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1}
TOY = {"vocab_size": 65, "block_size": 16, "n_layers": 1, "n_heads": 2, "d_model": 32, "bias": False}
LLAMA = {"vocab_size": 65, "block_size": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_model": 32, "n_inner": 64}
GPT2 = {"vocab_size": 50257, "block_size": 1024, "n_layers": 12, "n_heads": 12, "d_model": 768, "bias": True}
# pairs: how often each side has its turn; steps: timed steps of a turn; targets: times as fast as each peer.
CASES: dict[str, dict[str, Any]] = {
    "quick": {"config": {**TOY, "n_layers": 2}, "batch": 2, "length": 16, "pairs": 2, "steps": 2, "targets": {}},
    "nano": {
        "config": {**TOY, "block_size": 64, "n_layers": 4, "n_heads": 4, "d_model": 128},
        "batch": 12, "length": 64, "pairs": 15, "steps": 10, "targets": {"eager": 1.5, "compiled": 1.35},
    },
    "mid": {
        "config": {**TOY, "block_size": 256, "n_layers": 6, "n_heads": 6, "d_model": 384},
        "batch": 4, "length": 256, "pairs": 7, "steps": 2, "targets": {"eager": 1.15},
    },
    "gpt2": {"config": GPT2, "batch": 4, "length": 64, "pairs": 4, "steps": 2, "targets": {"eager": 1.25}},
    "llama": {
        "config": {**LLAMA, "block_size": 256, "n_layers": 6, "n_heads": 6, "n_kv_heads": 2, "d_model": 384, "n_inner": 1024},
        "batch": 4, "length": 256, "pairs": 7, "steps": 2, "targets": {"eager": 1.4},
    },
}  # fmt: skip
SHARE_TARGETS = {"nano": 0.75, "mid": 0.75}  # of the peak
MEMORY_TARGET = 0.9  # of PyTorch's
CHECKED_STEPS, TOLERANCE = 3, 1e-3


# ---- the worker's part


def is_llama(config: Any) -> bool:
    """Whether these settings, or their names, are a Llama's."""
    return "n_kv_heads" in config if isinstance(config, dict) else type(config).__name__ == "LlamaConfig"


def config_of(config: dict[str, Any]) -> Any:
    """The settings object."""
    from tinyllm.models import GPTConfig, LlamaConfig

    return (LlamaConfig if is_llama(config) else GPTConfig)(**config)


class TinyTraining:
    """One training run in tinyllm: step(tokens, targets) -> loss, by the functions that `tinyllm train` uses."""

    def __init__(self, config: dict[str, Any]):
        from tinyllm.models import make_model
        from tinyllm.optim import AdamW

        self.model = make_model(config_of(config), rng=np.random.default_rng(0))
        self.optimizer = AdamW(self.model.parameters(), **SETTINGS)

    def save(self, path: str) -> None:
        """Write the weights for the peer to start from."""
        arrays: dict[str, Any] = self.model.state_dict()
        if is_llama(self.model.config):  # transformers' Llama is the peer: its names
            arrays = self.model.layout.to_tensors(arrays)
        np.savez(path, **arrays)

    def step(self, tokens: np.ndarray, targets: np.ndarray) -> float:
        """zero_grad, forward, loss, backward, clip, update."""
        from tinyllm.data import Batch
        from tinyllm.pretraining import next_token_loss
        from tinyllm.training.step import add_gradients, update_weights

        batch = Batch(tokens, targets)
        loss = add_gradients(self.model, batch, loss_fn=next_token_loss, n_counted=batch.n_counted)
        update_weights(self.optimizer, learning_rate=SETTINGS["lr"], grad_clip=1.0)  # and forgets the gradients
        return loss


def make_training(side: str, config: dict[str, Any]) -> Any:
    """The run of one side, "tinyllm", "eager" or "compiled"."""
    if side == "tinyllm":
        return TinyTraining(config)
    from benchmarks.torch_gpt import TorchTraining

    return TorchTraining(config, compiled=side == "compiled", **SETTINGS)


def random_batch(rng: np.random.Generator, *, vocab_size: int, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets (B, T) with something to learn in them: each row counts up by 1, 2, 3 or 4 from anywhere."""
    start, stride = rng.integers(0, vocab_size, (batch, 1)), rng.integers(1, 5, (batch, 1))
    window = (start + stride * np.arange(length + 1)) % vocab_size
    return np.ascontiguousarray(window[:, :-1]), np.ascontiguousarray(window[:, 1:])


class Stepper:
    """What a worker can be asked: make the model, save or load weights, take steps, tell the memory."""

    def __init__(self, side: str, case: str, threads: int):
        if side in ("eager", "compiled"):
            import torch

            torch.set_num_threads(threads)
        self.side, self.case = side, CASES[case]
        self.rng = np.random.default_rng(1)
        self.next_batch = partial(random_batch, batch=self.case["batch"], length=self.case["length"])
        small = LLAMA if is_llama(self.case["config"]) else TOY
        toy = make_training("eager" if side == "compiled" else side, small)  # loads the code that a step needs
        toy.step(*random_batch(np.random.default_rng(0), vocab_size=TOY["vocab_size"], batch=2, length=16))
        forget_peak()
        self.base = resident_bytes()
        self.run = make_training(side, self.case["config"])

    def weights(self, path: str) -> None:
        """Save ours, or load them into the peer."""
        (self.run.save if self.side == "tinyllm" else self.run.load)(path)

    def steps(self, count: int) -> dict[str, list[float]]:
        """Milliseconds and losses of `count` steps."""
        times, losses = [], []
        for _ in range(count):
            start = time.perf_counter()
            losses.append(self.run.step(*self.next_batch(self.rng, vocab_size=self.case["config"]["vocab_size"])))
            times.append(1000 * (time.perf_counter() - start))
        return {"times": times, "losses": losses}

    def memory(self) -> dict[str, float]:
        """Megabytes: the peak of the whole process, and what of it came since the libraries were loaded."""
        peak = resident_bytes(peak=True)
        return {"peak": peak / 1e6, "growth": (peak - self.base) / 1e6}


def work(side: str, case: str, threads: int) -> None:
    """Be the worker of one side, or the one that measures the machine's peak."""
    if side == "peak":
        serve({"gflops": product_gflops})
    else:
        stepper = Stepper(side, case, threads)
        serve({"weights": stepper.weights, "steps": stepper.steps, "memory": stepper.memory})


# ---- the parent's part


def sides_of(*, with_compiled: bool) -> list[str]:
    """tinyllm, and PyTorch's two if it is installed."""
    if importlib.util.find_spec("torch") is None:
        return ["tinyllm"]
    return ["tinyllm", "eager", "compiled"] if with_compiled else ["tinyllm", "eager"]


def first_losses(workers: dict[str, Worker]) -> dict[str, list[float]]:
    """Same weights for all, then the losses of the first steps; a peer that fails is left out, with a word about it."""
    losses = {}
    with tempfile.TemporaryDirectory() as folder:
        for side, worker in list(workers.items()):
            try:
                worker.ask("weights", path=str(Path(folder) / "weights.npz"))
                losses[side] = worker.ask("steps", count=CHECKED_STEPS)["losses"]
            except WorkerError as error:
                if side == "tinyllm":
                    raise
                print(f"  {side}: left out, it failed: {error}")
                del workers[side]
    return losses


def check_losses(losses: dict[str, list[float]]) -> float:
    """The largest relative difference from ours; SystemExit if it is over the tolerance: then times mean nothing."""
    ours = np.array(losses["tinyllm"])
    worst = float(np.max([np.abs(np.array(theirs) / ours - 1) for theirs in losses.values()]))  # NaN, if one is NaN
    for side, values in losses.items():
        print(f"  losses of the first steps, {side:8}  " + "  ".join(f"{value:.5f}" for value in values))
    if not worst <= TOLERANCE:
        raise SystemExit(f"losses differ by {worst:.1e}, more than {TOLERANCE}: the two sides do not compute the same")
    return worst


def one_turn(worker: Worker, *, steps: int) -> float:
    """Milliseconds a step, the median of a turn; its first step, with cold caches and sleeping threads, is not counted."""
    return undisturbed(worker, lambda worker: statistics.median(worker.ask("steps", count=steps + 1)["times"][1:]))


def measure(case: str, *, threads: int, with_compiled: bool) -> dict[str, Any]:
    """Check and time one case; {"times": {side: ms a turn}, "memory": {side: MB}, "peak": GFLOP/s, ...}."""
    settings = CASES[case]
    print(f"\n{case}: {settings['config']}, batch {settings['batch']} x {settings['length']}, {threads} threads", flush=True)
    with ExitStack() as stack:
        start = partial(Worker, __file__, threads=threads, case=case)
        workers = {side: stack.enter_context(start(side=side)) for side in sides_of(with_compiled=with_compiled)}
        meter = stack.enter_context(start(side="peak"))
        difference = check_losses(first_losses(workers))
        print(f"  they agree to {difference:.0e}" if len(workers) > 1 else "  PyTorch is not there: tinyllm alone")
        turns = {side: partial(one_turn, worker, steps=settings["steps"]) for side, worker in workers.items()}
        rounds: list[dict[str, float]] = []
        size = 256 if case == "quick" else 2048
        for times in take_turns({**turns, "peak": partial(meter.ask, "gflops", size=size)}, rounds=settings["pairs"]):
            rounds.append(times)
            shown = (f"{side} {times[side]:.2f} ms" for side in workers)
            ratios = (f"{times[side] / times['tinyllm']:.2f} x {side}" for side in workers if side != "tinyllm")
            print(f"  pair {len(rounds):2}: " + ", ".join([*shown, *ratios]), flush=True)
        disturbed = sum(worker.disturbed for worker in workers.values())
        print(f"  {disturbed} turns were disturbed by others using the cores; each was taken again, up to three times")
        memory = {side: worker.ask("memory") for side, worker in workers.items()}
    columns = {side: [times[side] for times in rounds] for side in (*workers, "peak")}
    return {"case": case, "peak": max(columns.pop("peak")), "times": columns, "memory": memory, "difference": difference}


def rows_of(result: dict[str, Any]) -> list[list[str]]:
    """The lines of the last table for one case, one a side."""
    from tinyllm.models import make_model

    case = CASES[result["case"]]
    tokens = case["batch"] * case["length"]
    flops = 3 * tokens * make_model(config_of(case["config"]), rng=None).flops_per_token(case["length"])
    ours, our_memory = result["times"]["tinyllm"], result["memory"]["tinyllm"]["growth"]
    rows = []
    for side, times in result["times"].items():
        ms, memory = statistics.median(times), result["memory"][side]["growth"]
        rate = flops / ms / 1e6
        ratio, target, memory_ratio = "", f"{SHARE_TARGETS.get(result['case'], 0):.0%} of peak", ""
        if side != "tinyllm":
            ratio = with_quartiles([theirs / mine for theirs, mine in zip(times, ours, strict=True)])
            target = f"{case['targets'][side]} x" if side in case["targets"] else ""
            memory_ratio = f"{our_memory / memory:.2f}" if memory else ""
        elif result["case"] not in SHARE_TARGETS:
            target = ""
        cells = [f"{ms:.2f}", f"{1000 * tokens / ms:,.0f}", f"{rate:.0f}", f"{rate / result['peak']:.0%}"]
        rows.append([f"{result['case']} {side}", *cells, ratio, target, f"{memory:.0f}", memory_ratio])
    return rows


def main(cases: list[str], *, threads: int, with_compiled: bool = True) -> list[dict[str, Any]]:
    """Run the cases one after the other and print the table; returns what was measured."""
    results = [measure(case, threads=threads, with_compiled=with_compiled) for case in cases]
    heading = ["case", "ms a step", "tokens/s", "GFLOP/s", "of peak", "tinyllm is x faster", "target", "MB", "ours / theirs"]
    print("\n" + table([heading, *(row for result in results for row in rows_of(result))]))
    peaks = ", ".join(f"{result['case']} {result['peak']:.0f}" for result in results)
    print(f"\nPeak, by NumPy's float32 product, GFLOP/s: {peaks}.\nMB: peak memory; the target is {MEMORY_TARGET} of eager's.")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*CASES, "all"], default="nano", help="default nano; all: nano, mid, gpt2 and llama")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of every side (default: all cores)")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes a while to start")
    parser.add_argument("--quick", action="store_true", help="a toy model and two pairs: does it run?")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(**args.worker)
    else:
        chosen = ["quick"] if args.quick else ["nano", "mid", "gpt2", "llama"] if args.case == "all" else [args.case]
        main(chosen, threads=args.threads, with_compiled=not args.no_compile)
