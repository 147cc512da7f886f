"""Greedy generation with a key/value cache, GPT-2 small's size: tinyllm against Hugging Face's transformers.

    python benchmarks/generate.py           (--int8, --batch 1 8, --prompt 16, --new 64; --quick for a glance)

A model with random weights (of deviation 0.05: with 0.02 it would say one token over and over, which tests nothing) is
written by `save_pretrained` in Hugging Face's layout, and both sides load that folder. First all their tokens must be the
same; then each side generates in turn (see `side_by_side.py`), and the ratio of tokens a second, prompt included, is
printed pair by pair. One token of one row needs every weight once and computes little with it:
    tokens/s ≤ batch · bandwidth / (bytes of weights + batch · bytes of keys and values)
so memory sets the pace, and a whole batch costs hardly more than one row. The bound is printed beside. Without transformers
tinyllm runs alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from benchmarks.side_by_side import Worker, available_cores, resident_bytes, serve, table, take_turns, undisturbed, with_quartiles

SIZES: dict[str, dict[str, int]] = {
    "gpt2": {"vocab_size": 50257, "block_size": 1024, "n_layers": 12, "n_heads": 12, "d_model": 768},
    "quick": {"vocab_size": 300, "block_size": 64, "n_layers": 2, "n_heads": 2, "d_model": 32},
}
INIT_STD = {"gpt2": 0.05, "quick": 0.1}  # of the random weights
TARGETS = {"tinyllm": "2.2 x", "int8": "5 x"}  # of transformers' rate, batch 1, GPT-2's size


# ---- the worker's part


class TinyGenerator:
    """tinyllm's side, float32 or int8."""

    def __init__(self, *, int8: bool):
        self.model: Any = None
        self.int8 = int8

    def save(self, folder: str, config: dict[str, Any]) -> None:
        """Write a model with random weights for every side to load."""
        from tinyllm.models import GPT, GPTConfig

        GPT(GPTConfig(**config), rng=np.random.default_rng(0)).save_pretrained(folder)

    def load(self, folder: str) -> None:
        """Read the model."""
        from tinyllm.models import GPT

        self.model = GPT.from_pretrained(folder)
        if self.int8:
            from tinyllm.nn import quantize

            quantize(self.model)

    def generate(self, prompts: list[list[int]], new: int) -> list[list[int]]:
        """The likeliest tokens, `new` a row."""
        from tinyllm.decoding import generate

        return generate(self.model, prompts, temperature=0.0, max_new_tokens=new).tokens

    def agreement(self, rows: list[list[int]], new: int) -> float:
        """Share of the last `new` tokens of each row that this model, given all before, would have chosen too."""
        from tinyllm import no_grad

        tokens = np.array(rows)
        with no_grad():
            logits = self.model(tokens[:, :-1]).data[:, -new:]
        return float((logits.argmax(-1) == tokens[:, -new:]).mean())


class TransformersGenerator:
    """transformers' side."""

    def __init__(self, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.model: Any = None

    def load(self, folder: str) -> None:
        """Read the model."""
        import torch
        from transformers import GPT2LMHeadModel

        self.model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()

    def generate(self, prompts: list[list[int]], new: int) -> list[list[int]]:
        """The likeliest tokens, `new` a row."""
        import torch

        ids = torch.tensor(prompts)
        with torch.inference_mode():
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, use_cache=True, pad_token_id=0
            )
        return out[:, ids.shape[1] :].tolist()


def timed_generation(generator: Any, *, prompts: list[list[int]], new: int) -> dict[str, Any]:
    """The new tokens, the seconds they took, and the process's peak memory in MB; a few tokens before are not counted."""
    generator.generate(prompts, min(new, 3))
    start = time.perf_counter()
    tokens = generator.generate(prompts, new)
    return {"seconds": time.perf_counter() - start, "tokens": tokens, "peak": resident_bytes(peak=True) / 1e6}


def read_rate(megabytes: int, repeats: int = 6) -> float:
    """Bytes a second at which all cores read a matrix that no cache holds: NumPy's BLAS, matrix times vector, the best time."""
    matrix, vector = np.ones((megabytes * 256, 1024), np.float32), np.ones(1024, np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        matrix @ vector
        times.append(time.perf_counter() - start)
    return matrix.nbytes / min(times)


def work(side: str, threads: int) -> None:
    """Be the worker of one side, or the one that measures the memory."""
    if side == "memory":
        serve({"read": read_rate})
        return
    generator: Any = TransformersGenerator(threads) if side == "transformers" else TinyGenerator(int8=side == "int8")
    actions = {name: getattr(generator, name) for name in ("save", "load", "agreement") if hasattr(generator, name)}
    serve({**actions, "generate": partial(timed_generation, generator)})


# ---- the parent's part


def bytes_read(config: Mapping[str, int], *, batch: int, context: float, weight_bytes: int = 4) -> float:
    """Bytes that one step of `batch` rows must read: every weight that is multiplied, and each row's keys and values."""
    C, L, V = config["d_model"], config["n_layers"], config["vocab_size"]
    return weight_bytes * (12 * L * C * C + V * C) + 4 * batch * 2 * L * C * context


def check_tokens(answers: Mapping[str, dict[str, Any]]) -> None:
    """SystemExit unless float32 sides gave the same tokens: then times mean nothing."""
    rows = {side: answer["tokens"] for side, answer in answers.items() if side != "int8"}
    for side, tokens in rows.items():
        if tokens != rows["tinyllm"]:
            pairs = list(zip(rows["tinyllm"], tokens, strict=True))
            same = [sum(np.cumprod(np.equal(mine, other))) for mine, other in pairs]
            raise SystemExit(f"{side} generates other tokens: after {min(same)} new ones a row differs for the first time")
    distinct = len({token for row in rows["tinyllm"] for token in row})
    print(f"  {', '.join(rows)}: the same tokens ({distinct} different ones among them)", flush=True)


def race(
    workers: Mapping[str, Worker], *, batch: int, prompt: int, new: int, vocab_size: int, pairs: int
) -> dict[str, list[float]]:
    """Check, then time; tokens a second of each side's turns."""
    print(f"\nbatch {batch}, {prompt} tokens of prompt, {new} new ones", flush=True)
    prompts = np.random.default_rng(batch).integers(0, vocab_size, (batch, prompt)).tolist()
    answers = {side: worker.ask("generate", prompts=prompts, new=new) for side, worker in workers.items()}
    check_tokens(answers)
    if "int8" in workers:
        rows = [[*first, *then] for first, then in zip(prompts, answers["tinyllm"]["tokens"], strict=True)]
        print(f"  int8 chooses the same token in {workers['int8'].ask('agreement', rows=rows, new=new):.1%} of the places")

    def rate(worker: Worker) -> float:
        answer = undisturbed(worker, lambda worker: worker.ask("generate", prompts=prompts, new=new))
        return batch * new / answer["seconds"]

    rates: dict[str, list[float]] = {side: [] for side in workers}
    for turn in take_turns({side: partial(rate, worker) for side, worker in workers.items()}, rounds=pairs):
        for side, value in turn.items():
            rates[side].append(value)
        ratios = [f"{side} {value / turn['transformers']:.2f} x" for side, value in turn.items() if "transformers" in turn]
        shown = [f"{side} {value:.1f} tokens/s" for side, value in turn.items()]
        print(f"  pair {len(rates['tinyllm']):2}: " + ", ".join([*shown, *ratios[:-1]]), flush=True)
    return rates


def rows_of(rates: Mapping[str, list[float]], *, batch: int, bounds: Mapping[str, float]) -> list[list[str]]:
    """The lines of the last table for one batch size, one a side."""
    rows = []
    for side, values in rates.items():
        middle, peer = statistics.median(values), rates.get("transformers")
        ratio = with_quartiles([a / b for a, b in zip(values, peer, strict=True)]) if peer and side != "transformers" else ""
        target = TARGETS.get(side, "") if batch == 1 else ""
        share = f"{middle / bounds[side]:.0%}"
        rows.append([f"batch {batch} {side}", f"{middle:.1f}", f"{bounds[side]:.0f}", share, ratio, target])
    return rows


def main(
    size: str, *, threads: int, batches: list[int], prompt: int, new: int, pairs: int, int8: bool = False
) -> dict[int, dict[str, list[float]]]:
    """Race at each batch size and print the table; returns tokens a second by batch size and side."""
    config = SIZES[size]
    sides = ["tinyllm", *(["int8"] if int8 else []), *(["transformers"] if importlib.util.find_spec("transformers") else [])]
    print(f"{size}: {config}, random weights of deviation {INIT_STD[size]}, {threads} threads; " + ", ".join(sides), flush=True)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        workers = {side: stack.enter_context(Worker(__file__, threads=threads, side=side)) for side in sides}
        workers["tinyllm"].ask("save", folder=folder, config={**config, "init_std": INIT_STD[size]})
        for worker in workers.values():
            worker.ask("load", folder=folder)
        settings = {"prompt": prompt, "new": new, "vocab_size": config["vocab_size"], "pairs": pairs}
        results = {batch: race(workers, batch=batch, **settings) for batch in batches}
        meter = stack.enter_context(Worker(__file__, threads=threads, side="memory"))
        bandwidth = meter.ask("read", megabytes=8 if size == "quick" else 512)
    rows = [["", "tokens/s", "bound", "of it", "x transformers", "target"]]
    for batch, rates in results.items():
        needed = partial(bytes_read, config, batch=batch, context=prompt + new / 2)
        bounds = {side: batch * bandwidth / needed(weight_bytes=1 if side == "int8" else 4) for side in rates}
        rows += rows_of(rates, batch=batch, bounds=bounds)
    print("\n" + table(rows) + f"\n\nbound: what reading the weights at {bandwidth / 1e9:.1f} GB/s (measured) would allow")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=available_cores(), help="of every side (default: all cores)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="rows at a time, one race each (default 1 8)")
    parser.add_argument("--prompt", type=int, default=16, help="tokens of each prompt (default 16)")
    parser.add_argument("--new", type=int, default=64, help="tokens to generate (default 64)")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--int8", action="store_true", help="also with weights rounded to int8")
    parser.add_argument("--quick", action="store_true", help="a toy model and two pairs: does it run?")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(**args.worker)
    elif args.quick:
        main("quick", threads=args.threads, batches=[1, 3], prompt=4, new=8, pairs=2, int8=args.int8)
    else:
        lengths = {"prompt": args.prompt, "new": args.new}
        main("gpt2", threads=args.threads, batches=args.batch, pairs=args.pairs, int8=args.int8, **lengths)
