"""The same model, eight ways to read it: how the choice of the next token changes what is written.

A language model gives a probability to every token. Always taking the best one (greedy) is safe and loops; drawing from all of
them (temperature 1) stumbles over the long tail of bad tokens; the useful ways cut the tail off. Two measures are shown for
each strategy: distinct, the share of 4-grams that are not repeats (loops make it small), and surprise, the mean -log p per
token under the model itself (the tail makes it large). Human text lies between the extremes.
Holtzman et al. 2020, "The curious case of neural text degeneration".

Read next: tinyllm/decoding/logits.py.
"""

from __future__ import annotations

import numpy as np

from tinyllm import no_grad, ops
from tinyllm.data import RandomWindows, read_standard_library
from tinyllm.decoding import generate_texts
from tinyllm.models import GPT, GPTConfig
from tinyllm.optim import AdamW, clip_grad_norm, warmup_cosine
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


def train(steps: int, rng: np.random.Generator) -> tuple[GPT, BPETokenizer]:
    """A small GPT on the language reference, as in example 05 but on BPE tokens."""
    (source,) = read_standard_library(("reference",))
    text = b"\n".join(source.documents)[:800_000]
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
            print(f"step {step:4d}  loss {loss.item():.3f}")
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
    """Mean -log p of the texts' tokens after the prompt, in nats, under the model that wrote them."""
    losses, n_prompt = [], len(tokenizer.encode(prompt))
    for text in texts:
        ids = np.array(tokenizer.encode(prompt + text))[None, : model.config.block_size]
        if ids.shape[1] > n_prompt:
            with no_grad():
                logits = model(ids[:, :-1])[:, n_prompt - 1 :]
                losses.append(ops.cross_entropy(logits, ids[:, n_prompt:]).item())
    return float(np.mean(losses)) if losses else float("nan")


def main(steps: int = 500, seed: int = 0, n_texts: int = 6) -> dict[str, dict[str, float]]:
    """Train, then read the model in each way."""
    rng = np.random.default_rng(seed)
    model, tokenizer = train(steps, rng)
    prompt, results = "The statement", {}
    for name, settings in STRATEGIES.items():
        n = 1 if name.startswith(("greedy", "beam")) else n_texts  # these give the same text every time
        texts = generate_texts(model, tokenizer, [prompt] * n, max_new_tokens=64, rng=np.random.default_rng(seed), **settings)
        results[name] = {"distinct": distinct(texts), "surprise": surprise(model, tokenizer, prompt, texts)}
        print(f"\n{name}: distinct {results[name]['distinct']:.2f}, surprise {results[name]['surprise']:.2f}")
        print("    " + repr(prompt + texts[0])[:240])
    return results


if __name__ == "__main__":
    main()
