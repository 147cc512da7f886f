"""Unigram: a vocabulary that begins far too large, and is pruned while one watches.

BPE starts with letters and joins them. Unigram starts with every piece of text that occurs twice, and gives each a probability:
a word can then be cut in many ways, each as probable as the product of its pieces. EM makes the probabilities fit the words:
how often is each piece expected, over all cuts (E)? That, divided by the whole, is its new probability (M). Then the quarter of
the pieces that is missed least is thrown out, and EM begins again. Kudo 2018, section 3.2.

Read next: tinyllm/tokenizers/unigram_train.py (learning), unigram.py (the best cut, and drawing others).
"""

from __future__ import annotations

from collections import Counter

import lesson
import numpy as np

from tinyllm.data import read_standard_library
from tinyllm.report.chart import Line, Plot, Words, picture
from tinyllm.tokenizers.unigram_train import PlainCorpus, best_cut, best_scores, expected_counts, learn_pieces

N_SEEDS = 6000


def by_hand() -> None:
    """One E step on one word: all cuts of "hugs" out of six pieces, and what each piece is expected to be used."""
    scores = {("h",): 0.1, ("u",): 0.1, ("g",): 0.1, ("s",): 0.2, ("h", "u", "g"): 0.3, ("u", "g", "s"): 0.2}
    logs = {piece: float(np.log(p)) for piece, p in scores.items()}
    counts, likelihood = expected_counts([(("h", "u", "g", "s"), 1)], logs)
    print("pieces and their probabilities:", ", ".join(f"{''.join(piece)} {p}" for piece, p in scores.items()))
    print("cuts of 'hugs': hug|s 0.3 x 0.2 = 0.06,  h|ugs 0.1 x 0.2 = 0.02,  h|u|g|s 0.1 x 0.1 x 0.1 x 0.2 = 0.0002")
    print(f"  together {np.exp(likelihood):.4f}; expected:", ", ".join(f"{''.join(p)} {c:.3f}" for p, c in counts.items()))


def word_counts(n_words: int) -> list[tuple[tuple[str, ...], int]]:
    """The most frequent words of Python's language reference, each with its space, as letters."""
    sources = read_standard_library(("reference",))
    text = b" ".join(document for source in sources for document in source.documents).decode("utf-8", "replace")
    words = Counter(word for word in text.split() if word.isalpha() and word.isascii())
    return [(tuple(f" {word}"), count) for word, count in words.most_common(n_words)]


def draw(rounds: list[tuple[int, float]], cuts: list[tuple[str, list[str]]]) -> str:
    """How the likelihood falls as pieces go, and how one word is cut meanwhile."""
    sizes, values = zip(*rounds, strict=True)
    return picture([
        Words("a word's best cut, as pieces go", [(label, cut) for label, cut in cuts]),
        Plot("log likelihood, nats a letter", "pieces left", [Line("", sizes, values, dots=3)], log="x"),
    ], title="A vocabulary pruned by EM", shares=(1.15, 1), height=330)  # fmt: skip


def main(
    steps: int = 100, seed: int = 0, *, word: str = "representation", n_words: int = 2500, figure: str | None = None
) -> dict[str, float]:
    """`steps` is the number of pieces to end with. (Nothing here is random: seed is unused.)"""
    by_hand()
    words = word_counts(n_words)
    letters = sorted({letter for spelled, _ in words for letter in spelled})
    number = {letter: i for i, letter in enumerate(letters)}
    symbols, weights = [-1], [0]
    for spelled, count in words:
        symbols += [*(number[letter] for letter in spelled), -1]
        weights += [count] * (len(spelled) + 1)
    n_letters = sum(len(spelled) * count for spelled, count in words)
    corpus = PlainCorpus(np.array(symbols, np.int32), np.array(weights, np.int64), len(letters), N_SEEDS)
    print(f"\n{len(words):,} words, {n_letters:,} letters; {len(corpus.pieces()):,} pieces to begin with")

    rounds: list[tuple[int, float]] = []

    def told(pieces: list[tuple[int, ...]], likelihood: float) -> None:
        if rounds and rounds[-1][0] == len(pieces):
            rounds.pop()  # of the two rounds of EM between prunings, the second
        rounds.append((len(pieces), likelihood / n_letters))

    asked = tuple(number[letter] for letter in f" {word}" if letter in number)
    cuts: list[tuple[str, list[str]]] = []

    def watched(stage: str, done: int, total: int | None) -> None:
        counts, _ = corpus.expected(np.log(corpus.counts / corpus.counts.sum() + 1e-12))
        scores, _ = best_scores(counts, corpus.lengths)
        _, cut = best_cut(asked, dict(zip(corpus.pieces(), scores.tolist(), strict=True)))
        cuts.append((f"{len(corpus.pieces()):,}", ["".join(letters[i] for i in piece) for piece in cut]))
        print(f"  {cuts[-1][0]:>6} pieces, {rounds[-1][1]:.4f} nats a letter: " + "|".join(cuts[-1][1]))

    pieces, scores = learn_pieces(corpus, n_characters=len(letters), n_pieces=steps, progress=watched, told=told)
    spelled = ["".join(letters[i] for i in piece) for piece in pieces]
    print("\nthe most probable:", " ".join(repr(piece) for piece in spelled[:12]))
    print("the longest:", " ".join(repr(piece) for piece in sorted(spelled, key=len)[-8:]))
    shown = [cuts[i] for i in sorted({round(k * (len(cuts) - 1) / 7) for k in range(8)})]
    lesson.save_figure(draw(rounds, shown), figure)
    return {"best": max(value for _, value in rounds), "last": rounds[-1][1], "pieces": len(pieces), "cut": len(cuts[-1][1])}


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={
            "steps": "pieces to end with",
            "seed": "unused: nothing here is random",
            "word": "a word to watch",
            "n_words": "words to learn from",
        },
        full={"steps": 300, "n_words": 6000},
        full_time="five seconds",
        tries=[
            (
                "--steps 60",
                "-2.69 nats a letter instead of -2.30: 51 of the 60 pieces are single characters, and 'representation' is "
                "spelled in 12 pieces and a space",
            ),
            (
                "--word misinterpretations",
                "a word that is not among the 2,500: 7 pieces at first (m is in ter pre t ations), 14 and a space at the "
                "end, of which only er, re and ion are longer than a letter",
            ),
            (
                "--full",
                "300 pieces from 2,944 words: -1.74 nats a letter, and 'representation' is still ' represent' and 'ation'",
            ),
        ],
    )
