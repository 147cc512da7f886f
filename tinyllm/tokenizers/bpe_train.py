"""Byte-pair encoding's vocabulary: all 256 bytes, and whatever pairs of neighbours are joined most often.

    low low lower  ->  lo (3)  ->  low (3)  ->  lowe, lower        each merge is a new token      (Sennrich et al. 2016)

The text is cut into pieces, which are counted (`word_counts`); merges are learned within the pieces (`pair_training`). Bytes are
numbered in GPT-2's order. The first k merges do not depend on how many follow, so one training gives every smaller vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tinyllm.tokenizers.layout import BYTE_ORDER
from tinyllm.tokenizers.pair_training import Pair, learn_pairs, learn_pairs_slowly
from tinyllm.tokenizers.pretokenize import SplitPattern
from tinyllm.tokenizers.unicode_classes import character_classes
from tinyllm.tokenizers.word_counts import Progress, Words, count_words, working_room

Tokens = tuple[list[bytes], list[tuple[bytes, bytes]]]
BYTE_IDS = np.argsort(BYTE_ORDER).astype(np.int32)


def check_min_frequency(min_frequency: int) -> None:
    """ValueError unless it is at least 1."""
    if min_frequency < 1:
        raise ValueError(f"min_frequency: got {min_frequency}, expected at least 1")


def learn_merges(counts: dict[bytes, int], n_tokens: int, *, min_frequency: int = 2, progress: Progress | None = None) -> Tokens:
    """The vocabulary and merges learned from counted pieces: (tokens by id, merges in order).

    At most `n_tokens` new tokens after the 256 bytes, one a merge; fewer when no pair occurs `min_frequency` times.
    """
    check_min_frequency(min_frequency)
    symbols, weights = Words.of(counts).row(BYTE_IDS)
    pairs = learn_pairs(symbols, weights, n_symbols=256, n_merges=n_tokens, min_frequency=min_frequency, progress=progress)
    return tokens_of(pairs)


def learn_merges_slowly(counts: dict[bytes, int], n_tokens: int, *, min_frequency: int = 2) -> Tokens:
    """`learn_merges` with `learn_pairs_slowly`: to read, and to test with."""
    symbols, weights = Words.of(counts).row(BYTE_IDS)
    return tokens_of(learn_pairs_slowly(symbols, weights, n_symbols=256, n_merges=n_tokens, min_frequency=min_frequency))


def learn_from_documents(
    documents: Iterable[str | bytes], pattern: SplitPattern, n_tokens: int, *, min_frequency: int, special_tokens: Sequence[str],
    progress: Progress | None, memory_limit: int | None, processes: int,
) -> Tokens:  # fmt: skip
    """`learn_merges` of a corpus; see `BPETokenizer.train`."""
    words = count_words(
        documents, pattern.split, special_tokens=special_tokens, progress=progress, counter=_counter(pattern),
        memory_limit=memory_limit, processes=processes,
    )  # fmt: skip
    room = working_room(memory_limit)
    symbols, weights = words.row(BYTE_IDS, room)
    del words
    pairs = learn_pairs(
        symbols, weights, n_symbols=256, n_merges=n_tokens, min_frequency=min_frequency, progress=progress, room=room
    )
    return tokens_of(pairs)


def _counter(pattern: SplitPattern) -> Callable[[int | None], Any] | None:
    """What makes the kernels that count the pieces of a pattern; None if none knows it."""
    if pattern.cut is None:
        return None

    def make(memory: int | None) -> Any:
        from tinyllm.kernels.text.counting import PIECES, WordCounter

        return WordCounter(PIECES, character_classes(), cut=pattern.cut, memory=memory)

    return make


def tokens_of(pairs: Iterable[Pair]) -> Tokens:
    """(tokens by id, merges) in bytes, of merges in ids."""
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    merges = []
    for left, right in pairs:
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return tokens, merges
