"""A GPT on characters: everything so far, put together, learning to write in half a minute.

The text is Python's own language reference, which every Python installation carries. The model sees 64 characters and
predicts the next, at every position at once. Watch the samples: first the frequencies of letters, then words, then the
habits of the text (indentation, lists, sentences). Watch the two losses: training falls below validation when the model
begins to remember instead of to understand.

Read next: tinyllm/models/plain_gpt.py, then models/gpt.py, nn/block.py.
"""

from __future__ import annotations

import time

import lesson
import numpy as np

from tinyllm import ops
from tinyllm.data import EvaluationWindows, RandomWindows, read_standard_library
from tinyllm.decoding import generate_text
from tinyllm.models import GPT, GPTConfig
from tinyllm.nn import evaluating
from tinyllm.optim import AdamW, clip_grad_norm, warmup_cosine
from tinyllm.report.chart import Line, Plot, Words, picture
from tinyllm.report.curves import smooth
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


def draw(losses: list[float], checks: list[tuple[int, float, str]]) -> str:
    """Both losses, and what the model wrote on its way; checks: (step, validation loss, sample)."""
    steps = range(len(losses))
    return picture([
        Plot("loss (nats per character)", "step", [
            Line("", steps, losses, faint=True), Line("training, smoothed", steps, smooth(losses, 10)),
            Line("validation", [step for step, *_ in checks], [loss for _, loss, _ in checks], colour=1, dots=3.5)]),
        Words("what it writes", [(f"step {step}", [repr(sample)[1:-1]]) for step, _, sample in checks], size=11),
    ], title="A GPT learns to write, letter by letter", shares=(1, 1.25))  # fmt: skip


def main(steps: int = 350, seed: int = 0, *, n_layers: int = 4, figure: str | None = None) -> dict[str, float]:
    """Train and write; returns the last losses."""
    rng = np.random.default_rng(seed)
    text = reference_text(600_000)
    tokenizer = CharacterTokenizer.train([text])
    ids = np.array(tokenizer.encode(text))
    cut = int(0.9 * len(ids))
    shape = {"n_layers": n_layers, "n_heads": 4, "d_model": 128, "init_std": 0.05, "bias": False}
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=64, **shape), rng=rng)
    print(f"{len(ids):,} characters, {tokenizer.vocab_size} different; {model.num_parameters():,} weights")

    train = RandomWindows(ids[:cut], batch_size=12, block_size=64, rng=rng)
    held_out = EvaluationWindows(ids[cut:], batch_size=12, block_size=64, max_windows=96)
    optimizer = AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    losses, checks, start = [], [], time.perf_counter()
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, peak=2e-3, floor=1e-4, warmup_steps=50, max_steps=steps)
        batch = train.next_batch()
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(batch.tokens), batch.targets)
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % max(1, steps // 5) == 0 or step == steps - 1:
            validation = evaluate(model, held_out)
            sample = generate_text(model, tokenizer, "The ", max_new_tokens=56, temperature=0.8, rng=rng)
            checks.append((step, validation, sample))
            print(f"step {step:4d}  train {loss.item():.3f}  validation {validation:.3f}  {sample!r}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{steps} steps in {seconds:.0f} s, {1000 * seconds / steps:.0f} ms a step, samples included")
    lesson.save_figure(draw(losses, checks), figure)
    return {"loss": losses[-1], "validation": validation, "first": losses[0], "blind": float(np.log(tokenizer.vocab_size))}


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={
            "steps": "steps of training",
            "seed": "of weights, windows and samples",
            "n_layers": "blocks, one after the other",
        },
        full={"steps": 2000},
        full_time="about two minutes",
        tries=[
            (
                "--steps 25",
                "validation 2.80 instead of 1.92: it knows which letters are frequent, and that words are a few letters long",
            ),
            (
                "--steps 100",
                "validation 2.36: pairs and triples of letters are right, lines of = and - are complete, words are not",
            ),
            (
                "--n-layers 1",
                "validation 1.95 instead of 1.92 in a quarter of the time: so early, depth buys little; it does later, "
                "with more steps",
            ),
        ],
    )
