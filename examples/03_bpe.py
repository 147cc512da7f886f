"""Byte-pair encoding, step by step: how a tokenizer learns its own alphabet.

It starts with the 256 bytes. Again and again it finds the pair of neighbours that is most frequent in the training text and
makes it a token of its own. Frequent words become one token, rare ones fall into pieces, and nothing is ever unknown,
because the bytes are always there. Sennrich et al. 2016, section 3.2; on bytes: Radford et al. 2019, section 2.2.

Read next: tinyllm/tokenizers/bpe_train.py (learning), bpe.py (applying).
"""

from __future__ import annotations

from collections import Counter

from tinyllm.data import read_standard_library
from tinyllm.tokenizers import BPETokenizer, ByteTokenizer

WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}  # the paper's example: a dictionary with counts


def most_frequent_pair(words: dict[tuple[str, ...], int]) -> tuple[tuple[str, str], int]:
    """The pair of neighbouring symbols that occurs most often; of equals, the first in alphabetical order."""
    pairs: Counter[tuple[str, str]] = Counter()
    for symbols, count in words.items():
        for pair in zip(symbols, symbols[1:], strict=False):
            pairs[pair] += count
    return min(pairs.items(), key=lambda item: (-item[1], item[0]))


def join(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Replace each occurrence of the pair by one symbol: ('n','e','w','e') with ('n','e') -> ('ne','w','e')."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return tuple(joined)


def by_hand(n_merges: int) -> None:
    """The textbook loop, rescanning everything each time: right, readable, and far too slow for real text."""
    words = {tuple(word) + ("_",): count for word, count in WORDS.items()}
    print("words with their counts ('_' ends a word):", ", ".join(f"{w} {c}" for w, c in WORDS.items()))
    for i in range(n_merges):
        pair, count = most_frequent_pair(words)
        words = {join(symbols, pair): n for symbols, n in words.items()}
        print(f"  merge {i + 1}: {pair[0]!r} + {pair[1]!r} seen {count} times ->", "  ".join("·".join(w) for w in words))


def main(steps: int = 2000, seed: int = 0) -> dict[str, float]:
    """`steps` is the number of merges learned from Python's language reference. (Nothing here is random: seed is unused.)"""
    by_hand(8)

    (source,) = read_standard_library(("reference",))
    text = b"\n".join(source.documents)
    text, held_out = text[:-50_000], text[-50_000:]
    tokenizer = BPETokenizer.train([text], vocab_size=257 + steps)
    print(f"\n{steps} merges learned from {len(text):,} bytes of the language reference")
    for first in [i for i in (0, 10, 100, 1000, steps - 8) if 0 <= i <= steps - 8]:
        tokens = [tokenizer.token_bytes(256 + i).decode("utf-8", "replace") for i in range(first, first + 8)]
        print(f"  tokens {first + 1:5d} to {first + 8:5d}: " + "  ".join(repr(token) for token in tokens))

    print("\nthe same merges, applied to a word nobody trained on:")
    for state in tokenizer.explain("unreturnable")[0]:
        print("  " + " ".join(piece.decode() for piece in state))

    ratio = len(held_out) / len(tokenizer.encode(held_out))
    print(
        f"\non text it has not seen: {ratio:.2f} bytes a token (bytes alone: "
        f"{len(held_out) / len(ByteTokenizer().encode(held_out)):.2f}), and nothing is lost:",
        tokenizer.decode_bytes(tokenizer.encode(held_out)) == held_out,
    )
    return {"bytes_per_token": ratio}


if __name__ == "__main__":
    main()
