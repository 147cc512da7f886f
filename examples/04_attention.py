"""Attention, looked at: one layer learns to look things up, and we watch where it looks.

The task: eight cards, each with a letter and a digit, then a letter: say its digit. "k3 a7 f1 m9 ... a?" -> 7. Cards are
shuffled every time, so no fixed pattern of places solves it: the question must find the card that holds its own letter
and read what else is on it. That is what a query (what am I looking for?), a key (what do I hold?) and a value (what do
I tell?) are for. Before training the heat map is grey; after it, one bright cell in each row: the place of the answer.

Read next: tinyllm/ops/plain_attention.py, then ops/attention.py, nn/attention.py.
"""

from __future__ import annotations

import math

import lesson
import numpy as np

from tinyllm import Tensor, no_grad, ops
from tinyllm.nn import Embedding, Linear, Module, SelfAttention
from tinyllm.optim import AdamW
from tinyllm.report.chart import HeatMap, picture

LETTERS, N_CARDS, BLANK = "abcdefghijklmnop", 8, 10  # BLANK: the digit on a question


class LookUp(Module):
    """What stands at a place is letter + digit; one attention head; a linear map to the ten digits."""

    def __init__(self, width: int, rng: np.random.Generator):
        std = 1 / math.sqrt(width)
        self.letters = Embedding(len(LETTERS), width, std=0.3, rng=rng)
        self.digits = Embedding(11, width, std=0.3, rng=rng)
        self.attention = SelfAttention(width, 1, bias=False, std=std, out_std=std, rng=rng)
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


def draw(maps: dict[int, np.ndarray], cards: list[str], questions: list[str]) -> str:
    """The heat map at several steps, side by side; framed: the card that holds the answer."""
    answers = [(i, [card[0] for card in cards].index(question[0])) for i, question in enumerate(questions)]
    panels = [
        HeatMap(f"after {step} steps", weights.tolist(), questions, cards, across="the card that is looked at", marked=answers)
        for step, weights in sorted(maps.items())
    ]
    return picture(panels, title="Attention learns to look things up (framed: where the answer is)", height=330)


def main(steps: int = 120, seed: int = 0, *, width: int = 32, figure: str | None = None) -> dict[str, float]:
    """Train the look-up, measure it on new cards, and show where the questions look."""
    rng = np.random.default_rng(seed)
    model = LookUp(width, rng)
    optimizer = AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    letters, digits, answers = deal(1, rng)
    cards = [LETTERS[letter] + str(digit) for letter, digit in zip(letters[0], digits[0], strict=True)][:N_CARDS]
    questions = [LETTERS[letter] + "?" for letter in letters[0, N_CARDS:]]
    maps: dict[int, np.ndarray] = {}
    for step in range(steps + 1):
        if step in (0, steps // 3, steps):
            maps[step] = model.weights(letters, digits)[0, N_CARDS:, :N_CARDS]
        if step == steps:
            break
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
    looked = model.weights(new_letters, new_digits)[:, N_CARDS:, :N_CARDS]  # (200, questions, cards)
    right_card = new_letters[:, N_CARDS:, None] == new_letters[:, None, :N_CARDS]
    accuracy, weight = float((said == new_answers).mean()), float(looked[right_card].mean())
    print(f"right on {accuracy:.1%} of the {new_answers.size} questions about 200 new hands of cards; "
          f"{weight:.0%} of a question's attention is on the card that holds its answer (evenly spread: 6 %)")  # fmt: skip
    print("where each question looks, for one hand:")
    draw_text(maps[steps], cards, questions)
    lesson.save_figure(draw(maps, cards, questions), figure)
    return {"accuracy": accuracy, "weight": weight, "loss": loss.item()}


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={"steps": "steps of training", "seed": "of weights and cards", "width": "numbers for a card (C)"},
        full={"steps": 1000},
        full_time="15 seconds",
        tries=[
            (
                "--steps 40",
                "97.5 % right although the map is still blurred: 63 % of the attention is on the right card; the largest "
                "part is enough",
            ),
            (
                "--width 4",
                "24.4 % right, 17 % of the attention on the right card: four numbers are too few to tell 16 letters apart "
                "in 120 steps",
            ),
            (
                "--full",
                "1000 steps: 100 % as before, and the attention on the right card goes from 88 to 90 % only: nothing asks "
                "for more",
            ),
        ],
    )
