"""GRPO: a model that adds badly teaches itself to add well, from nothing but "right" and "wrong".

A small GPT sees a few hundred batches of sums and is stopped when it gets a quarter of them right. From there on nobody shows it
an answer: for each sum it writes eight answers, a program says which are right, and those become likelier at the cost of the
others. That is enough to learn the rest, carries included. Watch three numbers. The printed loss stays near 0 and says nothing.
The share of groups in which all eight answers agree (nothing to learn from) falls and rises again. The entropy falls as the model
grows sure of itself; when it reaches 0, learning is over, right or wrong.

Read next: tinyllm/rlhf/grpo.py, tinyllm/rlhf/policy_gradient.py.
"""

from __future__ import annotations

import time

import numpy as np

from tinyllm.decoding import generate
from tinyllm.models import GPT, GPTConfig
from tinyllm.optim import AdamW
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.rollout import Sample
from tinyllm.tokenizers import CharacterTokenizer
from tinyllm.training import TrainConfig, train

TOKENIZER = CharacterTokenizer.train(["0123456789+=;"])
STOP = ";"
(STOP_ID,) = TOKENIZER.encode(STOP)
PROMPT_LENGTH, ANSWER_LENGTH = len("12+34="), len("198;")
Sum = tuple[int, int]


def prompt(a: int, b: int) -> list[int]:
    """The ids of "a+b="."""
    return TOKENIZER.encode(f"{a}+{b}=")


def answer(a: int, b: int) -> list[int]:
    """The ids of the right answer and the stop token."""
    return TOKENIZER.encode(f"{a + b}{STOP}")


def split_sums(rng: np.random.Generator, n_test: int = 1000) -> tuple[list[Sum], list[Sum]]:
    """All 8,100 sums of two two-digit numbers, in random order: (to learn from, never to be learned from)."""
    sums = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    mixed = [sums[i] for i in rng.permutation(len(sums))]
    return mixed[n_test:], mixed[:n_test]


def accuracy(model: GPT, sums: list[Sum]) -> float:
    """Share of the sums that the model's likeliest answer gets right."""
    greedy = {"max_new_tokens": ANSWER_LENGTH, "temperature": 0, "stop_tokens": (STOP_ID,)}
    result = generate(model, [prompt(*each) for each in sums], **greedy)
    return float(np.mean([tokens == answer(*each) for tokens, each in zip(result.tokens, sums, strict=True)]))


def learn_from_demonstrations(model: GPT, sums: list[Sum], test: list[Sum], rng: np.random.Generator, *, until: float) -> int:
    """Ordinary supervised training, loss on the answer only, until `until` of the held-out sums are right; its steps."""
    width = PROMPT_LENGTH + ANSWER_LENGTH
    rows = [[*prompt(*each), *answer(*each)] for each in sums]
    tokens = np.array([row + [STOP_ID] * (width - len(row)) for row in rows])
    counted = np.array([[PROMPT_LENGTH <= t < len(row) for t in range(width)] for row in rows])
    optimizer = AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(5000):
        if step % 10 == 0 and accuracy(model, test[:300]) >= until:
            return step
        batch = rng.integers(0, len(rows), 64)
        optimizer.lr = 1e-3 * min(1, (step + 1) / 50)
        model.loss(tokens[batch, :-1], tokens[batch, 1:], mask=counted[batch, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return 5000


def main(steps: int = 600, seed: int = 0, until: float = 0.25) -> dict[str, float]:
    """Demonstrations until `until` of the sums are right, then `steps` steps of GRPO; accuracies on held-out sums."""
    rng = np.random.default_rng(seed)
    sums, test = split_sums(rng)
    shape = {"n_layers": 3, "n_heads": 4, "d_model": 96, "init_std": 0.06, "bias": False}
    model = GPT(GPTConfig(vocab_size=TOKENIZER.vocab_size, block_size=12, **shape), rng=rng)
    start = time.perf_counter()
    n_demonstrations = learn_from_demonstrations(model, sums, test, rng, until=until)
    before = accuracy(model, test)
    print(f"{n_demonstrations} steps of demonstrations: {before:.1%} of {len(test)} held-out sums right")

    def is_right(samples: list[Sample]) -> list[float]:
        return [float(sample.response == answer(*sums[sample.prompt_index])) for sample in samples]

    config = GRPOConfig(n_prompts=64, group_size=8, max_new_tokens=ANSWER_LENGTH, minibatch_size=512, normaliser="constant")
    grpo = GRPO(model, [prompt(*each) for each in sums], is_right, config=config, stop_id=STOP_ID, rng=rng)
    pace = {"learning_rate": 5e-4, "min_learning_rate": 2e-5, "warmup_steps": 5, "weight_decay": 0.0, "eval_interval": 0}
    training = TrainConfig(max_steps=steps, checkpoint_interval=0, **pace)
    print("step    reward  all agree  entropy   loss    held-out sums right")
    for record in train(model, grpo, config=training, loss_fn=grpo.loss, measure=grpo.measure):
        if record.step % max(1, steps // 10) == 0:
            facts = record.metrics
            print(
                f"{record.step:4d}    {facts['score']:.2f}    {facts['frac_zero_std']:6.0%}     {facts['entropy']:.3f}"
                f"  {record.loss:+.3f}    {accuracy(model, test):.1%}"
            )
    after = accuracy(model, test)
    seconds = time.perf_counter() - start
    print(f"before {before:.1%}, after {after:.1%}; {512 * steps:,} answers, {seconds:.0f} s in all")
    return {"before": before, "after": after, "loss": record.loss}


if __name__ == "__main__":
    main()
