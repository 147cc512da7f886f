"""Learning byte-pair merges: count words once, then join the most frequent neighbouring pair again and again.

    repeat:  (a, b) = argmax count(a, b);   every "a b" becomes "ab"           (Sennrich et al. 2016, algorithm 1)

Recounting at each step would cost merges times text. Here each distinct piece is stored once with its count, and a merge
visits only the pieces that hold the pair, correcting the counts it changes. The most frequent pair comes from a heap whose
entries may be out of date and are checked when they come up (lazy invalidation). Ties: the higher count wins, then the
smaller id of the left token, then of the right (bytes are numbered in GPT-2's order): the rule of Hugging Face's trainer.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from tinyllm.tokenizers.layout import BYTE_ORDER
from tinyllm.tokenizers.pretokenize import SplitPattern
from tinyllm.tokenizers.tokenizer import to_bytes, to_text

Progress = Callable[[str, int, int | None], None]  # (stage, done, total or None)
Pair = tuple[int, int]


def count_pieces(
    documents: Iterable[str | bytes],
    pattern: SplitPattern,
    *,
    special_tokens: Sequence[str] = (),
    progress: Progress | None = None,
) -> Counter[bytes]:
    """How often each piece occurs in `documents`. Special tokens found in a text separate it and are not counted.

    Memory: one document and the distinct pieces. ValueError if `documents` is a single text.
    """
    if isinstance(documents, str | bytes):
        raise ValueError(f"documents: got one {type(documents).__name__}, expected an iterable; put it in a list")
    ordered = sorted(map(to_text, special_tokens), key=len, reverse=True)
    separator = re.compile("|".join(map(re.escape, ordered))) if ordered else None
    counts: Counter[str] = Counter()
    for done, document in enumerate(documents, start=1):
        text = to_text(document)
        for part in separator.split(text) if separator else [text]:
            counts.update(pattern.split(part))
        if progress:
            progress("count", done, None)
    return Counter({to_bytes(piece): count for piece, count in counts.items()})


class _Words:
    """The distinct pieces as lists of token ids, with the pairs in them: how often, and in which pieces."""

    def __init__(self, counts: dict[bytes, int]):
        ids = {byte: i for i, byte in enumerate(BYTE_ORDER)}
        self.words = [[ids[byte] for byte in piece] for piece in counts]
        self.counts = list(counts.values())
        self.pair_counts: dict[Pair, int] = defaultdict(int)
        self.where: dict[Pair, set[int]] = defaultdict(set)
        for index, (word, count) in enumerate(zip(self.words, self.counts, strict=True)):
            for pair in pairwise(word):
                self.pair_counts[pair] += count
                self.where[pair].add(index)

    def merge(self, pair: Pair, joined: int) -> set[Pair]:
        """Join `pair` into the id `joined` in every word; returns the pairs whose count has grown."""
        grown: set[Pair] = set()
        for index in self.where.pop(pair, ()):
            old, count = self.words[index], self.counts[index]
            new = join_pair(old, pair, joined)
            if len(new) == len(old):  # the pair had gone from this word meanwhile
                continue
            for gone in pairwise(old):
                self.pair_counts[gone] -= count
            for made in pairwise(new):
                self.pair_counts[made] += count
                if joined in made:
                    self.where[made].add(index)
                    grown.add(made)
            self.words[index] = new
        return grown


def join_pair(word: list[int], pair: Pair, joined: int) -> list[int]:
    """Replace each `pair` by `joined`, from left to right: join_pair([1, 1, 1, 2], (1, 1), 9) -> [9, 1, 2]."""
    new: list[int] = []
    i = 0
    while i < len(word):
        if i + 1 < len(word) and word[i] == pair[0] and word[i + 1] == pair[1]:
            new.append(joined)
            i += 2
        else:
            new.append(word[i])
            i += 1
    return new


def check_min_frequency(min_frequency: int) -> None:
    """ValueError unless it is at least 1."""
    if min_frequency < 1:
        raise ValueError(f"min_frequency: got {min_frequency}, expected at least 1")


def learn_merges(
    counts: dict[bytes, int], n_tokens: int, *, min_frequency: int = 2, progress: Progress | None = None
) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """The vocabulary and merges learned from counted pieces: (tokens by id, merges in order).

    At most `n_tokens` new tokens after the 256 bytes, one a merge; fewer when no pair occurs `min_frequency` times. No two
    merges lead to the same bytes: inside what becomes a token, earlier merges have acted alike wherever it stands.
    """
    check_min_frequency(min_frequency)
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    merges: list[tuple[bytes, bytes]] = []
    state = _Words(counts)
    heap = [(-count, pair) for pair, count in state.pair_counts.items()]
    heapq.heapify(heap)
    while heap and len(merges) < n_tokens:
        negative, pair = heapq.heappop(heap)
        count = state.pair_counts[pair]
        if count < min_frequency:
            continue
        if count != -negative:  # out of date; a pair that grew was pushed again then
            if count < -negative:
                heapq.heappush(heap, (-count, pair))
            continue
        left, right = tokens[pair[0]], tokens[pair[1]]
        for grown in state.merge(pair, len(tokens)):
            heapq.heappush(heap, (-state.pair_counts[grown], grown))
        tokens.append(left + right)
        merges.append((left, right))
        if progress:
            progress("merge", len(merges), n_tokens)
    return tokens, merges
