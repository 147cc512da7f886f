"""Learning a Unigram vocabulary: begin with far too many pieces, and throw out those whose loss is felt least.

    1  seeds     every piece of text that occurs twice, and every character
    2  E step    how often each piece is expected, over all cuts of all words, each as probable as its pieces make it
       M step    log p(x) = ψ(count of x) - ψ(count of all)          (Kudo 2018, section 3.2; ψ: Bayes prefers few pieces)
    3  prune     leave out a quarter of the pieces: those for which the likelihood falls least if their best other cut is used
    repeat 2 and 3 until the vocabulary is small enough

Merging goes from small to large and never looks back; this goes from large to small, and every piece must earn its place at each
round. `seed_pieces`, `expected_counts`, `best_scores` and `prune` are these steps; for a large corpus `unigram_corpus` does the
same in arrays and kernels (`kernels/text/unigram_training.py`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from tinyllm.tokenizers.pair_training import words_of
from tinyllm.tokenizers.word_counts import Progress

Symbols = tuple[int, ...]  # a piece or a word: its characters, by their place in the alphabet
LONGEST = 16  # characters of a piece
N_SEEDS = 1_000_000
ROUNDS = 2  # of EM between two prunings
SHRINK = 0.75
SPARE = 1.1  # the last pruning leaves so many times the vocabulary, of which the most probable stay
LEAST_COUNT = 0.5  # a piece that is expected less often goes
Learned = tuple[list[Symbols], np.ndarray]


def seed_pieces(words: Sequence[tuple[Symbols, int]], n_characters: int, n_seeds: int = N_SEEDS) -> dict[Symbols, int]:
    """The characters, then the pieces that cover most text: occurrences x length. piece -> occurrences.

    A piece that is followed by the same character wherever it stands is left out: that longer one is there.
    """
    counts: Counter[Symbols] = Counter()
    for word, count in words:
        for begin in range(len(word)):
            for end in range(begin + 1, min(len(word), begin + LONGEST + 1) + 1):
                counts[word[begin:end]] += count
    most: dict[Symbols, int] = {}  # of all longer by one, how often the most frequent occurs
    for piece, count in counts.items():
        most[piece[:-1]] = max(most.get(piece[:-1], 0), count)
    found = [p for p, count in counts.items() if 2 <= len(p) <= LONGEST and count >= 2 and most.get(p, 0) < count]
    found.sort(key=lambda piece: (-counts[piece] * len(piece), piece))
    singles: list[Symbols] = [(i,) for i in range(n_characters)]
    return {piece: counts[piece] for piece in [*singles, *found[: max(0, n_seeds - n_characters)]]}


def expected_counts(words: Sequence[tuple[Symbols, int]], scores: dict[Symbols, float]) -> tuple[dict[Symbols, float], float]:
    """The E step: (how often each piece is expected, log likelihood of the words). Forward and backward sums over all cuts.

    before[i]: log Σ p over the cuts of what stands before place i; behind[i]: of what stands from there on. Then a piece x from
    i to j has the share  p(x) e^(before[i] + behind[j] - before[n])  of the whole.
    """
    counts: dict[Symbols, float] = defaultdict(float)
    likelihood = 0.0
    for word, count in words:
        n = len(word)
        spans = [(i, j, word[i:j]) for i in range(n) for j in range(i + 1, min(n, i + LONGEST) + 1) if word[i:j] in scores]
        before, behind = [0.0] + [-math.inf] * n, [-math.inf] * n + [0.0]
        for i, j, piece in spans:
            before[j] = float(np.logaddexp(before[j], before[i] + scores[piece]))
        for i, j, piece in reversed(spans):
            behind[i] = float(np.logaddexp(behind[i], scores[piece] + behind[j]))
        for i, j, piece in spans:
            counts[piece] += count * math.exp(before[i] + scores[piece] + behind[j] - before[n])
        likelihood += count * before[n]
    return counts, likelihood


def best_scores(counts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The M step: (scores, which pieces stay). A character stays, however rare, with the score of the least probable piece."""
    stay = counts >= LEAST_COUNT
    scores = digamma(np.maximum(counts, LEAST_COUNT)) - digamma(np.array([max(LEAST_COUNT, counts[stay].sum())]))
    scores[~stay] = scores[stay].min(initial=0.0)
    return scores, stay | (lengths == 1)


def digamma(x: np.ndarray) -> np.ndarray:
    """ψ(x), the slope of log Γ, for x > 0: ψ(x) = ψ(x + 1) - 1/x up to 6, then Stirling's series."""
    x = np.array(x, np.float64)
    found = np.zeros_like(x)
    for _ in range(6):
        small = x < 6
        found[small] -= 1 / x[small]
        x[small] += 1
    inverse = 1 / (x * x)
    return found + np.log(x) - 0.5 / x - inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))


def prune(words: Sequence[tuple[Symbols, int]], scores: dict[Symbols, float], n: int) -> set[Symbols]:
    """The n pieces to keep: those without another cut, then those whose loss would be felt most."""
    counts: Counter[Symbols] = Counter()
    for word, count in words:
        for piece in best_cut(word, scores)[1]:
            counts[piece] += count
    pieces = list(scores)
    cuts = [best_cut(piece, scores, but=piece) for piece in pieces]
    logs = [
        sum(math.log(counts[part] + counts[p]) for part in cut if counts[p]) for p, (_, cut) in zip(pieces, cuts, strict=True)
    ]
    others = Others(np.array([total for total, _ in cuts]), np.array([len(cut) for _, cut in cuts]), np.array(logs))
    keep = to_keep(np.array([float(counts[piece]) for piece in pieces]), np.array(list(scores.values())), others, n=n)
    return {piece for piece, kept in zip(pieces, keep, strict=True) if kept}


class Others(NamedTuple):
    """Of the best cut of each piece into others (V,): sum, -inf if there is none; size; Σ log(count of each + the piece's)."""

    sums: np.ndarray
    sizes: np.ndarray
    logs: np.ndarray


def to_keep(counts: np.ndarray, scores: np.ndarray, others: Others, *, n: int) -> np.ndarray:
    """Which pieces (V,) to keep, from the count of each in the best cuts, its score, and what would take its place.

    Without the piece its count goes to the parts of the other cut:
        loss = share of the piece x (log p(x) - Σ log p(part)),  p from counts before and after
    """
    alone = np.isneginf(others.sums)
    total = counts.sum()
    used = (counts > 0) & ~alone & (scores >= others.sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.log(counts) - np.log(total)
        after = others.logs - others.sizes * np.log(total + counts * (others.sizes - 1))
        loss = np.where(used, counts * (own - after), -np.inf)
    order = np.argsort(-loss, kind="stable")[: max(0, min(n - int(alone.sum()), int(used.sum())))]
    keep = alone
    keep[order] = True
    return keep


def best_cut(word: Symbols, scores: dict[Symbols, float], *, but: Symbols | None = None) -> tuple[float, list[Symbols]]:
    """(log p, pieces) of the most probable cut that does not use `but`; (-inf, []) if there is none."""
    best: list[tuple[float, int]] = [(0.0, 0)] + [(-math.inf, -1)] * len(word)
    for i in range(len(word)):
        for j in range(i + 1, min(len(word), i + LONGEST) + 1):
            piece = word[i:j]
            if piece in scores and piece != but and best[i][0] + scores[piece] > best[j][0]:
                best[j] = best[i][0] + scores[piece], i
    places = [len(word)] if best[-1][0] > -math.inf else []
    while places and places[-1] > 0:
        places.append(best[places[-1]][1])
    return best[-1][0], [word[i:j] for i, j in pairwise(places[::-1])]


class Corpus(Protocol):
    """Words, and the pieces that are left: what `learn_pieces` works on. counts, lengths (V,): of each piece."""

    counts: np.ndarray
    lengths: np.ndarray

    def pieces(self) -> list[Symbols]:
        """The pieces that are left, (V,)."""

    def keep(self, stay: np.ndarray) -> None:
        """Leave out the pieces for which stay (V,) is False."""

    def expected(self, scores: np.ndarray) -> tuple[np.ndarray, float]:
        """`expected_counts` with scores (V,)."""

    def pruned(self, scores: np.ndarray, n: int) -> np.ndarray:
        """Which pieces (V,) `prune` keeps."""


class PlainCorpus(Corpus):
    """The words and pieces in dictionaries."""

    def __init__(self, symbols: np.ndarray, weights: np.ndarray, n_symbols: int, n_seeds: int):
        self.words = [(tuple(word), count) for word, count in words_of(symbols, weights)]
        self._take(seed_pieces(self.words, n_symbols, n_seeds))

    def _take(self, counts: Mapping[Symbols, float]) -> None:
        self.counts = np.array(list(counts.values()), np.float64)
        self.lengths = np.array([len(piece) for piece in counts], np.int32)
        self._pieces = list(counts)

    def pieces(self) -> list[Symbols]:
        """The pieces that are left, (V,)."""
        return self._pieces

    def keep(self, stay: np.ndarray) -> None:
        """Leave out the pieces for which stay (V,) is False."""
        self._take({self._pieces[i]: self.counts[i] for i in np.flatnonzero(stay)})

    def expected(self, scores: np.ndarray) -> tuple[np.ndarray, float]:
        """`expected_counts` with scores (V,)."""
        counts, likelihood = expected_counts(self.words, self._scores(scores))
        return np.array([counts[piece] for piece in self._pieces]), likelihood

    def pruned(self, scores: np.ndarray, n: int) -> np.ndarray:
        """Which pieces (V,) `prune` keeps."""
        kept = prune(self.words, self._scores(scores), n)
        return np.array([piece in kept for piece in self._pieces])

    def _scores(self, scores: np.ndarray) -> dict[Symbols, float]:
        return dict(zip(self._pieces, scores.tolist(), strict=True))


def learn_pieces(
    corpus: Corpus, *, n_characters: int, n_pieces: int, progress: Progress | None = None, shrink: float = SHRINK,
    told: Callable[[list[Symbols], float], None] | None = None,
) -> Learned:  # fmt: skip
    """(pieces, log probabilities (n,)): the most probable first; at most `n_pieces`, among them all characters.

    told(pieces, log likelihood): called after each E step. ValueError if there is not even room for the characters.
    """
    if n_pieces < n_characters:
        raise ValueError(f"n_pieces: got {n_pieces}, expected at least {n_characters}, one for each character")
    n_first = len(corpus.counts)
    wanted = max(n_characters, int(SPARE * n_pieces))
    scores, stay = best_scores(corpus.counts, corpus.lengths)
    corpus.keep(stay)
    scores = scores[stay]
    while True:
        for _ in range(ROUNDS):
            counts, likelihood = corpus.expected(scores)
            if told:
                told(corpus.pieces(), likelihood)
            scores, stay = best_scores(counts, corpus.lengths)
            corpus.keep(stay)
            scores = scores[stay]
        n = len(scores)
        if progress:
            progress("prune", n_first - n, max(n_first - n_pieces, 1))
        if n <= n_pieces:
            break
        if n <= wanted:
            last = np.where(corpus.lengths == 1, np.inf, scores)
            keep = np.zeros(n, bool)
            keep[np.argsort(-last, kind="stable")[:n_pieces]] = True
        else:
            keep = corpus.pruned(scores, max(wanted, int(shrink * n)))
        corpus.keep(keep)
        scores = scores[keep]
    order = np.argsort(-scores, kind="stable")
    pieces = corpus.pieces()
    return [pieces[i] for i in order.tolist()], scores[order]
