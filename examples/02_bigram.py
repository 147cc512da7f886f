"""The smallest language model: guess the next character from the last one alone.

It is built twice. Counting: how often did each character follow each other one? Training: a table of logits, one row per
character, cross-entropy, gradient descent. Both end at the same place, because the table that minimises the cross-entropy
is the table of log frequencies: pre-training a language model *is* counting, where counting has become impossible because
the context is too long ever to be seen twice.

Read next: tinyllm/ops/cross_entropy.py.
"""

from __future__ import annotations

import textwrap

import lesson
import numpy as np

from tinyllm import Tensor, ops
from tinyllm.optim import AdamW
from tinyllm.report.chart import HeatMap, Line, Plot, picture

TEXT = textwrap.dedent("""
    The cat sat on the mat. The dog sat on the log. The cat saw the dog, and the dog saw the cat.
    A rat ran to the mat; the cat ran to the rat. The rat ran to the log, and there the dog sat.
    So the cat, the dog and the rat sat on the log, and the log sat on the mat, and that was that.
""").strip()


def count_model(ids: np.ndarray, n_chars: int) -> np.ndarray:
    """Probabilities (V, V): row a is how often each b followed a."""
    counts = np.zeros((n_chars, n_chars))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def sample(probabilities: np.ndarray, start: int, length: int, rng: np.random.Generator) -> list[int]:
    """A walk: each next id drawn from the row of the one before."""
    ids = [start]
    for _ in range(length):
        ids.append(int(rng.choice(len(probabilities), p=probabilities[ids[-1]])))
    return ids


def draw(losses: list[float], by_counting: float, trained: np.ndarray, counted: np.ndarray, chars: list[str]) -> str:
    """The loss on its way to counting's, and the table that training found, the likeliest next characters framed."""
    shown = [i for i, c in enumerate(chars) if c.isalpha() and c.islower() or c == " "]
    names = ["␣" if chars[i] == " " else chars[i] for i in shown]
    likeliest = counted[np.ix_(shown, shown)]
    return picture([
        Plot("loss (nats per character)", "step", [Line("training", range(len(losses)), losses)],
             levels=[(by_counting, f"by counting: {by_counting:.3f}")]),
        HeatMap("p(next | last) after training; framed: above 1/4 by counting", trained[np.ix_(shown, shown)], names, names,
                marked=[(int(i), int(j)) for i, j in zip(*np.nonzero(likeliest > 0.25), strict=True)]),
    ], title="Pre-training is counting", height=430, shares=(1, 1))  # fmt: skip


def main(steps: int = 400, seed: int = 0, *, figure: str | None = None) -> dict[str, float]:
    """Count, train, compare, and write."""
    rng = np.random.default_rng(seed)
    chars = sorted(set(TEXT))
    ids = np.array([chars.index(c) for c in TEXT])
    counted = count_model(ids, len(chars))
    by_counting = float(-np.log(counted[ids[:-1], ids[1:]]).mean())

    table = Tensor(np.zeros((len(chars), len(chars)), np.float32), requires_grad=True)
    optimizer = AdamW([table], lr=0.1, weight_decay=0.0)
    blind = np.log(len(chars))
    print(f"{len(TEXT)} characters, {len(chars)} different ones; a blind guess costs ln {len(chars)} = {blind:.3f} nats")
    losses: list[float] = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = ops.cross_entropy(ops.embedding(table, ids=ids[:-1]), ids[1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % max(1, steps // 8) == 0 or step == steps - 1:
            print(f"  step {step:4d}  loss {loss.item():.3f}")
    print(f"by counting, loss {by_counting:.3f} (training can come as close as one likes, never below)")

    trained = ops.softmax(Tensor(table.data)).data.astype(np.float64)
    trained /= trained.sum(axis=1, keepdims=True)
    start = chars.index("T")
    for name, probabilities in (("counted", counted), ("trained", trained)):
        text = "".join(chars[i] for i in sample(probabilities, start, 120, rng))
        print(f"\n{name}: {text!r}")
    print("\nIt has the letters' habits but no words: one character of context is all it sees. Attention is next.")
    lesson.save_figure(draw(losses, by_counting, trained, counted, chars), figure)
    return {"loss": losses[-1], "counting": by_counting, "blind": float(blind), "first": losses[0]}


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={"steps": "steps of gradient descent", "seed": "of what is written at the end"},
        full={"steps": 4000},
        full_time="ten seconds",
        tries=[
            ("--steps 5", "loss 2.51, and what it writes is a jumble of letters: the table is still nearly even"),
            ("--steps 100", "loss 1.044, 0.012 above counting's: the frequent pairs are right, the rare ones still leak"),
            ("--full", "4000 steps: loss 1.032, counting's to three digits, and never below it"),
        ],
    )
