"""Attention, looked at: one layer learns to look things up, and we watch where it looks.

The task: eight cards, each with a letter and a digit, then a letter: say its digit. "k3 a7 f1 m9 ... a?" -> 7. Cards are
shuffled every time, so no fixed pattern of places solves it: the question must find the card that holds its own letter
and read what else is on it. That is what a query (what am I looking for?), a key (what do I hold?) and a value (what do
I tell?) are for. Before training the heat map is grey; after it, one bright cell in each row: the place of the answer.

With matplotlib (pip install -e '.[ui]') the picture is written to attention.png, else it is drawn in the terminal.
Read next: tinyllm/ops/attention.py, tinyllm/nn/attention.py.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np

from tinyllm import Tensor, no_grad, ops
from tinyllm.nn import Embedding, Linear, Module, SelfAttention
from tinyllm.optim import AdamW

LETTERS, N_CARDS, BLANK = "abcdefghijklmnop", 8, 10  # BLANK: the digit on a question


class LookUp(Module):
    """What stands at a place is letter + digit; one attention head; a linear map to the ten digits."""

    def __init__(self, width: int, rng: np.random.Generator):
        std = 1 / math.sqrt(width)
        self.letters = Embedding(len(LETTERS), width, std=0.3, rng=rng)
        self.digits = Embedding(11, width, std=0.3, rng=rng)
        self.attention = SelfAttention(width, 1, causal=False, bias=False, std=std, out_std=std, rng=rng)
        self.head = Linear(width, 10, rng=rng)

    def embed(self, letters: np.ndarray, digits: np.ndarray) -> Tensor:
        """(B, T) each -> (B, T, C)."""
        return self.letters(letters) + self.digits(digits)

    def __call__(self, letters: np.ndarray, digits: np.ndarray) -> Tensor:
        """(B, T) each -> logits (B, T, 10)."""
        return self.head(self.attention(self.embed(letters, digits)))

    def weights(self, letters: np.ndarray, digits: np.ndarray) -> np.ndarray:
        """P = softmax(Q Kᵀ / √D), (B, T, S), written out: the fast kernel never stores it."""
        with no_grad():
            qkv = self.attention.qkv(self.embed(letters, digits)).data  # (B, T, 3C)
            query, key, _ = np.split(qkv, 3, axis=2)
            return ops.softmax(Tensor(query @ key.transpose(0, 2, 1) / math.sqrt(key.shape[2]))).data


def deal(batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """letters (B, 2n), digits (B, 2n): n cards, then n questions about them in another order; answers (B, n)."""
    letters = np.argsort(rng.random((batch_size, len(LETTERS))), axis=1)[:, :N_CARDS]
    digits = rng.integers(0, 10, (batch_size, N_CARDS))
    order = np.argsort(rng.random((batch_size, N_CARDS)), axis=1)
    asked, answers = np.take_along_axis(letters, order, 1), np.take_along_axis(digits, order, 1)
    return np.hstack([letters, asked]), np.hstack([digits, np.full_like(digits, BLANK)]), answers


def draw_text(weights: np.ndarray, cards: list[str], questions: list[str]) -> None:
    """One line a question, one column a card: darker is more."""
    print("        " + " ".join(cards))
    for row, question in zip(weights, questions, strict=True):
        print(f"    {question}  " + " ".join(" ░▒▓█"[min(4, int(w * 5))] * 2 for w in row))


def draw_picture(maps: dict[int, np.ndarray], cards: list[str], questions: list[str], path: Path) -> None:
    """The heat map at several steps, side by side, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(maps), figsize=(3.6 * len(maps), 4), sharey=True, squeeze=False)
    for axis, (step, weights) in zip(axes[0], maps.items(), strict=True):
        image = axis.imshow(weights, vmin=0, vmax=1, cmap="magma")
        axis.set_xticks(range(N_CARDS), cards)
        axis.set_yticks(range(N_CARDS), questions)
        axis.set_title(f"after {step} steps")
        axis.set_xlabel("card: what is looked at (key)")
    axes[0][0].set_ylabel("question: who is looking (query)")
    figure.suptitle("Attention learns to look things up")
    figure.colorbar(image, ax=list(axes[0]), label="attention weight", fraction=0.02, pad=0.02)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def main(steps: int = 120, seed: int = 0, picture: str = "attention.png") -> dict[str, float]:
    """Train the look-up, measure it on new cards, and show where the questions look."""
    rng = np.random.default_rng(seed)
    model = LookUp(32, rng)
    optimizer = AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    letters, digits, answers = deal(1, rng)
    cards = [LETTERS[letter] + str(digit) for letter, digit in zip(letters[0], digits[0], strict=True)][:N_CARDS]
    questions = [LETTERS[letter] + "?" for letter in letters[0, N_CARDS:]]
    maps: dict[int, np.ndarray] = {}
    for step in range(steps + 1):
        if step in (0, steps // 8, steps // 4, steps):
            maps[step] = model.weights(letters, digits)[0, N_CARDS:, :N_CARDS]
        some_letters, some_digits, some_answers = deal(64, rng)
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(some_letters, some_digits)[:, N_CARDS:], some_answers)
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 6) == 0:
            print(f"step {step:4d}  loss {loss.item():.3f}   (guessing: ln 10 = {math.log(10):.3f})")

    new_letters, new_digits, new_answers = deal(200, rng)
    with no_grad():
        said = model(new_letters, new_digits).data[:, N_CARDS:].argmax(axis=2)
    accuracy = float((said == new_answers).mean())
    print(f"right on {accuracy:.1%} of the questions about 200 new hands of cards")
    print("where each question looks, for one hand:")
    draw_text(maps[steps], cards, questions)
    if importlib.util.find_spec("matplotlib"):
        draw_picture(maps, cards, questions, Path(picture))
        print(f"the same as a picture, from before training to after it: {picture}")
    return {"accuracy": accuracy, "loss": loss.item()}


if __name__ == "__main__":
    main()
