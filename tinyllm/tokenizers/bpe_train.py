"""Learning byte-pair merges: count words once, then join the most frequent neighbouring pair again and again.

    repeat:  (a, b) = argmax count(a, b);   every "a b" becomes "ab"           (Sennrich et al. 2016, algorithm 1)

Read `learn_merges_slowly` first: these two lines and nothing else. Recounting at each step costs merges times text; in
`learn_merges`, which gives the same merges, each distinct piece is stored once with its count, and a merge
visits only the places where the pair stands, correcting the counts of its neighbours: one long piece (DNA has no spaces)
costs as little as many short ones. The most frequent pair comes from a heap whose entries may be out of date and are
checked when they come up (lazy invalidation). Ties: the higher count wins, then the smaller id of the left token, then of
the right (bytes are numbered in GPT-2's order): the rule of Hugging Face's trainer.
"""

import heapq
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from tinyllm.tokenizers.characters import to_bytes, to_text
from tinyllm.tokenizers.layout import BYTE_ORDER
from tinyllm.tokenizers.pretokenize import SplitPattern

Progress = Callable[[str, int, int | None], None]  # (stage, done, total or None)
Pair = tuple[int, int]


def learn_merges_slowly(
    counts: dict[bytes, int], n_tokens: int, *, min_frequency: int = 2
) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """`learn_merges` as the paper writes it: count all pairs, join the most frequent, begin again. To read, and to test with."""
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    merges: list[tuple[bytes, bytes]] = []
    words = [([BYTE_ORDER.index(byte) for byte in piece], count) for piece, count in counts.items()]
    while len(merges) < n_tokens:
        pairs: Counter[Pair] = Counter()
        for word, count in words:
            for pair in pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < min_frequency:
            break
        words = [(join_pair(word, best, len(tokens)), count) for word, count in words]
        merges.append((tokens[best[0]], tokens[best[1]]))
        tokens.append(tokens[best[0]] + tokens[best[1]])
    return tokens, merges


def join_pair(word: list[int], pair: Pair, joined: int) -> list[int]:
    """Replace each `pair` by `joined`, from left to right: join_pair([1, 1, 1, 2], (1, 1), 9) -> [9, 1, 2]."""
    new: list[int] = []
    for symbol in word:
        if new and (new[-1], symbol) == pair:
            new[-1] = joined
        else:
            new.append(symbol)
    return new


def count_pieces(
    documents: Iterable[str | bytes], pattern: SplitPattern, *, special_tokens: Sequence[str] = (),
    progress: Progress | None = None,
) -> Counter[bytes]:  # fmt: skip
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


class _Pieces:
    """The distinct pieces end to end as a linked list of token ids, with the pairs in them: how often, and where.

    -1 stands before, between and behind the pieces, and in place of a symbol that the one before it has swallowed.
    """

    def __init__(self, counts: dict[bytes, int]):
        ids = {byte: i for i, byte in enumerate(BYTE_ORDER)}
        self.symbols, self.weights = array("i", [-1]), array("q", [0])  # weight: how often the piece occurs
        for piece, count in counts.items():
            self.symbols.extend([*map(ids.__getitem__, piece), -1])
            self.weights.extend([count] * (len(piece) + 1))
        n = len(self.symbols)
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
    state = _Pieces(counts)
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
