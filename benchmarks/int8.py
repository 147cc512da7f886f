"""What rounding the weights to int8 costs in perplexity, and what it saves: the same trained model, before and after.

    python benchmarks/int8.py --data shakespeare.txt          (--steps 600; --model FOLDER --data FILE for a model of yours)

Without --model a character model of nanoGPT's CPU shape is trained first, a minute or less. The last tenth of the text is held
out and read by both models, window by window; the loss in perplexity is that ratio, and because both read the same windows its
standard error is that of the differences between them, far below that of either perplexity. The share of positions at
which both find the same token likeliest is what greedy decoding will notice.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from tinyllm import kernels, ops
from tinyllm.data import EvaluationWindows, RandomWindows
from tinyllm.models import GPT, GPTConfig, load_tokenizer_for
from tinyllm.nn import evaluating, quantize
from tinyllm.optim import AdamW, clip_grad_norm, warmup_cosine
from tinyllm.tokenizers import CharacterTokenizer

SHAPE: dict[str, Any] = {"block_size": 64, "n_layers": 4, "n_heads": 4, "d_model": 128, "bias": False, "init_std": 0.05}
HELD_OUT = 0.1  # of the text, at its end
MAX_WINDOWS = 2000


def trained(ids: np.ndarray, vocab_size: int, *, steps: int, seed: int) -> GPT:
    """A character model of nanoGPT's CPU shape after `steps` batches of 12 windows."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(vocab_size=vocab_size, **SHAPE), rng=rng)
    windows = RandomWindows(ids, batch_size=12, block_size=SHAPE["block_size"], rng=rng)
    optimizer = AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, peak=1e-3, floor=1e-4, warmup_steps=min(100, steps // 5), max_steps=steps)
        batch = windows.next_batch()
        optimizer.zero_grad()
        ops.cross_entropy(model(batch.tokens), batch.targets).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    return model


def read(model: GPT, windows: EvaluationWindows) -> tuple[np.ndarray, np.ndarray]:
    """For each window its mean of -log p, (W,), and the likeliest token at each position, (W, T)."""
    nats, likeliest = [], []
    with evaluating(model):
        for batch in windows:
            logits = model(batch.tokens).data
            nll, _ = kernels.cross_entropy_forward(logits.reshape(-1, logits.shape[-1]), batch.targets.ravel())
            nats.append(nll.reshape(batch.targets.shape).astype(np.float64).mean(axis=1))
            likeliest.append(logits.argmax(axis=-1))
    return np.concatenate(nats), np.concatenate(likeliest)


def n_bytes(model: GPT) -> int:
    """Bytes of all weights."""
    return sum(array.nbytes for array in model.state_dict().values())


def compare(model: GPT, windows: EvaluationWindows) -> dict[str, float]:
    """Perplexity, bytes and agreement of `model` before and after `quantize`, which it is afterwards."""
    before, size = read(model, windows), n_bytes(model)
    quantize(model)
    after = read(model, windows)
    difference = after[0] - before[0]
    return {
        "float32": math.exp(before[0].mean()),
        "int8": math.exp(after[0].mean()),
        "loss": math.expm1(difference.mean()),
        "error": float(difference.std(ddof=1) / math.sqrt(len(difference))) if len(difference) > 1 else math.nan,
        "agreement": float((before[1] == after[1]).mean()),
        "n_tokens": after[1].size,
        "float32_bytes": size,
        "int8_bytes": n_bytes(model),
    }


def main(data: str, model_folder: str | None = None, *, steps: int = 600, seed: int = 1337) -> dict[str, float]:
    """Train or load, compare, print; returns what was measured."""
    text = Path(data).read_text(encoding="utf-8")
    tokenizer = load_tokenizer_for(model_folder) if model_folder else CharacterTokenizer([*sorted(set(text))])
    cut = int((1 - HELD_OUT) * len(text))
    held_out = np.array(tokenizer.encode(text[cut:]), dtype=np.int64)
    if model_folder:
        model = GPT.from_pretrained(model_folder)
    else:
        ids = np.array(tokenizer.encode(text[:cut]), dtype=np.int64)
        model = trained(ids, tokenizer.vocab_size, steps=steps, seed=seed)
    windows = EvaluationWindows(held_out, batch_size=16, block_size=model.config.block_size, max_windows=MAX_WINDOWS)
    result = compare(model, windows)
    print(f"{result['n_tokens']:,} held-out tokens")
    for kind in ("float32", "int8"):
        print(f"{kind:8s} perplexity {result[kind]:8.4f}   weights {result[f'{kind}_bytes'] / 1e6:8.2f} MB")
    print(
        f"loss in perplexity {result['loss']:+.3%} ± {result['error']:.3%}; the same token is likeliest at "
        f"{result['agreement']:.2%} of positions"
    )
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="text; its last tenth is held out")
    parser.add_argument("--model", help="folder of a trained model with its tokenizer (default: train a small one)")
    parser.add_argument("--steps", type=int, default=600, help="training steps of the small model (default 600)")
    parser.add_argument("--seed", type=int, default=1337, help="of its weights and batches (default 1337)")
    options = parser.parse_args()
    main(options.data, options.model, steps=options.steps, seed=options.seed)
