"""Learning from preferences without a reward model and without sampling while learning: DPO on the news.

The model of example 09 answers each story a few times, a simulated labeler says which of two answers is better, and DPO raises
the probability of the one over the other, measured against the model it began as. Watch three numbers: the margin grows; the
log-probability of the *chosen* answers falls too (tinyllm/rlhf/dpo.py says why); and the gold reward of new answers to unseen
stories, which nobody trained on, rises by more than a standard deviation. `loss` may be any of rlhf.dpo.LOSSES.

Read next: tinyllm/rlhf/dpo.py.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np

from tinyllm.rlhf.comparisons import encode_preferences
from tinyllm.rlhf.dpo import DPO, LOSSES, PreferencePairs
from tinyllm.rlhf.news_task import (
    BLOCK_SIZE,
    gold_rewards,
    label,
    make_stories,
    sample_answers,
    settings,
    sft_news_model,
)
from tinyllm.tokenizers import BPETokenizer
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import train

BETAS = {"dpo": 0.1, "robust": 0.1, "ipo": 0.1, "length-normalised": 2.0, "simpo": 2.0}
K = 4  # answers to a story
NOISE = 0.5


def judge(model: Any, tokenizer: BPETokenizer, *, n_stories: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Gold rewards (n_stories,) of one answer each to unseen stories, and the first few answers."""
    stories = make_stories(n_stories, split="test", seed=seed + 30)
    answers = sample_answers(model, tokenizer, stories, k=1, rng=np.random.default_rng(seed + 30))
    return gold_rewards(stories, answers)[:, 0], [texts[0] for texts in answers[:3]]


def prefer(model: Any, tokenizer: BPETokenizer, source: PreferencePairs, *, loss: str, seed: int, max_steps: int | None) -> Any:
    """One epoch of DPO over the source's pairs on a copy of `model`."""
    policy = copy.deepcopy(model)
    objective = DPO(LOSSES[loss], beta=BETAS[loss])
    steps = min(source.steps_per_epoch, max_steps or source.steps_per_epoch)
    config = settings(steps=steps, batch_size=source.batch_size, learning_rate=3e-4, seed=seed)
    for record in train(policy, source, config=config, loss_fn=objective, measure=objective.measure):
        if record.step == 1 or record.step % max(1, steps // 8) == 0:
            shown = record.metrics
            print(f"  step {record.step:4d}  loss {record.loss:.3f}  margin {shown['reward_margin']:6.3f}  accuracy "
                  f"{shown['reward_accuracy']:.2f}  log p(chosen) {shown['chosen_log_prob']:6.1f}", flush=True)  # fmt: skip
    policy.eval()
    return policy


def main(
    steps: int = 600, seed: int = 0, loss: str = "dpo", n_stories: int = 1000, n_test: int = 200, max_steps: int | None = None
) -> dict[str, float]:
    """SFT, pairs, DPO; returns the gold rewards before and after."""
    start = time.perf_counter()
    sft, tokenizer = sft_news_model(steps=steps, seed=seed)
    print(f"SFT: {steps} steps in {time.perf_counter() - start:.0f} s")
    stories = make_stories(n_stories, split="train", seed=seed + 10)
    answers = sample_answers(sft, tokenizer, stories, k=K, rng=np.random.default_rng(seed + 10))
    preferences = label(stories, answers, noise=NOISE, seed=seed)
    groups, report = encode_preferences(preferences, ChatFormat(tokenizer), block_size=BLOCK_SIZE)
    source = PreferencePairs(groups, reference=sft, batch_size=32, rng=np.random.default_rng(seed))
    print(f"{report}\n{loss}, beta {BETAS[loss]}, {time.perf_counter() - start:.0f} s")
    policy = prefer(sft, tokenizer, source, loss=loss, seed=seed, max_steps=max_steps)
    before, after = (judge(model, tokenizer, n_stories=n_test, seed=seed) for model in (sft, policy))
    gain = float(after[0].mean() - before[0].mean())
    deviation = float(before[0].std())
    for one, other in zip(before[1], after[1], strict=True):
        print(f"  before: {one}\n  after:  {other}")
    error = float(np.hypot(before[0].std(), after[0].std()) / np.sqrt(n_test))
    print(f"gold reward on {n_test} unseen stories: {before[0].mean():.2f} -> {after[0].mean():.2f}, "
          f"a gain of {gain:.2f} ± {error:.2f}, {gain / deviation:.2f} standard deviations of the SFT model's")  # fmt: skip
    print(f"{time.perf_counter() - start:.0f} s in all")
    return {"before": float(before[0].mean()), "after": float(after[0].mean()), "deviation": deviation, "gain": gain}


if __name__ == "__main__":
    main()
