"""Rollouts, the half of reinforcement learning that no gradient is needed for: tinyllm against transformers' `generate`.

    python benchmarks/rollout.py           (--batch 64, --prompt 16 32, --new 64, --size gpt2 or llama; --quick for a glance)

A rollout is answers and their log-probabilities: sampled at temperature 1 without top-k and top-p, a whole batch at a time,
key/value cache on both sides, prompts of ragged lengths padded on the left. No stop token, so that every answer has as many
tokens on both sides. transformers hands out each step's scores; the log-probabilities are taken from them as TRL does it. A model
with random weights is written in Hugging Face's layout and both sides load that folder. Before anything is timed the likeliest
answers (temperature 0) must be the same, padding and all, and the log-probabilities of sampled ones must be those that tinyllm's
scoring finds. Then the sides take turns (see `side_by_side.py`), each in its own process, and the ratio of new tokens a second is
printed pair by pair. `--python` names the interpreter that has torch and transformers, if it is another one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
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
from benchmarks.side_by_side import Worker, available_cores, serve, table, take_turns, undisturbed, with_quartiles

SIZES: dict[str, dict[str, Any]] = {
    "assistant": {"vocab_size": 2048, "block_size": 128, "n_layers": 4, "n_heads": 4, "d_model": 128},
    "llama": {"vocab_size": 2048, "block_size": 128, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "d_model": 128, "tied": True},
    "gpt2": {"vocab_size": 50257, "block_size": 1024, "n_layers": 12, "n_heads": 12, "d_model": 768},
    "quick": {"vocab_size": 300, "block_size": 64, "n_layers": 2, "n_heads": 2, "d_model": 32},
}
INIT_STD = {
    "assistant": 0.1,
    "llama": 0.1,
    "gpt2": 0.05,
    "quick": 0.1,
}  # of the random weights: large enough for answers that vary
TARGET = 3.0  # times transformers' rate


# ---- the worker's part


class TinySampler:
    """tinyllm's side."""

    def __init__(self) -> None:
        self.model: Any = None

    def save(self, folder: str, config: dict[str, Any]) -> None:
        """Write a model with random weights for both sides to load."""
        from tinyllm.models import GPTConfig, LlamaConfig, make_model

        shape = LlamaConfig(**config) if "n_kv_heads" in config else GPTConfig(**config)
        make_model(shape, rng=np.random.default_rng(0)).save_pretrained(folder)

    def load(self, folder: str) -> None:
        """Read the model."""
        from tinyllm.models import load_model

        self.model = load_model(folder)

    def generate(self, prompts: list[list[int]], *, new: int, temperature: float, seed: int) -> tuple[list[list[int]], Any]:
        """`new` tokens after each prompt, and their log-probabilities; temperature 0: the likeliest."""
        from tinyllm.decoding import generate

        result = generate(self.model, prompts, max_new_tokens=new, temperature=temperature, rng=np.random.default_rng(seed))
        return result.tokens, np.array(result.log_probs)

    def score(self, prompts: list[list[int]], answers: list[list[int]]) -> list[list[float]]:
        """Log-probabilities of the answers' tokens, from one pass over the whole texts."""
        from tinyllm.rlhf.log_probs import frozen_log_probs
        from tinyllm.rlhf.sequences import pad_sequences

        return frozen_log_probs(self.model, pad_sequences(prompts, answers)).tolist()


class TransformersSampler:
    """transformers' side."""

    def __init__(self, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.model: Any = None

    def load(self, folder: str) -> None:
        """Read the model."""
        import torch
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.model.generation_config.eos_token_id = None  # no stop token, and so no logits processor that forbids it either

    def generate(self, prompts: list[list[int]], *, new: int, temperature: float, seed: int) -> tuple[list[list[int]], Any]:
        """`new` tokens after each prompt, and their log-probabilities; temperature 0: the likeliest."""
        import torch

        torch.manual_seed(seed)
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        settings: dict[str, Any] = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": temperature}
        if temperature == 0:
            settings = {"do_sample": False}
        settings |= {"max_new_tokens": new, "use_cache": True, "return_dict_in_generate": True, "output_scores": True}
        with torch.inference_mode():
            out = self.model.generate(ids, attention_mask=mask, pad_token_id=0, **settings)
            tokens, scores = out.sequences[:, longest:], torch.stack(out.scores, 1)  # (B, new), (B, new, V)
            chosen = scores.gather(2, tokens[..., None])[..., 0]
            log_probs = chosen - torch.stack([torch.logsumexp(row, dim=-1) for row in scores])  # row by row, as TRL does
        return tokens.tolist(), log_probs.numpy()


def timed(sampler: Any, *, prompts: list[list[int]], new: int, temperature: float, seed: int) -> dict[str, Any]:
    """The new tokens, their log-probabilities and the seconds they took; a few tokens before are not counted."""
    sampler.generate(prompts, new=min(new, 3), temperature=temperature, seed=seed)
    start = time.perf_counter()
    tokens, log_probs = sampler.generate(prompts, new=new, temperature=temperature, seed=seed)
    return {"seconds": time.perf_counter() - start, "tokens": tokens, "log_probs": log_probs.tolist()}


def work(side: str, threads: int) -> None:
    """Be the worker of one side."""
    sampler: Any = TransformersSampler(threads) if side == "transformers" else TinySampler()
    actions = {name: getattr(sampler, name) for name in ("save", "load", "score") if hasattr(sampler, name)}
    serve({**actions, "generate": partial(timed, sampler)})


# ---- the parent's part


def ragged_prompts(batch: int, lengths: tuple[int, int], vocab_size: int) -> list[list[int]]:
    """Random prompts, their lengths spread evenly over the range; those of the extremes are among them."""
    rng = np.random.default_rng(batch)
    spread = np.linspace(*lengths, batch).round().astype(int)
    return [rng.integers(1, vocab_size, length).tolist() for length in rng.permutation(spread)]


def check_answers(workers: Mapping[str, Worker], prompts: list[list[int]], *, new: int) -> None:
    """SystemExit unless the sides do the same thing: the same likeliest answers, and samples of the same likelihood."""
    ask = {"prompts": prompts, "new": new, "seed": 0}
    likeliest = {side: worker.ask("generate", temperature=0.0, **ask)["tokens"] for side, worker in workers.items()}
    for side, tokens in likeliest.items():
        if tokens != likeliest["tinyllm"]:
            n_rows = sum(mine != other for mine, other in zip(likeliest["tinyllm"], tokens, strict=True))
            raise SystemExit(f"{side} generates other tokens in {n_rows} of {len(prompts)} rows: then times mean nothing")
    means = {}
    for side, worker in workers.items():
        sampled = worker.ask("generate", temperature=1.0, **ask)
        if {len(answer) for answer in sampled["tokens"]} != {new}:
            raise SystemExit(f"{side} gave answers of other lengths than {new}")
        scored = workers["tinyllm"].ask("score", prompts=prompts, answers=sampled["tokens"])
        error = float(np.abs(np.subtract(sampled["log_probs"], scored)).max())
        if not error < 2e-3:
            raise SystemExit(f"{side}'s log-probabilities are off by up to {error:.3g} from those of scoring its answers")
        means[side] = f"{side} {np.mean(scored):.3f}"
    shown = ", ".join(means.values())
    print(f"  likeliest answers: the same tokens; mean log-probability of the sampled ones: {shown}", flush=True)


def race(workers: Mapping[str, Worker], prompts: list[list[int]], *, new: int, pairs: int) -> dict[str, list[float]]:
    """New tokens a second of each side's turns."""

    def rate(worker: Worker, seed: int) -> float:
        ask = {"prompts": prompts, "new": new, "temperature": 1.0, "seed": seed}
        return len(prompts) * new / undisturbed(worker, lambda worker: worker.ask("generate", **ask))["seconds"]

    rates: dict[str, list[float]] = {side: [] for side in workers}
    turns = {side: partial(rate, worker, len(rates)) for side, worker in workers.items()}
    for turn in take_turns(turns, rounds=pairs):
        for side, value in turn.items():
            rates[side].append(value)
        shown = ", ".join(f"{side} {value:,.0f} tokens/s" for side, value in turn.items())
        ratio = f", {turn['tinyllm'] / turn['transformers']:.2f} x" if "transformers" in turn else ""
        print(f"  pair {len(rates['tinyllm']):2}: {shown}{ratio}", flush=True)
    return rates


def has_peer(python: str) -> bool:
    """Whether that interpreter has torch and transformers."""
    code = "import importlib.util as u, sys; sys.exit(not (u.find_spec('torch') and u.find_spec('transformers')))"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def main(
    size: str, *, threads: int, batch: int, prompt: tuple[int, int], new: int, pairs: int, python: str = sys.executable
) -> dict[str, list[float]]:
    """Check, race, print the table; returns tokens a second by side."""
    config = SIZES[size]
    sides = ["tinyllm", *(["transformers"] if has_peer(python) else [])]
    print(f"{size}: {config}, {threads} threads", flush=True)
    print(f"  {batch} prompts of {prompt[0]} to {prompt[1]} tokens, {new} new ones", flush=True)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pythons = {"tinyllm": sys.executable, "transformers": python}
        workers = {
            side: stack.enter_context(Worker(__file__, threads=threads, python=pythons[side], side=side)) for side in sides
        }
        workers["tinyllm"].ask("save", folder=folder, config={**config, "init_std": INIT_STD[size]})
        for worker in workers.values():
            worker.ask("load", folder=folder)
        prompts = ragged_prompts(batch, prompt, config["vocab_size"])
        check_answers(workers, prompts, new=new)
        rates = race(workers, prompts, new=new, pairs=pairs)
    rows = [["", "tokens/s", "x transformers", "target"]]
    for side, values in rates.items():
        peer = rates.get("transformers") if side == "tinyllm" else None
        ratio = with_quartiles([a / b for a, b in zip(values, peer, strict=True)]) if peer else ""
        rows.append([f"{size} {side}", f"{statistics.median(values):,.0f}", ratio, f"{TARGET:g} x" if peer else ""])
    print("\n" + table(rows))
    return rates


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="assistant", help="of the model (default: that of the assistant)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of both sides (default: all cores)")
    parser.add_argument("--batch", type=int, default=64, help="prompts answered at a time (default 64)")
    parser.add_argument("--prompt", type=int, nargs=2, default=[16, 48], help="shortest and longest prompt (default 16 48)")
    parser.add_argument("--new", type=int, default=64, help="tokens of each answer (default 64)")
    parser.add_argument("--pairs", type=int, default=7, help="turns of each side (default 7)")
    parser.add_argument("--python", default=sys.executable, help="interpreter with torch and transformers (default: this one)")
    parser.add_argument("--quick", action="store_true", help="a toy model and two pairs: does it run?")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(**args.worker)
    elif args.quick:
        main("quick", threads=args.threads, batch=4, prompt=(2, 6), new=8, pairs=2, python=args.python)
    else:
        sizes = {"batch": args.batch, "prompt": tuple(args.prompt), "new": args.new}
        main(args.size, threads=args.threads, pairs=args.pairs, python=args.python, **sizes)
