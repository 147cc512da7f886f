"""Byte-pair encoding: start from bytes, join frequent neighbours. The third rung: character -> byte -> BPE.

Training (`bpe_train`) leaves an ordered list of merges. Encoding a piece of text applies them in that order: of all
neighbouring pairs the one learned earliest is joined, leftmost first, until no pair was learned (Sennrich et al. 2016,
"Neural Machine Translation of Rare Words with Subword Units", algorithm 1; on bytes: Radford et al. 2019, section 2.2).
Short pieces search all pairs at every step, O(n²) and simple; long ones (DNA has no spaces) remember where each pair
stands and take the pairs from a heap, near-linear, with the same answer. Words repeat, so answers are remembered. What it
leaves out: nothing is ever split in the second-best way (see BPE-dropout), and a token is frequent, not meaningful.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Any

from tinyllm.tokenizers.bpe_train import check_min_frequency, count_pieces, learn_merges
from tinyllm.tokenizers.layout import bpe_layout
from tinyllm.tokenizers.pretokenize import LOOKAHEAD, get_pattern
from tinyllm.tokenizers.special import END_OF_TEXT
from tinyllm.tokenizers.tokenizer import Tokenizer, add_special_tokens, to_bytes, to_text

Ranks = dict[tuple[int, int], tuple[int, int]]  # (left id, right id) -> (rank: lower is earlier, id of the joined token)

LONG = 48  # from this many symbols on, the heap is faster than searching all pairs
CACHE_PIECES = 100_000  # remembered pieces, and the longest piece (characters) worth remembering: about 30 MB
CACHE_LENGTH = 64


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


def merge_by_heap(symbols: list[int], ranks: Ranks) -> list[int]:
    """The same, near-linear: a heap of the pairs that occur, a list of places for each, a linked list of symbols.

    The pair of lowest rank is joined at all its places, from left to right, unless a join brings about a pair of lower
    rank, which then goes first. A place whose symbols have changed meanwhile is stale and is skipped. A pair never comes
    about anew while it is being joined: what its joins lead to is longer than its parts. So its places are sorted once.
    """
    symbols = list(symbols)
    n = len(symbols)
    following, previous = list(range(1, n + 1)), list(range(-1, n - 1))
    places: dict[tuple[int, int], list[int]] = {}
    for i, pair in enumerate(pairwise(symbols)):
        if pair in ranks:
            places.setdefault(pair, []).append(i)
    heap = [(ranks[pair][0], pair) for pair in places]
    heapq.heapify(heap)
    begun: dict[tuple[int, int], list[int]] = {}  # the places still to come of pairs that had to wait
    while heap:
        rank, pair = heapq.heappop(heap)
        (left, right), joined = pair, ranks[pair][1]
        waiting = begun.pop(pair, None) or sorted(places.pop(pair), reverse=True)
        while waiting:
            i = waiting.pop()
            j = following[i]
            if symbols[i] != left or j >= n or symbols[j] != right:
                continue
            symbols[i], symbols[j] = joined, -1  # -1: swallowed, so places that start here are stale
            after = following[i] = following[j]
            if after < n:
                previous[after] = i
            for a, b in ((previous[i], i), (i, after)):
                if a >= 0 and b < n and (new := (symbols[a], symbols[b])) in ranks:
                    if new not in places:
                        places[new] = []
                        heapq.heappush(heap, (ranks[new][0], new))
                    places[new].append(a)
            if waiting and heap and heap[0][0] < rank:
                begun[pair] = waiting
                heapq.heappush(heap, (rank, pair))
                break
    return [symbol for symbol in symbols if symbol >= 0]


class _PieceCache(dict[str, list[int]]):
    """piece -> ids, filled on demand; emptied when full, so that memory stays bounded."""

    def __init__(self, encode_piece: Callable[[str], list[int]]):
        super().__init__()
        self._encode_piece = encode_piece

    def __missing__(self, piece: str) -> list[int]:
        ids = self._encode_piece(piece)
        if len(piece) <= CACHE_LENGTH:
            if len(self) >= CACHE_PIECES:
                self.clear()
            self[piece] = ids
        return ids


class BPETokenizer(Tokenizer):
    """Byte-level BPE: lossless on any bytes.

    `tokens[i]`: the bytes of id i, among them all 256 single bytes. `merges`: pairs of tokens in the order they were
    learned; each joined pair must be a token too. `pattern`: how text is cut first ("gpt2", "gpt4" or "qwen2").
    `special_tokens`: text -> id, ids inside `tokens`. ValueError says what does not fit.
    """

    def __init__(
        self, tokens: list[bytes], merges: list[tuple[bytes, bytes]], *, pattern: str = "gpt4",
        special_tokens: dict[str, int] | None = None,
    ):  # fmt: skip
        super().__init__(tokens, special_tokens or {})
        self.pattern = get_pattern(pattern)
        self.merges = merges
        special_ids = set(self.special_tokens.values())
        ids = {token: i for i, token in enumerate(tokens) if i not in special_ids}
        if len(ids) + len(special_ids) != len(tokens):
            raise ValueError("tokens: two ids stand for the same bytes; each ordinary token must be there once")
        self._byte_ids = [_id_of(bytes([byte]), ids, "tokens") for byte in range(256)]
        self._ranks: Ranks = {}
        for rank, (left, right) in enumerate(merges):
            where = f"merges[{rank}]"
            pair = (_id_of(left, ids, where), _id_of(right, ids, where))
            self._ranks[pair] = (rank, _id_of(left + right, ids, where))
        self._cache = _PieceCache(self._encode_piece)

    @classmethod
    def train(
        cls, documents: Iterable[str | bytes], *, vocab_size: int, pattern: str = "gpt4", min_frequency: int = 2,
        special_tokens: Iterable[str] = (END_OF_TEXT,), progress: Callable[[str, int, int | None], None] | None = None,
    ) -> BPETokenizer:  # fmt: skip
        """Learn a vocabulary of `vocab_size` ids from `documents` (read once, one at a time).

        Ids: the 256 bytes in GPT-2's order, then merged tokens in the order learned, then the special tokens. Special
        tokens found in a document separate its text and are not learned from. Merges stop early when no pair occurs
        `min_frequency` times. `progress(stage, done, total)` is called with stage "count" (documents; total None) and
        "merge" (tokens made).
        """
        special = [special_tokens] if isinstance(special_tokens, str) else list(special_tokens)
        least = 256 + len(special)
        if vocab_size < least:
            raise ValueError(
                f"vocab_size: got {vocab_size}, expected at least {least}: 256 bytes and {len(special)} special tokens"
            )
        check_min_frequency(min_frequency)  # this and the special tokens before the work, not after it
        Tokenizer(*add_special_tokens([bytes([byte]) for byte in range(256)], special))
        counts = count_pieces(documents, get_pattern(pattern), special_tokens=special, progress=progress)
        tokens, merges = learn_merges(counts, vocab_size - least, min_frequency=min_frequency, progress=progress)
        tokens, special_ids = add_special_tokens(tokens, special)
        return cls(tokens, merges, pattern=pattern, special_tokens=special_ids)

    def _encode_piece(self, piece: str) -> list[int]:
        """The ids of one piece, merged."""
        symbols = [self._byte_ids[byte] for byte in to_bytes(piece)]
        merge = merge_by_search if len(symbols) < LONG else merge_by_heap
        return merge(symbols, self._ranks)

    def _encode_ordinary(self, text: str) -> list[int]:
        return list(chain.from_iterable(map(self._cache.__getitem__, self.pattern.split(text))))

    def _encode_prefix(self, text: str, reserve: int) -> tuple[list[int], int]:
        settled = min(len(text.rstrip()), len(text) - LOOKAHEAD - reserve)  # a run of spaces waits for what ends it
        pieces = self.pattern.split(text) if settled > 0 else []
        length = len(text)
        while pieces and length > settled:
            length -= len(pieces.pop())
        return list(chain.from_iterable(map(self._cache.__getitem__, pieces))), length if pieces else 0

    def explain(self, text: str | bytes) -> list[list[list[bytes]]]:
        """How `text` is encoded: for each piece the list of steps, each step the piece's tokens (bytes) at that time."""
        explained = []
        for piece in self.pattern.split(to_text(text)):
            symbols = [self._byte_ids[byte] for byte in to_bytes(piece)]
            explained.append([[self.tokens[i] for i in step] for step in merge_steps(symbols, self._ranks)])
        return explained

    def to_json(self) -> dict[str, Any]:
        """A BPE model with a byte-level pre-tokenizer; see `layout`."""
        split = None if self.pattern.name == "gpt2" else self.pattern.published
        return bpe_layout(self.tokens, self.merges, special_tokens=self.special_tokens, split=split)


def _id_of(token: bytes, ids: dict[bytes, int], where: str) -> int:
    """The id of `token`; ValueError naming `where` if the vocabulary lacks it."""
    try:
        return ids[token]
    except KeyError:
        raise ValueError(f"{where}: {token!r} is not in the vocabulary") from None
