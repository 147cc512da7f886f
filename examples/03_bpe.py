"""Byte-pair encoding, step by step: how a tokenizer learns its own alphabet.

It starts with the 256 bytes. Again and again it finds the pair of neighbours that is most frequent in the training text and
makes it a token of its own. Frequent words become one token, rare ones fall into pieces, and nothing is ever unknown,
because the bytes are always there. Sennrich et al. 2016, section 3.2; on bytes: Radford et al. 2019, section 2.2.

Read next: tinyllm/tokenizers/bpe_train.py (learning), bpe.py (applying).
"""

from __future__ import annotations

from collections import Counter

import lesson

from tinyllm.data import read_standard_library
from tinyllm.report.chart import Line, Plot, Words, picture
from tinyllm.tokenizers import BPETokenizer

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


def draw(states: list[list[str]], curve: list[tuple[int, float]]) -> str:
    """A word put together merge by merge, and how much text a token holds, the more merges there are."""
    counts, ratios = zip(*curve, strict=True)
    return picture([
        Words("a word, merge by merge", [(str(i) if i else "letters", state) for i, state in enumerate(states)]),
        Plot("bytes per token, on text it has not seen", "merges learned",
             [Line("", counts, ratios, dots=3)], levels=[(1.0, "bytes alone")], log="x", y_range=(0.8, None)),
    ], title="A tokenizer learns its own alphabet", shares=(1.15, 1), height=330)  # fmt: skip


def main(steps: int = 2000, seed: int = 0, *, word: str = "unreturnable", figure: str | None = None) -> dict[str, float]:
    """`steps` is the number of merges learned from Python's language reference. (Nothing here is random: seed is unused.)"""
    by_hand(8)

    (source,) = read_standard_library(("reference",))
    text = b"\n".join(source.documents)
    text, held_out = text[:-50_000], text[-50_000:]
    tokenizer = BPETokenizer.train([text], vocab_size=257 + steps)
    steps = len(tokenizer.merges)  # fewer than were asked for, if no pair occurs twice any more
    print(f"\n{steps} merges learned from {len(text):,} bytes of the language reference")
    for first in [i for i in (0, 10, 100, 1000, steps - 8) if 0 <= i <= steps - 8]:
        tokens = [tokenizer.token_bytes(256 + i).decode("utf-8", "replace") for i in range(first, first + 8)]
        print(f"  tokens {first + 1:5d} to {first + 8:5d}: " + "  ".join(repr(token) for token in tokens))

    print("\nthe same merges, applied to a word nobody trained on:")
    states = [[piece.decode("utf-8", "replace") for piece in state] for state in tokenizer.explain(word)[0]]
    for state in states:
        print("  " + " ".join(state))

    curve = []
    for n in sorted({max(1, steps >> i) for i in range(8)}):  # the first n merges of a longer list are what n merges learn
        fewer = BPETokenizer(tokenizer.tokens[: 256 + n], tokenizer.merges[:n])
        curve.append((n, len(held_out) / len(fewer.encode(held_out))))
    ids = tokenizer.encode(held_out)
    ratio = len(held_out) / len(ids)
    lossless = tokenizer.decode_bytes(ids) == held_out
    print(f"\non text it has not seen: {ratio:.2f} bytes a token (bytes alone: 1.00), and nothing is lost: {lossless}")
    lesson.save_figure(draw(states, curve), figure)
    return {"bytes_per_token": ratio, "lossless": lossless, "pieces": len(states[-1])}


if __name__ == "__main__":
    lesson.run(
        main,
        file=__file__,
        doc=__doc__,
        flags={"steps": "merges to learn", "seed": "unused: nothing here is random", "word": "a word to take apart"},
        full={"steps": 6000},
        full_time="three seconds",
        tries=[
            ("--steps 100", "1.73 bytes per token instead of 3.43: 'unreturnable' ends as nine pieces instead of three"),
            (
                "--word antidisestablishmentarianism",
                "15 pieces: an ti d i se sta b li sh me nta ri an is m; rare words fall apart, but none is unknown",
            ),
            (
                "--full",
                "6000 merges, 3.91 bytes per token: three times the alphabet saves an eighth; late tokens are whole "
                "words, ' consistency'",
            ),
        ],
    )
