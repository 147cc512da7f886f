"""Byte-pair encoding over characters with a visible space: Llama 2, Mistral, Gemma.

The merges are learned and applied as in `bpe`, but the first symbols are the characters of the text, not its bytes, and words are
not cut by an expression: a merge may not go past a space, and that is all (Kudo and Richardson 2018, section 3.1). A character
that has no piece of its own falls back to its bytes, on which nothing is ever merged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyllm.tokenizers.bpe_train import check_min_frequency
from tinyllm.tokenizers.characters import to_text
from tinyllm.tokenizers.merging import LONG, Ranks, check_dropout, merge_by_heap, merge_by_search, merge_with_dropout
from tinyllm.tokenizers.normalizers import Normalizer
from tinyllm.tokenizers.pair_training import learn_pairs
from tinyllm.tokenizers.sentencepiece import Pieces, SentencePieceTokenizer
from tinyllm.tokenizers.sentencepiece_train import (
    COVERAGE,
    NFKC,
    SPECIAL_TOKENS,
    check_vocab_size,
    first_tokens,
    read_characters,
)  # fmt: skip
from tinyllm.tokenizers.word_counts import Progress

if TYPE_CHECKING:
    from tinyllm.kernels.text.pieces import WordCoder

Merge = Callable[[list[int], Ranks], list[int]]


class SentencePieceBPETokenizer(SentencePieceTokenizer):
    """BPE with marked spaces.

    merges  pairs of ids with the id of what they make: (left, right, joined)
    order   the rank of each: the lowest is joined first, of equal ones the leftmost. None: as they stand
    Others  see `SentencePieceTokenizer`
    """

    def __init__(self, pieces: Pieces, merges: list[tuple[int, int, int]], order: list[int] | None = None, **others: Any):
        super().__init__(pieces, **others)
        self.merges = np.array(merges, np.int32).reshape(-1, 3)
        self.order = np.arange(len(merges), dtype=np.int32) if order is None else np.array(order, np.int32)
        if self.merges.size and not 0 <= self.merges.min() <= self.merges.max() < len(pieces.texts):
            raise ValueError(f"merges: got an id outside 0 to {len(pieces.texts) - 1}")
        self._ranks = {
            (left, right): (rank, joined) for (left, right, joined), rank in zip(merges, self.order.tolist(), strict=True)
        }

    @classmethod
    def train(
        cls, documents: Iterable[str | bytes], *, vocab_size: int, normalizer: Normalizer = NFKC, min_frequency: int = 2,
        special_tokens: Iterable[str] = SPECIAL_TOKENS, byte_fallback: bool = True, coverage: float = COVERAGE,
        split_digits: bool = False, progress: Progress | None = None, memory_limit: int | None = None,
    ) -> SentencePieceBPETokenizer:  # fmt: skip
        """Learn a vocabulary of `vocab_size` ids from `documents`, each line of which is a text of its own.

        Ids: <unk>, the special tokens, the 256 bytes if `byte_fallback`, the merged pieces in the order learned, the characters
        with the most frequent first. coverage: the share of the text that they are to cover; the rarest get no piece.
        split_digits: each digit is a piece of its own. memory_limit: bytes for counting words; the rows of the distinct words,
        from which is learned, come on top. Others: see `BPETokenizer.train`.
        """
        check_min_frequency(min_frequency)
        first, special = first_tokens(special_tokens, byte_fallback=byte_fallback)
        corpus = read_characters(
            documents, normalizer=normalizer, special_tokens=list(special), coverage=coverage, split_digits=split_digits,
            progress=progress, memory_limit=memory_limit,
        )  # fmt: skip
        n_characters = len(corpus.alphabet)
        check_vocab_size(vocab_size, len(first), corpus.alphabet)
        pairs = learn_pairs(
            corpus.symbols, corpus.weights, n_symbols=n_characters, n_merges=vocab_size - len(first) - n_characters,
            min_frequency=min_frequency, progress=progress,
        )  # fmt: skip
        characters = [corpus.text([i]) for i in range(n_characters)]
        learned = list(characters)
        for left, right in pairs:
            learned.append(learned[left] + learned[right])
        ids = [*(len(first) + len(pairs) + i for i in range(n_characters)), *range(len(first), len(first) + len(pairs))]
        texts: list[str | None] = [*first, *learned[n_characters:], *characters]
        merges = [(ids[left], ids[right], len(first) + k) for k, (left, right) in enumerate(pairs)]
        return cls(
            Pieces(texts, unknown=0, byte_fallback=byte_fallback), merges, normalizer=normalizer, prefix="unless_there",
            special_tokens=special,
        )  # fmt: skip

    def _segment(self, word: str, merge: Merge | None = None) -> list[tuple[int, int]]:
        symbols = [self.ordinary.get(character, -1) for character in word]
        merge = merge or (merge_by_search if len(symbols) < LONG else merge_by_heap)
        if -1 not in symbols:
            return [(token, self._length(token)) for token in merge(symbols, self._ranks)]
        found: list[tuple[int, int]] = []  # nothing is merged over a character without a piece
        run: list[int] = []
        for symbol in [*symbols, -1]:
            if symbol >= 0:
                run.append(symbol)
                continue
            found += [(token, self._length(token)) for token in merge(run, self._ranks)] if run else []
            found.append((-1, 1))
            run = []
        return found[:-1]

    def sample(self, text: str, *, rng: np.random.Generator, dropout: float = 0.1) -> list[int]:
        """The ids of `text` by BPE-dropout; see `BPETokenizer.sample`."""
        check_dropout(dropout)
        ids: list[int] = []
        for word in self._cut(self._marking["start"](self.normalizer(to_text(text)))):
            cut = self._segment(word, lambda run, ranks: merge_with_dropout(run, ranks, dropout=dropout, rng=rng))
            ids += self._with_fallback(word, cut)[0]
        return ids

    def _coder(self) -> WordCoder:
        from tinyllm.kernels.text.pieces import MERGES, WordCoder

        unknown = -1 if self.pieces.unknown is None else self.pieces.unknown
        return WordCoder(
            MERGES, self._spoken, self._spoken, unknown=unknown, ordinary=self._ordinary_ids(), byte_ids=self.byte_ids,
            each_space=self.each_space, squeeze=self._squeezes, merges=(self.merges, self.order),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """A BPE model of characters. Merges of one rank come in the order of their parts: a file has no equal ranks."""
        texts = self.pieces.texts
        unknown = None if self.pieces.unknown is None else texts[self.pieces.unknown]
        merges = self.merges[np.argsort(self.order, kind="stable"), :2].tolist()
        return self._layout({
            "type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": self.byte_ids is not None, "ignore_merges": False,
            "vocab": {text: i for i, text in enumerate(texts) if text is not None},
            "merges": [[texts[left], texts[right]] for left, right in merges],
        })  # fmt: skip

    def _length(self, token: int) -> int:
        return len(self.pieces.texts[token] or "")


def every_merge(pieces: Pieces, scores: list[float], kinds: list[int]) -> tuple[list[tuple[int, int, int]], list[int]]:
    """(merges, order) of a SentencePiece model, which holds no merges: any two pieces that make a piece are a pair.

    The one that makes the piece with the highest score comes first. Only pieces of kind 1 (normal) are merged.
    """
    ids = {text: i for i, text in enumerate(pieces.texts) if text and kinds[i] == 1}
    ranked = sorted(ids.values(), key=lambda i: -scores[i])
    merges, order = [], []
    rank, before = -1, None
    for i in ranked:
        rank, before = (rank if scores[i] == before else rank + 1), scores[i]
        text = pieces.texts[i] or ""
        for k in range(1, len(text)):
            if text[:k] in ids and text[k:] in ids:
                merges.append((ids[text[:k]], ids[text[k:]], i))
                order.append(rank)
    return merges, order
