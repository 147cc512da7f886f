"""A large corpus for learning Unigram pieces: where each piece begins is written down once, and then nothing is searched.

Seeds come from a suffix array: all places of the corpus sorted by what follows there. A piece of text is then a stretch of that
order, and a stretch that falls into smaller ones is a piece that goes on in more than one way. (`unigram_train.seed_pieces` finds
the same pieces by counting them all.)
"""

from __future__ import annotations

import numpy as np

from tinyllm.kernels.text.unigram_training import LONGEST_SPAN, PARTS, count_best, expect, keep_pieces, list_pieces, without
from tinyllm.tokenizers.unigram_train import LONGEST, Corpus, Others, Symbols, to_keep


def sorted_places(symbols: np.ndarray, remaining: np.ndarray) -> np.ndarray:
    """The places of all symbols, sorted by the symbols from there to the end of the word, 2 LONGEST at most. (Prefix doubling.)

    symbols (N,) int32, -1 between words; remaining (N,): how many symbols the word has from each place on.
    """
    rank, length = symbols.astype(np.int64) + 1, 1
    order = np.argsort(rank, kind="stable")
    while length < 2 * LONGEST:
        second = np.zeros_like(rank)
        long = np.flatnonzero(remaining > length)
        second[long] = rank[long + length]
        key = rank * (rank.max() + 1) + second
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        rank[order] = np.cumsum(np.concatenate([[0], ordered[1:] != ordered[:-1]]))
        length *= 2
    return order[symbols[order] >= 0]


def common_lengths(symbols: np.ndarray, remaining: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(n,): how many symbols each place has in common with the one before it in the order, LONGEST + 1 at most."""
    common = np.zeros(len(order), np.int32)
    alive = np.arange(1, len(order))
    for length in range(LONGEST + 1):
        a, b = order[alive - 1], order[alive]
        alive = alive[(remaining[a] > length) & (remaining[b] > length)]
        alive = alive[symbols[order[alive - 1] + length] == symbols[order[alive] + length]]
        common[alive] = length + 1
    return common


class ArrayCorpus(Corpus):
    """`unigram_train.PlainCorpus` in arrays."""

    def __init__(self, symbols: np.ndarray, weights: np.ndarray, n_symbols: int, n_seeds: int):
        self.symbols = symbols
        ends = np.flatnonzero(symbols < 0)
        remaining = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(symbols))
        self._cut_spans(ends, weights)
        order = sorted_places(symbols, remaining)
        begins, ends, lengths, counts = _repeated(symbols, weights, remaining, order)
        chosen = np.lexsort([lengths, begins, -(counts * lengths)])[: max(0, n_seeds - n_symbols)]
        begins, ends, lengths, counts = begins[chosen], ends[chosen], lengths[chosen], counts[chosen]
        singles = np.bincount(symbols[symbols >= 0], weights[symbols >= 0], n_symbols)
        first = np.zeros(n_symbols, np.int64)
        first[symbols[order][::-1]] = order[::-1]
        self.counts = np.concatenate([singles, counts]).astype(np.float64)
        self.lengths = np.concatenate([np.ones(n_symbols), lengths]).astype(np.int32)
        self.places = np.concatenate([first, order[begins]])
        sizes = ends - begins
        ids = np.repeat(np.arange(n_symbols, n_symbols + len(begins), dtype=np.int32), sizes)
        offsets = np.arange(len(ids)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(begins, sizes)
        places = np.concatenate([order, order[offsets]])
        ids = np.concatenate([symbols[order].astype(np.int32), ids])
        self.starts, self.at = np.zeros(len(symbols) + 1, np.int64), np.empty(len(ids), np.int32)
        list_pieces(places, ids, self.starts, self.at)

    def _cut_spans(self, ends: np.ndarray, weights: np.ndarray) -> None:
        """Words as spans (W, 2) of at most LONGEST_SPAN symbols, with their weights (W,)."""
        words = np.stack([ends[:-1] + 1, ends[1:]], axis=1)
        words = words[words[:, 1] > words[:, 0]]
        pieces = -(-(words[:, 1] - words[:, 0]) // LONGEST_SPAN)
        begins = np.repeat(words[:, 0], pieces)
        begins += LONGEST_SPAN * (np.arange(len(begins)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
        self.spans = np.stack([begins, np.minimum(begins + LONGEST_SPAN, np.repeat(words[:, 1], pieces))], axis=1)
        self.weights = weights[begins].astype(np.float64)

    def pieces(self) -> list[Symbols]:
        """The pieces that are left, (V,)."""
        return [
            tuple(self.symbols[place : place + n].tolist())
            for place, n in zip(self.places.tolist(), self.lengths.tolist(), strict=True)
        ]

    def keep(self, stay: np.ndarray) -> None:
        """Leave out the pieces for which stay (V,) is False."""
        if stay.all():
            return
        new_ids = np.where(stay, np.cumsum(stay) - 1, -1).astype(np.int32)
        n = keep_pieces(self.starts, self.at, new_ids)
        self.at = self.at[:n]
        self.counts, self.lengths, self.places = self.counts[stay], self.lengths[stay], self.places[stay]

    def expected(self, scores: np.ndarray) -> tuple[np.ndarray, float]:
        """`unigram_train.expected_counts` with scores (V,)."""
        counts, likelihoods = np.zeros((PARTS, len(scores))), np.zeros(PARTS)
        expect(self.starts, self.at, self.lengths, scores, self.spans, self.weights, counts, likelihoods)
        return counts.sum(axis=0), float(likelihoods.sum())

    def pruned(self, scores: np.ndarray, n: int) -> np.ndarray:
        """Which pieces (V,) `unigram_train.prune` keeps."""
        parts = np.zeros((PARTS, len(scores)))
        count_best(self.starts, self.at, self.lengths, scores, self.spans, self.weights, parts)
        counts = parts.sum(axis=0)
        sums, sizes, logs = np.empty(len(scores)), np.empty(len(scores), np.int64), np.empty(len(scores))
        without(self.starts, self.at, self.lengths, scores, self.places, counts, sums, sizes, logs)
        return to_keep(counts, scores, Others(sums, sizes, logs), n=n)


def _repeated(
    symbols: np.ndarray, weights: np.ndarray, remaining: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(begins, ends, lengths, counts) of each piece of 2 to LONGEST symbols that occurs twice, and goes on in several ways.

    order[begins[k]:ends[k]] are the places of piece k.
    """
    common, left, weight = common_lengths(symbols, remaining, order), remaining[order], weights[order]
    found = []
    begins = np.flatnonzero(common < 2)
    for length in range(2, LONGEST + 1):
        longer = np.flatnonzero(common < length + 1)
        counts = np.add.reduceat(weight, begins)
        more = np.where(left[longer] > length, np.add.reduceat(weight, longer), 0)
        most = np.maximum.reduceat(more, np.searchsorted(longer, begins))
        good = (left[begins] >= length) & (counts >= 2) & (most < counts)
        ends = np.append(begins[1:], len(order))
        found.append((begins[good], ends[good], np.full(good.sum(), length), counts[good]))
        begins = longer
    return tuple(map(np.concatenate, zip(*found, strict=True)))  # type: ignore[return-value]
