"""Unigram: of all ways to cut a text into pieces, the most probable one. T5, ALBERT, XLM-R.

    best cut = argmax over cuts x₁ x₂ ... xₙ of the text:  Σ log p(xᵢ)                  (Kudo 2018, eq. 1 and 2)

Each piece has a probability of its own, whatever stands beside it. The best cut is found by the Viterbi algorithm: for each place
of the text, the best cut of what stands before it, from which the last piece was taken. Nothing is merged step by step, so a
text has many cuts, each with its probability: `sample` draws one of them (subword regularisation, section 3), `n_best` lists
the best. `unigram_train` says where the probabilities come from.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyllm import kernels
from tinyllm.tokenizers.normalizers import Normalizer
from tinyllm.tokenizers.sentencepiece import CACHE_WORDS, Pieces, SentencePieceTokenizer
from tinyllm.tokenizers.sentencepiece_train import (
    COVERAGE,
    NFKC,
    SPECIAL_TOKENS,
    check_vocab_size,
    first_tokens,
    read_characters,
)  # fmt: skip
from tinyllm.tokenizers.unigram_train import N_SEEDS, PlainCorpus, learn_pieces
from tinyllm.tokenizers.word_counts import Progress

if TYPE_CHECKING:
    from tinyllm.kernels.text.pieces import WordCoder

LARGE = 1 << 17  # symbols of a corpus from which kernels pay
LARGEST_SCORE = 1e30  # of which sums are still numbers
UNKNOWN_PENALTY = 10.0  # below the least probable piece
NEAR = 2.0**-24  # of the sum, for each piece added: what rounding to 32 bits may make of two equal sums


class UnigramTokenizer(SentencePieceTokenizer):
    """Pieces with log probabilities `scores` (V,), float32 or float64: sums are rounded as the array is.

    Others: see `SentencePieceTokenizer`.
    """

    def __init__(self, pieces: Pieces, scores: np.ndarray, **others: Any):
        super().__init__(pieces, **others)
        if scores.shape != (len(pieces.texts),) or scores.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"scores: got {scores.dtype} {scores.shape}, expected one float for each of {len(pieces.texts)} pieces"
            )
        wild = ~(np.abs(scores) < LARGEST_SCORE)
        if wild.any():
            raise ValueError(f"scores: piece {np.flatnonzero(wild)[0]} has {scores[wild][0]}, which is no log probability")
        self.scores = scores
        self._kept: dict[str, tuple[list[tuple[int, int]], float]] = {}
        self._longest = max(map(len, self.ordinary), default=1)
        used = scores[list(self.ordinary.values())]
        self._unknown_score = scores.dtype.type((used.min() if used.size else 0) - UNKNOWN_PENALTY)

    @classmethod
    def train(
        cls, documents: Iterable[str | bytes], *, vocab_size: int, normalizer: Normalizer = NFKC,
        special_tokens: Iterable[str] = SPECIAL_TOKENS, byte_fallback: bool = True, coverage: float = COVERAGE,
        split_digits: bool = False, progress: Progress | None = None, memory_limit: int | None = None,
    ) -> UnigramTokenizer:  # fmt: skip
        """Learn a vocabulary of `vocab_size` ids from `documents`, each line of which is a text of its own.

        Ids: <unk>, the special tokens, the 256 bytes if `byte_fallback`, then the pieces, the most probable first, every
        character of the alphabet among them. Others: see `SentencePieceBPETokenizer.train`.
        """
        first, special = first_tokens(special_tokens, byte_fallback=byte_fallback)
        corpus = read_characters(
            documents, normalizer=normalizer, special_tokens=list(special), coverage=coverage, split_digits=split_digits,
            progress=progress, memory_limit=memory_limit,
        )  # fmt: skip
        check_vocab_size(vocab_size, len(first), corpus.alphabet)
        make: Any = PlainCorpus
        if len(corpus.symbols) >= LARGE and kernels.machine_code():
            from tinyllm.tokenizers.unigram_corpus import ArrayCorpus as make
        n = len(corpus.alphabet)
        seeds = make(corpus.symbols, corpus.weights, n, N_SEEDS)
        learned, scores = learn_pieces(seeds, n_characters=n, n_pieces=vocab_size - len(first), progress=progress)
        texts: list[str | None] = [*first, *map(corpus.text, learned)]
        return cls(
            Pieces(texts, unknown=0, byte_fallback=byte_fallback), np.concatenate([np.zeros(len(first)), scores]),
            normalizer=normalizer, prefix="unless_there",
            special_tokens=special,
        )  # fmt: skip

    def _edges(self, word: str, begin: int) -> list[tuple[int, int, Any]]:
        """(end, id, log probability) of each piece that begins at a place; an unknown character, id -1, where it has none."""
        ends = range(begin + 1, min(len(word), begin + self._longest) + 1)
        found = [(end, i, self.scores[i]) for end in ends if (i := self.ordinary.get(word[begin:end], -1)) >= 0]
        return found if found and found[0][0] == begin + 1 else [*found, (begin + 1, -1, self._unknown_score)]

    def _segment(self, word: str) -> list[tuple[int, int]]:
        return self._viterbi(word, self.scores.dtype.type(0))[0]

    def _viterbi(self, word: str, base: Any) -> tuple[list[tuple[int, int]], float]:
        """(the best cut, how near another came to it at some place). base: the sum of what stands before the word."""
        best: list[tuple[Any, int, int]] = [(base, 0, 0)]  # of each place: sum, where the last piece begins, its id
        best += [(-math.inf, -1, 0)] * len(word)
        near = math.inf
        for begin in range(len(word)):
            for end, token, score in self._edges(word, begin):
                total = best[begin][0] + score
                if best[end][1] >= 0:
                    near = min(near, abs(float(total - best[end][0])))
                if best[end][1] < 0 or total > best[end][0]:
                    best[end] = total, begin, token
        found = []
        end = len(word)
        while end > 0:
            _, begin, token = best[end]
            found.append((token, end - begin))
            end = begin
        return found[::-1], near

    def _words(self, text: str) -> Iterable[tuple[list[int], list[int]]]:
        """See `SentencePieceTokenizer`.

        SentencePiece adds up the whole text in 32 bits, so that of two cuts that are equally good rounding chooses one: where a
        word has such cuts, it is cut anew with the sum of all that stands before it.
        """
        if self.scores.dtype != np.float32:
            yield from super()._words(text)
            return
        base = np.float32(0)
        for word in self._cut(text):
            if word not in self._kept:
                if len(self._kept) >= CACHE_WORDS:
                    self._kept.clear()
                self._kept[word] = self._viterbi(word, np.float32(0))
            cut, near = self._kept[word]
            most = abs(float(base)) + len(word) * abs(float(self._unknown_score))
            if near <= 2 * len(word) * NEAR * most:
                cut, _ = self._viterbi(word, base)
            for token, _ in cut:
                base += self.scores[token] if token >= 0 else self._unknown_score
            yield self._with_fallback(word, cut)

    def _coder(self) -> WordCoder:
        from tinyllm.kernels.text.pieces import BEST, WordCoder

        unknown = -1 if self.pieces.unknown is None else self.pieces.unknown
        return WordCoder(
            BEST, self._spoken, self._spoken, unknown=unknown, ordinary=self._ordinary_ids(), byte_ids=self.byte_ids,
            each_space=self.each_space, squeeze=self._squeezes, scores=self.scores, unknown_score=float(self._unknown_score),
            rounding=NEAR if self.scores.dtype == np.float32 else 0.0,
        )  # fmt: skip

    def _grow(self, ids: dict[str, int]) -> None:
        super()._grow(ids)
        self.scores = np.append(self.scores, np.zeros(len(ids), self.scores.dtype))

    def to_json(self) -> dict[str, Any]:
        """A Unigram model. ValueError if an id has no piece, which such a file cannot say."""
        if None in self.pieces.texts:
            raise ValueError(f"pieces: id {self.pieces.texts.index(None)} has none, and a Unigram file needs one for each")
        vocab = [[text, float(score)] for text, score in zip(self.pieces.texts, self.scores, strict=True)]
        own = {"score_bits": 32} if self.scores.dtype == np.float32 else {}  # which Hugging Face passes over
        byte_fallback = self.byte_ids is not None
        model = {"type": "Unigram", "unk_id": self.pieces.unknown, "vocab": vocab, "byte_fallback": byte_fallback}
        return self._layout({**model, **own})

    def n_best(self, text: str, n: int) -> list[tuple[list[int], float]]:
        """The n most probable cuts of a whole text, each with its log probability: (ids, log p). Best first.

        From the end of the text to its beginning, the cut first that can still become the best (A*, whose estimate, the best
        sum of what stands before, is exact).
        """
        if n < 1:
            raise ValueError(f"n: got {n}, expected at least 1")
        word = self._marking["start"](self.normalizer(text))
        before, edges = self._forward(word, max)
        heap: list[tuple[float, int, int, float, tuple[tuple[int, int], ...]]] = [(-before[-1], 0, len(word), 0.0, ())]
        found: list[tuple[list[int], float]] = []
        count = 0
        while heap and len(found) < n:
            negative, _, place, behind, cut = heapq.heappop(heap)
            if place == 0:
                found.append((self._ids(word, cut), -negative))
                continue
            for begin, token, score in edges[place]:
                count += 1
                total = behind + score
                heapq.heappush(heap, (-(before[begin] + total), count, begin, total, ((token, place - begin), *cut)))
        return found

    def sample(self, text: str, *, rng: np.random.Generator, alpha: float = 1.0) -> list[int]:
        """The ids of a cut drawn with probability ~ p(cut)^alpha (Kudo 2018, section 3.2): alpha 0 draws all cuts alike."""
        if not alpha >= 0:
            raise ValueError(f"alpha: got {alpha}, expected 0 or more")
        word = self._marking["start"](self.normalizer(text))
        before, edges = self._forward(word, _log_sum, alpha)
        cut: list[tuple[int, int]] = []
        place = len(word)
        while place > 0:
            weights = np.array([before[begin] + alpha * score for begin, _, score in edges[place]])
            weights = np.exp(weights - weights.max())
            begin, token, _ = edges[place][rng.choice(len(weights), p=weights / weights.sum())]
            cut.append((token, place - begin))
            place = begin
        return self._ids(word, tuple(cut[::-1]))

    def _forward(self, word: str, join: Any, alpha: float = 1.0) -> tuple[list[float], list[list[tuple[int, int, float]]]]:
        """Of each place: the joined sums of all cuts of what stands before; the pieces (begin, id, log p) that end there."""
        edges: list[list[tuple[int, int, float]]] = [[] for _ in range(len(word) + 1)]
        before = [0.0] * (len(word) + 1)
        for begin in range(len(word)):
            if begin:
                before[begin] = join([before[b] + alpha * score for b, _, score in edges[begin]])
            for end, token, score in self._edges(word, begin):
                edges[end].append((begin, token, float(score)))
        before[-1] = join([before[b] + alpha * score for b, _, score in edges[-1]]) if word else 0.0
        return before, edges

    def _ids(self, word: str, cut: tuple[tuple[int, int], ...]) -> list[int]:
        """The ids of a cut, with unknown characters as bytes or as the unknown token."""
        return self._with_fallback(word, list(cut))[0]


def _log_sum(values: list[float]) -> float:
    """log Σ exp(values)."""
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))
