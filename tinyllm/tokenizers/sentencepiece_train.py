"""What SentencePiece's trainers share: lines of text as words with a space in front, and words as rows of characters.

    Hello world  ->  " Hello", " world"

Each line is a text of its own. A word may hold letters, or digits, or other signs, but not two of these, and no Chinese or
Japanese beside other letters: so " don't" is cut as " don", "'", "t" (Kudo and Richardson 2018, the released trainer's
`split_by_unicode_script` and `split_by_number`, in a simpler form). The rarest characters get no piece of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import regex

from tinyllm.tokenizers.normalizers import Normalizer, Unicode
from tinyllm.tokenizers.sentencepiece import BYTE_PIECE, MARK, SQUEEZE
from tinyllm.tokenizers.unicode_classes import classes_of
from tinyllm.tokenizers.word_counts import Progress, Words, count_words, ordinary_parts

NFKC = Normalizer((Unicode("NFKC"), SQUEEZE))
UNKNOWN, SPECIAL_TOKENS = "<unk>", ("<s>", "</s>")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
COVERAGE = 0.9995
_HAN = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
_SCRIPTS = (rf"[{_HAN}]", rf"[\p{{L}}\p{{M}}--[{_HAN}]]", r"[\p{N}--\p{Han}]", rf"[^\p{{L}}\p{{M}}\p{{N}}{_HAN}\ \n]")


def cut_words(line: str, *, split_digits: bool = False) -> list[str]:
    """The words of marked lines: a run of one kind of characters with the space before it; of several spaces, the last."""
    return _expression(split_digits).findall(line)


@cache
def _expression(split_digits: bool) -> regex.Pattern[str]:
    han, letters, numbers, others = _SCRIPTS
    words = "|".join(f"{kind}+" for kind in ((han, letters, others) if split_digits else _SCRIPTS))
    digit, but = (f"|{numbers}| +(?={numbers})", f"(?!{numbers})") if split_digits else ("", "")
    return regex.compile(rf" +(?= {but}[^\ \n])| ?(?:{words}){digit}", regex.VERSION1)


@cache
def _classes(split_digits: bool) -> np.ndarray:
    """(0x110000,) uint8 for the kernel that cuts as `cut_words` does."""
    from tinyllm.kernels.text.counting import BLANKS, KINDS, LINE_END, SINGLE

    bits = (*KINDS[:2], SINGLE, KINDS[3]) if split_digits else KINDS
    kinds = dict(zip(bits, (f"(?V1){kind}" for kind in _SCRIPTS), strict=True))
    return classes_of({LINE_END: r"\n", BLANKS: " ", **kinds})


class Characters(NamedTuple):
    """A corpus for the learners. alphabet: the characters by id, the most frequent first; symbols, weights: see `learn_pairs`."""

    alphabet: str
    symbols: np.ndarray
    weights: np.ndarray

    def text(self, ids: Iterable[int]) -> str:
        """The characters of some ids, as a piece is written."""
        return "".join(self.alphabet[i] for i in ids).replace(" ", MARK)


def read_characters(
    documents: Iterable[str | bytes], *, normalizer: Normalizer, special_tokens: Sequence[str], coverage: float = COVERAGE,
    split_digits: bool = False, progress: Progress | None = None, memory_limit: int | None = None,
) -> Characters:  # fmt: skip
    """The words of `documents` as rows of characters. `coverage`: the share of all text that the alphabet is to cover.

    memory_limit: bytes for counting words, what is more goes to files; the rows of the distinct words come on top.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage: got {coverage}, expected a share above 0, 1 at most")

    def counter(memory: int | None) -> Any:
        from tinyllm.kernels.text.counting import MARKED, WordCounter

        return WordCounter(MARKED, _classes(split_digits), memory=memory)

    def split(text: str) -> list[str]:
        return cut_words(text, split_digits=split_digits)

    lines = marked_lines(documents, normalizer, special_tokens)
    words = count_words(lines, split, progress=progress, counter=counter, memory_limit=memory_limit)
    return as_characters(words.ordered(), coverage)


def marked_lines(documents: Iterable[str | bytes], normalizer: Normalizer, special_tokens: Sequence[str]) -> Iterator[str]:
    """Each document, normalized, with a space before each of its lines. What spells a special token or a byte separates it."""
    apart = [re.escape(token) for token in special_tokens]
    reserved = re.compile("|".join([*apart, BYTE_PIECE.pattern]))
    by_line = normalizer("a \n  b\n") != "a \n b\n"  # then its steps are for whole lines
    for parts in ordinary_parts(documents, special_tokens):
        text = "\n".join(parts)
        text = "\n".join(map(normalizer, text.split("\n"))) if by_line else normalizer(text)
        text = text.replace(MARK, " ")
        if any(token in text for token in ("<0x", *special_tokens)):  # much faster than the expression
            text = reserved.sub("\n", text)
        yield f" {text.lstrip(' ')}".replace("\n ", "\n").replace("\n", "\n ")


def as_characters(words: Words, coverage: float) -> Characters:
    """Words as rows of characters. Where a character is too rare for the alphabet, a word is cut in two."""
    codes, counts = words.codes()
    inside = codes != ord("\n")
    totals = np.bincount(codes[inside], counts[inside], 0x110000)
    totals[0xD800:0xE000] = 0  # bytes that are no UTF-8
    order = np.lexsort([np.arange(len(totals)), -totals])
    n = int(np.searchsorted(np.cumsum(totals[order]), coverage * totals.sum() * (1 - 1e-12))) + 1
    chosen = order[: min(n, int((totals > 0).sum()))]
    ids = np.full(0x110000, -1, np.int32)
    ids[chosen] = np.arange(len(chosen))
    symbols, weights = np.full(len(codes) + 1, -1, np.int32), np.zeros(len(codes) + 1, np.int64)
    symbols[1:], weights[1:] = ids[codes], counts
    return Characters("".join(map(chr, chosen.tolist())), symbols, weights)


def first_tokens(special_tokens: str | Iterable[str], *, byte_fallback: bool) -> tuple[list[str], dict[str, int]]:
    """(the tokens that stand before all pieces: <unk>, the special ones, the 256 bytes; the ids of the special ones)."""
    special = list(dict.fromkeys([UNKNOWN, *([special_tokens] if isinstance(special_tokens, str) else special_tokens)]))
    return [*special, *(BYTES if byte_fallback else [])], {text: i for i, text in enumerate(special)}


def check_vocab_size(vocab_size: int, n_others: int, alphabet: str) -> None:
    """ValueError if there is no room for every character beside the other tokens."""
    least = n_others + len(alphabet)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size: got {vocab_size}, expected at least {least}: {len(alphabet)} characters and {n_others} others; "
            "a lower coverage takes fewer characters"
        )
