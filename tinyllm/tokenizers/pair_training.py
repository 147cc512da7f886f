"""Learning merges from words: the best pair of neighbours becomes a new symbol, again and again.

    repeat:  (a, b) = argmax score(a, b);   every "a b" becomes "ab"

    score = count(a, b)                              byte-pair encoding         (Sennrich et al. 2016, algorithm 1)
    score = count(a, b) / (count(a) count(b))        WordPiece: what raises the likelihood most (Schuster and Nakajima 2012)

Read `learn_pairs_slowly` first: these lines and nothing else. Recounting at each step costs merges times text. `learn_pairs`
gives the same merges, and a merge there visits only the places where the pair stands, correcting the counts of its neighbours:
one long word (DNA has no spaces) costs as little as many short ones. `kernels/text/pair_training.py` does that in machine code.
Ties: the smaller id of the left symbol first, then of the right: the rule of Hugging Face's trainer.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from tinyllm import kernels
from tinyllm.tokenizers.word_counts import Progress

Pair = tuple[int, int]
LARGE, MIDDLING = 1 << 17, 1 << 12  # symbols from which the kernel pays, beside `_learn_by_heap` and `learn_pairs_slowly`
STEPS = 50  # times that progress is told


def learn_pairs_slowly(
    symbols: np.ndarray,
    weights: np.ndarray,
    *,
    n_symbols: int,
    n_merges: int,
    min_frequency: int = 2,
    by_likelihood: bool = False,
) -> list[Pair]:
    """`learn_pairs` as the papers write it: count all pairs, join the best, begin again. To read, and to test with."""
    words = words_of(symbols, weights)
    merges: list[Pair] = []
    while len(merges) < n_merges:
        pairs: Counter[Pair] = Counter()
        singles: Counter[int] = Counter()
        for word, count in words:
            for symbol in word:
                singles[symbol] += count
            for pair in pairwise(word):
                pairs[pair] += count

        scores: dict[Pair, float] = {pair: count for pair, count in pairs.items() if count >= min_frequency}
        if by_likelihood:
            scores = {(a, b): pairs[a, b] / (float(singles[a]) * float(singles[b])) for a, b in scores}
        if not scores:
            break
        best = min(scores, key=lambda pair: (-scores[pair], -pairs[pair], pair))  # noqa: B023 (used at once)
        words = [(join_pair(word, best, n_symbols + len(merges)), count) for word, count in words]
        merges.append(best)
    return merges


def words_of(symbols: np.ndarray, weights: np.ndarray) -> list[tuple[list[int], int]]:
    """(symbols, count) of each word in a row."""
    ends = np.flatnonzero(symbols < 0).tolist()
    return [(symbols[a + 1 : b].tolist(), int(weights[b - 1])) for a, b in pairwise(ends) if b > a + 1]


def join_pair(word: list[int], pair: Pair, joined: int) -> list[int]:
    """Replace each `pair` by `joined`, from left to right: join_pair([1, 1, 1, 2], (1, 1), 9) -> [9, 1, 2]."""
    new: list[int] = []
    for symbol in word:
        if new and (new[-1], symbol) == pair:
            new[-1] = joined
        else:
            new.append(symbol)
    return new


class _Places:
    """The words as a linked list of symbols, with the pairs in them: how often, and where.

    -1 stands before, between and behind the words, and in place of a symbol that the one before it has swallowed.
    """

    def __init__(self, symbols: np.ndarray, weights: np.ndarray):
        n = len(symbols)
        self.symbols, self.weights = array("i", symbols.tolist()), array("q", weights.tolist())
        self.following, self.previous = array("q", range(1, n + 1)), array("q", range(-1, n - 1))
        self.pair_counts: dict[Pair, int] = defaultdict(int)
        self.where: dict[Pair, array[int]] = defaultdict(lambda: array("q"))
        for i, pair in enumerate(pairwise(self.symbols)):
            if pair[0] >= 0 and pair[1] >= 0:
                self.pair_counts[pair] += self.weights[i]
                self.where[pair].append(i)

    def merge(self, pair: Pair, joined: int) -> set[Pair]:
        """Join `pair` into the id `joined` wherever it stands, from left to right; returns the pairs that have come about."""
        (left, right), symbols, following, previous = pair, self.symbols, self.following, self.previous
        pair_counts, where = self.pair_counts, self.where
        grown: set[Pair] = set()
        for i in sorted(where.pop(pair, ())):
            j = following[i]
            if symbols[i] != left or symbols[j] != right:  # the pair had gone from here meanwhile
                continue
            weight, before, after = self.weights[i], previous[i], following[j]
            symbols[i], symbols[j] = joined, -1
            following[i], previous[after] = after, i
            pair_counts[pair] -= weight
            if (first := symbols[before]) >= 0:
                pair_counts[first, left] -= weight
                pair_counts[first, joined] += weight
                where[first, joined].append(before)
                grown.add((first, joined))
            if (last := symbols[after]) >= 0:
                pair_counts[right, last] -= weight
                pair_counts[joined, last] += weight
                where[joined, last].append(i)
                grown.add((joined, last))
        return grown


def learn_pairs(
    symbols: np.ndarray, weights: np.ndarray, *, n_symbols: int, n_merges: int, min_frequency: int = 2,
    by_likelihood: bool = False, progress: Progress | None = None, room: Callable[[int, Any], np.ndarray] = np.empty,
) -> list[Pair]:  # fmt: skip
    """The merges learned from words: (left id, right id) in order; the k-th makes the symbol n_symbols + k.

    symbols (N,) int32: the words end to end, ids below n_symbols, -1 before, between and behind them; weights (N,) int64: how
    often each one's word occurs. Fewer merges than asked for when no pair occurs `min_frequency` times. room(n, dtype): makes
    large arrays. No two merges lead to the same text: inside what becomes a symbol, earlier merges have acted alike wherever
    it stands.
    """
    if len(symbols) >= (MIDDLING if by_likelihood else LARGE) and kernels.machine_code():
        from tinyllm.kernels.text.pair_training import PairLearner

        learner = PairLearner(symbols, weights, n_symbols=n_symbols, n_merges=n_merges, least=min_frequency, room=room)
        found = learner.merges[:0]
        for step in range(1, STEPS + 1):
            found = learner.learn(n_merges * step // STEPS, by_likelihood=by_likelihood)
            if progress:
                progress("merge", len(found), n_merges)
        return list(map(tuple, found.tolist()))
    if by_likelihood:
        return learn_pairs_slowly(
            symbols, weights, n_symbols=n_symbols, n_merges=n_merges, min_frequency=min_frequency, by_likelihood=True
        )
    return _learn_by_heap(_Places(symbols, weights), n_symbols, n_merges, min_frequency, progress)


def _learn_by_heap(state: _Places, n_symbols: int, n_merges: int, min_frequency: int, progress: Progress | None) -> list[Pair]:
    """The most frequent pair comes from a heap whose counts may be out of date and are corrected when they come up."""
    merges: list[Pair] = []
    heap = [(-count, pair) for pair, count in state.pair_counts.items()]
    heapq.heapify(heap)
    while heap and len(merges) < n_merges:
        negative, pair = heapq.heappop(heap)
        count = state.pair_counts[pair]
        if count < min_frequency:
            continue
        if count != -negative:  # out of date; a pair that grew was pushed again then
            if count < -negative:
                heapq.heappush(heap, (-count, pair))
            continue
        for grown in state.merge(pair, n_symbols + len(merges)):
            heapq.heappush(heap, (-state.pair_counts[grown], grown))
        merges.append(pair)
        if progress:
            progress("merge", len(merges), n_merges)
    return merges
