"""Learning WordPiece's pieces. What the papers say and what most vocabularies were made by are two things; both are here.

    by likelihood   argmax count(ab) / (count(a) count(b))    the pair whose joining raises the likelihood of the corpus most, if
                                                              pieces were drawn one by one (Schuster and Nakajima 2012, section 3)
    by frequency    argmax count(ab)                          byte-pair encoding, with ## before what goes on a word

Google has not released its trainer; Hugging Face's, and so nearly every BERT made since, takes the second. The first likes parts
that are seldom seen apart (q and u), the second likes parts that are seen often. A word is its first character and then
##characters: "cat" is c ##a ##t, so that a piece says whether it begins a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tinyllm.tokenizers.normalizers import Normalizer
from tinyllm.tokenizers.pair_training import learn_pairs
from tinyllm.tokenizers.word_counts import Progress, Split, Words, count_words, ordinary_parts

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MOST_CHARACTERS = 1000


def read_words(
    documents: Iterable[str | bytes], normalizer: Normalizer, split: Split, *, classes: Callable[[], np.ndarray],
    special_tokens: Sequence[str], progress: Progress | None, memory_limit: int | None,
) -> Words:  # fmt: skip
    """The normalized words of `documents`. classes(): the table of characters by which a kernel cuts as `split` does."""

    def counter(memory: int | None) -> Any:
        from tinyllm.kernels.text.counting import PLAIN, WordCounter

        return WordCounter(PLAIN, classes(), memory=memory)

    def normalized() -> Iterator[str]:
        for parts in ordinary_parts(documents, special_tokens):
            yield "\n".join(map(normalizer, parts))

    return count_words(normalized(), split, progress=progress, counter=counter, memory_limit=memory_limit)


def learn_pieces(
    words: Words, *, n_pieces: int, prefix: str, by_likelihood: bool, min_frequency: int, most_characters: int = MOST_CHARACTERS,
    progress: Progress | None = None, continuing: str = "",
) -> list[str]:  # fmt: skip
    """The pieces: all characters, those that go on a word, merged ones in the order learned; n_pieces at most.

    Characters beyond the `most_characters` most frequent are left out of the words. continuing: how those that go on a word are
    numbered, by their codes if not given. ValueError if there is no room for the characters.
    """
    codes, counts = words.codes()
    ends = codes == ord("\n")
    begins = np.concatenate([[True], ends])[:-1] & ~ends
    totals = np.bincount(codes[~ends], counts[~ends], 0x110000)
    totals[0xD800:0xE000] = 0  # bytes that are no UTF-8
    chosen = np.sort(np.lexsort([np.arange(len(totals)), -totals])[: min(most_characters, int((totals > 0).sum()))])
    known = np.zeros(0x110000, bool)
    known[chosen] = True
    inside = list(map(ord, continuing)) or np.unique(codes[known[codes] & ~begins]).tolist()
    first_ids, inside_ids = np.full(0x110000, -1, np.int32), np.full(0x110000, -1, np.int32)
    first_ids[chosen], inside_ids[inside] = np.arange(len(chosen)), len(chosen) + np.arange(len(inside))
    stay = ends | known[codes]
    symbols = np.where(begins, first_ids[codes], inside_ids[codes])[stay]
    pieces = [*map(chr, chosen.tolist()), *(prefix + chr(code) for code in inside)]
    if n_pieces < len(pieces):
        raise ValueError(
            f"vocab_size: {len(pieces) - n_pieces} too small; {len(pieces)} pieces are single characters, at the start of a word "
            "and inside it; a smaller most_characters takes fewer"
        )
    pairs = learn_pairs(
        np.concatenate([[-1], symbols]).astype(np.int32), np.concatenate([[0], counts[stay]]), n_symbols=len(pieces),
        n_merges=n_pieces - len(pieces), min_frequency=min_frequency, by_likelihood=by_likelihood, progress=progress,
    )  # fmt: skip
    for left, right in pairs:
        pieces.append(pieces[left] + pieces[right].removeprefix(prefix))
    return pieces
