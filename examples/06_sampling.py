"""The same model, eight ways to read it: how the choice of the next token changes what is written.

A language model gives a probability to every token. Always taking the best one (greedy) is safe and loops; drawing from all of
them (temperature 1) stumbles over the long tail of bad tokens; the useful ways cut the tail off. Two measures are shown for
each strategy: distinct, the share of 4-grams that are not repeats (loops make it small), and surprise, the mean -log p per
token under the model itself (the tail makes it large). Human text lies between the extremes.
Holtzman et al. 2020, "The curious case of neural text degeneration".

Read next: tinyllm/decoding/logits.py, `nucleus` first.
"""

from __future__ import annotations

import lesson
import numpy as np

from tinyllm import no_grad, ops
from tinyllm.data import RandomWindows, read_standard_library
from tinyllm.decoding import generate_texts
from tinyllm.models import GPT, GPTConfig
from tinyllm.optim import AdamW, clip_grad_norm, warmup_cosine
from tinyllm.report.chart import Bars, picture
from tinyllm.tokenizers import BPETokenizer

STRATEGIES: dict[str, dict] = {
    "greedy": {"temperature": 0.0},
    "beam search, 4 beams": {"n_beams": 4},
    "temperature 1": {"temperature": 1.0},
    "temperature 0.7": {"temperature": 0.7},
    "top-k 20": {"top_k": 20},
    "top-p 0.9": {"top_p": 0.9},
    "min-p 0.1": {"min_p": 0.1},
    "greedy, penalty 1.3": {"temperature": 0.0, "repetition_penalty": 1.3},
}
HUMAN = "human text"


def train(text: bytes, *, steps: int, rng: np.random.Generator) -> tuple[GPT, BPETokenizer]:
    """A small GPT on the language reference, as in example 05 but on BPE tokens."""
    tokenizer = BPETokenizer.train([text], vocab_size=1024)
    ids = np.array(tokenizer.encode(text))
    shape = {"n_layers": 3, "n_heads": 4, "d_model": 128, "init_std": 0.05}
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=96, **shape), rng=rng)
    batches = RandomWindows(ids, batch_size=12, block_size=96, rng=rng)
    optimizer = AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, peak=2e-3, floor=1e-4, warmup_steps=30, max_steps=steps)
        batch = batches.next_batch()
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(batch.tokens), batch.targets)
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        if step % max(1, steps // 4) == 0 or step == steps - 1:
            print(f"step {step:4d}  loss {loss.item():.3f}", flush=True)
    return model, tokenizer


def distinct(texts: list[str], n: int = 4) -> float:
    """Share of n-grams of words that are new within their text; 1 = never a repeat."""
    shares = []
    for text in texts:
        words = text.split()
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        shares.append(len(set(grams)) / len(grams) if grams else 1.0)
    return float(np.mean(shares))


def surprise(model: GPT, tokenizer: BPETokenizer, prompt: str, texts: list[str]) -> float:
    """Mean -log p of the texts' tokens after the prompt, in nats, under the model."""
    losses, n_prompt = [], len(tokenizer.encode(prompt))
    for text in texts:
        ids = np.array(tokenizer.encode(prompt + text))[None, : model.config.block_size]
        if ids.shape[1] > n_prompt:
            with no_grad():
                logits = model(ids[:, :-1])[:, n_prompt - 1 :]
                losses.append(ops.cross_entropy(logits, ids[:, n_prompt:]).item())
    return float(np.mean(losses)) if losses else float("nan")


def human_passages(text: bytes, n: int, rng: np.random.Generator) -> list[str]:
    """Passages of the text itself, as long as the model's: what a person wrote, to compare with."""
    starts = rng.integers(0, len(text) - 250, n)
    return [text[start : start + 200].decode("utf-8", "ignore").partition(" ")[2] for start in starts]


def draw(found: dict[str, dict[str, float]]) -> str:
    """Both measures of every strategy beside those of human text."""
    names = [name for name in found if name != HUMAN]
    panels = [
        Bars(title, names, {"": [found[name][measure] for name in names]}, levels=[(found[HUMAN][measure], "human text")],
             form=lambda value: f"{value:.2f}", paint=[colour] * len(names))
        for measure, title, colour in (("distinct", "distinct: share of 4-grams that are no repeats", 0),
                                       ("surprise", "surprise: nats per token under the model", 1))
    ]  # fmt: skip
    return picture(panels, title="One model, eight ways to read it", height=340)


def main(steps: int = 300, seed: int = 0, *, n_texts: int = 6, figure: str | None = None) -> dict[str, dict[str, float]]:
    """Train, then read the model in each way."""
    rng = np.random.default_rng(seed)
    (source,) = read_standard_library(("reference",))
    text = b"\n".join(source.documents)
    seen, held_out = text[:-50_000], text[-50_000:]
    model, tokenizer = train(seen, steps=steps, rng=rng)
    prompt, results = "The statement", {}
    for name, settings in STRATEGIES.items():
        n = 1 if name.startswith(("greedy", "beam")) else n_texts  # these give the same text every time
        texts = generate_texts(model, tokenizer, [prompt] * n, max_new_tokens=64, rng=np.random.default_rng(seed), **settings)
        results[name] = {"distinct": distinct(texts), "surprise": surprise(model, tokenizer, prompt, texts)}
        print(f"\n{name}: distinct {results[name]['distinct']:.2f}, surprise {results[name]['surprise']:.2f}")
        print("    " + repr(prompt + texts[0])[:240])
    texts = human_passages(held_out, 10 * n_texts, np.random.default_rng(seed))
    results[HUMAN] = {"distinct": distinct(texts), "surprise": surprise(model, tokenizer, prompt, texts)}
    print(f"\n{HUMAN}, {len(texts)} passages of text not trained on: distinct {results[HUMAN]['distinct']:.2f}, "
          f"surprise {results[HUMAN]['surprise']:.2f}")  # fmt: skip
    lesson.save_figure(draw(results), figure)
    return results


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={"steps": "steps of training", "seed": "of weights and samples", "n_texts": "texts for each strategy that draws"},
        full={"steps": 2000, "n_texts": 24},
        full_time="about three minutes",
        tries=[
            (
                "--steps 0",
                "an untrained model: every strategy draws from 1,024 nearly equal tokens, surprise about 7 for each that "
                "draws, 7.08 for human text; what to cut off is learned, too",
            ),
            (
                "--steps 40",
                "surprise 6.04 at temperature 1, 5.95 for human text, 5.75 with top-p 0.9: its nearness to human text is "
                "there from early on",
            ),
            (
                "--seed 1",
                "human text 4.36, top-p 0.9 3.94, temperature 1 4.63; greedy repeats itself again (distinct 0.71), beam "
                "search less this time (0.94)",
            ),
        ],
    )
