"""A GPT on characters: everything so far, put together, learning to write in about a minute.

The text is Python's own language reference, which every Python installation carries. The model sees 64 characters and
predicts the next, at every position at once. Watch the samples: first the frequencies of letters, then words, then the
habits of the text (indentation, lists, sentences). Watch the two losses: training falls below validation when the model
begins to remember instead of to understand.

Read next: tinyllm/models/gpt.py, tinyllm/nn/block.py.
"""

from __future__ import annotations

import time

import numpy as np

from tinyllm import ops
from tinyllm.data import EvaluationWindows, RandomWindows, read_standard_library
from tinyllm.decoding import generate_text
from tinyllm.models import GPT, GPTConfig
from tinyllm.nn import evaluating
from tinyllm.optim import AdamW, clip_grad_norm, warmup_cosine
from tinyllm.tokenizers import CharacterTokenizer


def reference_text(n_bytes: int) -> str:
    """The first n_bytes of the language reference, or what there is of it."""
    (source,) = read_standard_library(("reference",))
    return b"\n".join(source.documents)[:n_bytes].decode("utf-8", "ignore")


def evaluate(model: GPT, windows: EvaluationWindows) -> float:
    """Mean loss over the held-out windows, in nats per character."""
    with evaluating(model):
        losses = [ops.cross_entropy(model(batch.tokens), batch.targets).item() for batch in windows]
    return float(np.mean(losses))


def main(steps: int = 700, seed: int = 0) -> dict[str, float]:
    """Train and write; returns the last losses."""
    rng = np.random.default_rng(seed)
    text = reference_text(600_000)
    tokenizer = CharacterTokenizer.train([text])
    ids = np.array(tokenizer.encode(text))
    cut = int(0.9 * len(ids))
    shape = {"n_layers": 4, "n_heads": 4, "d_model": 128, "init_std": 0.05, "bias": False}
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=64, **shape), rng=rng)
    print(f"{len(ids):,} characters, {tokenizer.vocab_size} different; {model.num_parameters():,} weights")

    train = RandomWindows(ids[:cut], batch_size=12, block_size=64, rng=rng)
    held_out = EvaluationWindows(ids[cut:], batch_size=12, block_size=64, max_windows=96)
    optimizer = AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    start = time.perf_counter()
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, peak=2e-3, floor=1e-4, warmup_steps=50, max_steps=steps)
        batch = train.next_batch()
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(batch.tokens), batch.targets)
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        if step % max(1, steps // 5) == 0 or step == steps - 1:
            validation = evaluate(model, held_out)
            sample = generate_text(model, tokenizer, "The ", max_new_tokens=56, temperature=0.8, rng=rng)
            print(f"step {step:4d}  train {loss.item():.3f}  validation {validation:.3f}  {sample!r}")
    seconds = time.perf_counter() - start
    print(f"{steps} steps in {seconds:.0f} s, {1000 * seconds / steps:.0f} ms a step, samples included")
    return {"loss": loss.item(), "validation": validation}


if __name__ == "__main__":
    main()
