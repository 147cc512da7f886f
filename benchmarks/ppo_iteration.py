"""One iteration of PPO, from prompts to updated weights: tinyllm against TRL's PPOTrainer.

    python benchmarks/ppo_iteration.py --python ~/trl/bin/python        (--quick for a glance)

Both sides: 64 prompts of ragged lengths, an answer of up to 48 tokens each (temperature 1, the stop token ends it), a reward
model's score, log-probabilities of policy and frozen reference, values of a separate value model, GAE, then four epochs of
minibatches of 32 answers with the clipped losses, AdamW, float32. Policy, reference, value and reward model have one size and,
at first, the same weights on both sides (folders in Hugging Face's layout). TRL's is its own trainer, its train() called for one
batch at a time, with gradient checkpointing and bfloat16 off, as tinyllm has neither. `--python` names an interpreter with a
TRL that has trl.experimental.ppo (1.9 does, 1.16 no longer). Before anything is timed both sides score the same texts:
log-probabilities and rewards must agree. Then they take turns, an iteration each (see `side_by_side.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from benchmarks.rollout import INIT_STD, SIZES, ragged_prompts
from benchmarks.side_by_side import Worker, available_cores, serve, table, take_turns, undisturbed, with_quartiles

EPOCHS, LEARNING_RATE, STOP = 4, 3e-6, 1
TARGET = 2.0  # times as fast as TRL


# ---- the worker's part


class TinyPPO:
    """tinyllm's side: `train` on a PPO source, as anyone would use it."""

    def __init__(self) -> None:
        self.policy: Any = None
        self.rewards: Any = None
        self.records: Iterator[Any] = iter(())
        self.steps = 0

    def save(self, folder: str, config: dict[str, Any]) -> None:
        """Write policy and reward model, random weights, for both sides to load."""
        from tinyllm.models import GPT, GPTConfig, RewardModel

        policy, trunk = (GPT(GPTConfig(**config), rng=np.random.default_rng(seed)) for seed in (0, 1))
        policy.save_pretrained(Path(folder) / "policy")
        RewardModel(trunk, rng=np.random.default_rng(2)).save_pretrained(Path(folder) / "reward")

    def load(self, folder: str, prompts: list[list[int]], new: int, minibatch: int) -> None:
        """Read the models and set up the trainer."""
        from tinyllm.models import GPT, RewardModel, ValueModel
        from tinyllm.rlhf.actor_critic import ActorCritic
        from tinyllm.rlhf.ppo import PPO, PPOConfig
        from tinyllm.rlhf.sequences import pad_sequences
        from tinyllm.training import TrainConfig, train

        self.policy, reference = (GPT.from_pretrained(Path(folder) / "policy") for _ in range(2))
        self.rewards, value = (RewardModel.from_pretrained(Path(folder) / "reward") for _ in range(2))
        model = ActorCritic(self.policy, ValueModel(value.trunk))

        def reward(samples: list[Any]) -> np.ndarray:
            sequences = pad_sequences([sample.prompt for sample in samples], [sample.response for sample in samples])
            return self._rewards(sequences)

        sizes: dict[str, Any] = {"n_prompts": len(prompts), "max_new_tokens": new, "minibatch_size": minibatch, "epochs": EPOCHS}
        ppo = PPO(
            model, prompts, reward, config=PPOConfig(**sizes), stop_id=STOP, rng=np.random.default_rng(0), reference=reference
        )
        config = TrainConfig(
            max_steps=10**9, learning_rate=LEARNING_RATE, min_learning_rate=LEARNING_RATE, warmup_steps=0, eval_interval=0,
            checkpoint_interval=0, weight_decay=0.0, beta2=0.999,
        )  # fmt: skip
        self.records = train(model, ppo, config=config, loss_fn=ppo.loss, measure=ppo.measure)
        self.steps = EPOCHS * -(-len(prompts) // minibatch)

    def _rewards(self, sequences: Any) -> np.ndarray:
        from tinyllm import no_grad

        with no_grad():
            return self.rewards(sequences.tokens, sequences.attention_mask).data

    def score(self, prompts: list[list[int]], answers: list[list[int]]) -> dict[str, Any]:
        """Log-probability and reward of each answer."""
        from tinyllm.rlhf.log_probs import frozen_log_probs
        from tinyllm.rlhf.sequences import pad_sequences

        sequences = pad_sequences(prompts, answers)
        log_probs = frozen_log_probs(self.policy, sequences).sum(axis=1)
        return {"log_probs": log_probs.tolist(), "rewards": self._rewards(sequences).tolist()}

    def iterate(self) -> dict[str, float]:
        """One iteration."""
        start = time.perf_counter()
        records = [next(self.records) for _ in range(self.steps)]
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "length": records[0].metrics["length"], "score": records[0].metrics["score"]}


class TrlPPO:
    """TRL's side."""

    def __init__(self, threads: int):
        os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
        import torch

        torch.set_num_threads(threads)
        self.trainer: Any = None

    def load(self, folder: str, prompts: list[list[int]], new: int, minibatch: int) -> None:
        """Read the models and set up the trainer."""
        import torch
        from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel
        from trl.experimental.ppo import PPOConfig, PPOTrainer

        policy, reference = (GPT2LMHeadModel.from_pretrained(Path(folder) / "policy", dtype=torch.float32) for _ in range(2))
        reward, value = (
            GPT2ForSequenceClassification.from_pretrained(Path(folder) / "reward", dtype=torch.float32) for _ in range(2)
        )
        torch.nn.init.zeros_(value.score.weight)
        batch = len(prompts)
        config = PPOConfig(
            output_dir=str(Path(folder) / "trl"), report_to="none", save_strategy="no", num_sample_generations=0, use_cpu=True,
            bf16=False, gradient_checkpointing=False, disable_tqdm=True, learning_rate=LEARNING_RATE, total_episodes=batch,
            per_device_train_batch_size=batch, gradient_accumulation_steps=1, num_mini_batches=-(-batch // minibatch),
            num_ppo_epochs=EPOCHS, response_length=new, temperature=1.0, stop_token_id=STOP, kl_coef=0.05,
            local_rollout_forward_batch_size=batch,
        )  # fmt: skip

        def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
            longest = max(len(row["input_ids"]) for row in rows)
            return {"input_ids": torch.tensor([[0] * (longest - len(r["input_ids"])) + r["input_ids"] for r in rows])}

        data = [{"input_ids": prompt} for prompt in prompts]
        self.trainer = PPOTrainer(
            args=config, processing_class=_Ids(), model=policy, ref_model=reference, reward_model=reward, value_model=value,
            train_dataset=data, eval_dataset=data, data_collator=collate,
        )  # fmt: skip
        self.lengths: list[float] = []
        self.trainer.log = lambda metrics, *_: self.lengths.append(metrics["objective/scores"])

    def score(self, prompts: list[list[int]], answers: list[list[int]]) -> dict[str, Any]:
        """Log-probability and reward of each answer, by TRL's own functions."""
        import torch
        from trl.experimental.ppo.ppo_trainer import forward, get_reward, selective_log_softmax

        longest, new = max(map(len, prompts)), max(map(len, answers))
        rows = [
            [0] * (longest - len(prompt)) + prompt + answer + [0] * (new - len(answer))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        ids = torch.tensor(rows)
        with torch.no_grad():
            logits = forward(self.trainer.policy_model, ids, 0).logits[:, longest - 1 : -1]
            log_probs = selective_log_softmax(logits, ids[:, longest:])
            _, rewards, _ = get_reward(self.trainer.reward_model, ids, 0, longest)
        log_probs = (log_probs * (ids[:, longest:] != 0)).sum(dim=1)
        return {"log_probs": log_probs.tolist(), "rewards": rewards.tolist()}

    def iterate(self) -> dict[str, float]:
        """One iteration: train() for the one batch it was configured for."""
        start = time.perf_counter()
        self.trainer.train()
        return {"seconds": time.perf_counter() - start, "score": self.lengths[-1]}


class _Ids:
    """As much of a tokenizer as TRL's trainer asks for: texts are ids already, 0 is padding."""

    pad_token_id, eos_token_id, padding_side = 0, STOP, "left"

    def save_pretrained(self, *_: Any) -> None:
        """Nothing to save."""


def work(side: str, threads: int) -> None:
    """Be the worker of one side."""
    trainer: Any = TrlPPO(threads) if side == "trl" else TinyPPO()
    serve({name: getattr(trainer, name) for name in ("save", "load", "score", "iterate") if hasattr(trainer, name)})


# ---- the parent's part


def check_scores(workers: Mapping[str, Worker], prompts: list[list[int]], *, new: int, vocab_size: int) -> None:
    """SystemExit unless all sides find the same texts equally likely and equally good."""
    rng = np.random.default_rng(3)
    answers = [rng.integers(2, vocab_size, rng.integers(1, new + 1)).tolist() for _ in prompts]
    found = {side: worker.ask("score", prompts=prompts, answers=answers) for side, worker in workers.items()}
    for side, scores in found.items():
        for name, values in scores.items():
            error = float(np.max(np.abs(np.subtract(values, found["tinyllm"][name]))))
            if not error < 1e-3:
                raise SystemExit(f"{side} has other {name}, off by up to {error:.3g}: the sides do not compute the same")
    print(f"  {', '.join(workers)}: the same log-probabilities and rewards for {len(prompts)} texts", flush=True)


def race(workers: Mapping[str, Worker], *, pairs: int) -> dict[str, list[float]]:
    """Seconds an iteration of each side's turns; one before is not counted."""
    for worker in workers.values():
        worker.ask("iterate")

    def seconds(worker: Worker) -> float:
        return undisturbed(worker, lambda worker: worker.ask("iterate"))["seconds"]

    times: dict[str, list[float]] = {side: [] for side in workers}
    for turn in take_turns({side: partial(seconds, worker) for side, worker in workers.items()}, rounds=pairs):
        for side, value in turn.items():
            times[side].append(value)
        shown = ", ".join(f"{side} {value:.2f} s" for side, value in turn.items())
        ratio = f", {turn['trl'] / turn['tinyllm']:.2f} x" if "trl" in turn else ""
        print(f"  pair {len(times['tinyllm']):2}: {shown}{ratio}", flush=True)
    return times


def has_peer(python: str) -> bool:
    """Whether that interpreter has a TRL with PPO."""
    code = "import importlib.util as u, sys; sys.exit(not (u.find_spec('trl') and u.find_spec('trl.experimental.ppo')))"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def main(
    size: str,
    *,
    threads: int,
    batch: int,
    minibatch: int,
    prompt: tuple[int, int],
    new: int,
    pairs: int,
    python: str = sys.executable,
) -> dict[str, list[float]]:
    """Check, race, print the table; returns seconds an iteration by side."""
    config = SIZES[size]
    sides = ["tinyllm", *(["trl"] if has_peer(python) else [])]
    print(f"{size}: {config}, {threads} threads", flush=True)
    print(f"  {batch} prompts of {prompt[0]} to {prompt[1]} tokens, {new} new ones", flush=True)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pythons = {"tinyllm": sys.executable, "trl": python}
        workers = {
            side: stack.enter_context(Worker(__file__, threads=threads, python=pythons[side], side=side)) for side in sides
        }
        workers["tinyllm"].ask("save", folder=folder, config={**config, "init_std": INIT_STD[size]})
        prompts = [[max(token, STOP + 1) for token in ids] for ids in ragged_prompts(batch, prompt, config["vocab_size"])]
        for worker in workers.values():
            worker.ask("load", folder=folder, prompts=prompts, new=new, minibatch=minibatch)
        check_scores(workers, prompts, new=new, vocab_size=config["vocab_size"])
        times = race(workers, pairs=pairs)
    rows = [["", "s an iteration", "x TRL", "target"]]
    for side, values in times.items():
        peer = times.get("trl") if side == "tinyllm" else None
        ratio = with_quartiles([b / a for a, b in zip(values, peer, strict=True)]) if peer else ""
        rows.append([f"{size} {side}", f"{statistics.median(values):.2f}", ratio, f"{TARGET:g} x" if peer else ""])
    print("\n" + table(rows))
    return times


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="assistant", help="of all models (default: that of the assistant)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of both sides (default: all cores)")
    parser.add_argument("--batch", type=int, default=64, help="answers a rollout (default 64)")
    parser.add_argument("--minibatch", type=int, default=32, help="answers an optimizer step (default 32)")
    parser.add_argument("--prompt", type=int, nargs=2, default=[16, 48], help="shortest and longest prompt (default 16 48)")
    parser.add_argument("--new", type=int, default=48, help="tokens of an answer (default 48)")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--python", default=sys.executable, help="interpreter with TRL (default: this one)")
    parser.add_argument("--quick", action="store_true", help="a toy model and two pairs: does it run?")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(**args.worker)
    elif args.quick:
        main("quick", threads=args.threads, batch=4, minibatch=2, prompt=(2, 6), new=8, pairs=2, python=args.python)
    else:
        sizes = {"batch": args.batch, "minibatch": args.minibatch, "prompt": tuple(args.prompt), "new": args.new}
        main(args.size, threads=args.threads, pairs=args.pairs, python=args.python, **sizes)
