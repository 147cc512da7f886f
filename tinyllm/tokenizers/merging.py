"""Applying merges: of all neighbouring pairs the one learned earliest is joined, leftmost first, until no pair was learned.

    l o w e r  ->  lo w e r  ->  low e r  ->  low er         with the merges lo, low, er       (Sennrich et al. 2016, algorithm 1)

`merge_by_search` is that sentence, `merge_with_dropout` its variant that a model can learn more from: one word in many cuts.
 `merge_by_heap` gives the same in near-linear time, for words without an end (DNA has no
spaces). `kernels/text/merging.py` does both in machine code.
"""

import heapq
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import cast

import numpy as np

Pair = tuple[int, int]  # (left id, right id)
Ranks = Mapping[Pair, tuple[int, int]]  # -> (rank: lower is earlier, id of the joined token)

LONG = 48  # from this many symbols on, the heap is faster than searching all pairs
MOST_REMEMBERED = 100_000  # pairs that make no token


def merge_steps(symbols: list[int], ranks: Ranks) -> Iterator[list[int]]:
    """Yield the symbols as given, then after each merge: of all neighbouring pairs the one of lowest rank is joined."""
    yield symbols
    while True:
        candidates = [(ranks[pair][0], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not candidates:
            return
        _, i = min(candidates)  # of equal ranks the leftmost
        joined = ranks[symbols[i], symbols[i + 1]][1]
        symbols = [*symbols[:i], joined, *symbols[i + 2 :]]
        yield symbols


def merge_by_search(symbols: list[int], ranks: Ranks) -> list[int]:
    """The symbols after all merges: the definition, quadratic in their number."""
    *_, last = merge_steps(symbols, ranks)
    return last


def merge_with_dropout(symbols: list[int], ranks: Ranks, *, dropout: float, rng: np.random.Generator) -> list[int]:
    """`merge_by_search` in which each pair is passed over with probability `dropout`, drawn anew at each step.

    (Provilkov et al. 2020, algorithm 1.) 0: always the same tokens; 1: nothing is merged.
    """
    while True:
        pairs = [(ranks[pair][0], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        kept = [pair for pair, drawn in zip(pairs, rng.random(len(pairs)).tolist(), strict=True) if drawn >= dropout]
        if not kept:
            return symbols
        _, i = min(kept)
        symbols = [*symbols[:i], ranks[symbols[i], symbols[i + 1]][1], *symbols[i + 2 :]]


def check_dropout(dropout: float) -> None:
    """ValueError unless it is a probability."""
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout: got {dropout}, expected a probability, 0 to 1")


def merge_by_heap(symbols: list[int], ranks: Ranks) -> list[int]:
    """The same, near-linear: a heap of the ranks that occur, a list of places for each, a linked list of symbols.

    Pairs of the lowest rank are joined at all their places, from left to right, unless a join brings about a pair of lower
    rank, which then goes first. A place whose symbols have changed meanwhile is stale and is skipped. A rank never gets
    new places while it is being joined: what its joins lead to is longer than its token. So its places are sorted once.
    """
    symbols = list(symbols)
    n = len(symbols)
    following, previous = list(range(1, n + 1)), list(range(-1, n - 1))
    places: dict[int, list[int]] = {}  # of pairs of each rank
    for i, pair in enumerate(pairwise(symbols)):
        if pair in ranks:
            places.setdefault(ranks[pair][0], []).append(i)
    heap = list(places)
    heapq.heapify(heap)
    begun: dict[int, list[int]] = {}  # the places still to come of ranks that had to wait
    while heap:
        rank = heapq.heappop(heap)
        waiting = begun.pop(rank, None) or sorted(places.pop(rank), reverse=True)
        while waiting:
            i = waiting.pop()
            j = following[i]
            if symbols[i] < 0 or j >= n or (symbols[i], symbols[j]) not in ranks:
                continue
            found, joined = ranks[symbols[i], symbols[j]]
            if found != rank:
                continue
            symbols[i], symbols[j] = joined, -1  # -1: swallowed, so places that start here are stale
            after = following[i] = following[j]
            if after < n:
                previous[after] = i
            for a, b in ((previous[i], i), (i, after)):
                if a >= 0 and b < n and (pair := (symbols[a], symbols[b])) in ranks:
                    new = ranks[pair][0]
                    if new not in places:
                        places[new] = []
                        heapq.heappush(heap, new)
                    places[new].append(a)
            if waiting and heap and heap[0] < rank:
                begun[rank] = waiting
                heapq.heappush(heap, rank)
                break
    return [symbol for symbol in symbols if symbol >= 0]


class TokenRanks(dict[Pair, tuple[int, int]]):
    """The pairs of a file of ranks, worked out as they are asked for: two tokens are a pair if they make a token."""

    def __init__(self, tokens: list[bytes], ids: dict[bytes, int]):
        super().__init__()
        self._tokens, self._ids, self._none = tokens, ids, set[Pair]()

    def __contains__(self, pair: object) -> bool:
        if super().__contains__(pair):
            return True
        if pair in self._none:
            return False
        left, right = cast(Pair, pair)
        joined = self._ids.get(self._tokens[left] + self._tokens[right])
        if joined is not None:
            self[left, right] = (joined, joined)
            return True
        if len(self._none) >= MOST_REMEMBERED:
            self._none.clear()
        self._none.add((left, right))
        return False
