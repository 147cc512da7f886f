"""Does a tokenizer give the ids of the reference implementation, on a million hard strings?

    python benchmarks/tokenizer_parity.py tiktoken cl100k_base.tiktoken.gz
    python benchmarks/tokenizer_parity.py huggingface FOLDER/tokenizer.json --strings 200000
    python benchmarks/tokenizer_parity.py sentencepiece FILE.model --strings 200000

The strings: every Unicode character alone and between letters; all pairs of bytes; mixtures of scripts, emoji with joiners, CRLF,
NUL, decomposed accents, spaces of all kinds; the lines of Python's own library. Half of them are encoded one by one, half in
batches, which is other code. `huggingface` also compares the ids in the file's template with their offsets. The peer must be
installed. Characters that are newer than this Python's Unicode tables are listed where they make a difference: the peer's tables
may be of another year. Outside byte-level BPE (BERT's punctuation and accents come from an old table) those that the peer takes
for something else are found first, each between two letters, and counted; strings with one of them are set apart.
"""

from __future__ import annotations

import argparse
import random
import sys
import sysconfig
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from tinyllm.tokenizers import BPETokenizer, Tokenizer, load_tokenizer
from tinyllm.tokenizers.formats.tiktoken import read_ranks

BATCH = 20_000  # strings compared at a time
ALPHABETS = (
    """abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ 0123456789 '’ſsStTdDmMlLrReEvV !"#$%&()*+,-./:;<=>?@[]^_`{|}~
éèüßñçøåæŠžıİǅǆ αβγΔΩ привет עברית عربي١٢٣ हिन्दी०१ ไทย๑ 中文字漢 ひらカタ々ー 한국어 👩🏽👨👧🏻🚀❤🇩🇪 ²½Ⅷ㊿𝟘𝐀""".split()
    + [
        " \t\n\r\u00a0\u2003\u3000\u200b\u0085\x0b\x1c\x00",
        "\u1112\u1161\u11ab",
        "\u0301\u0308\u0903\u20e3\ufe0f\u200d",
        "\ue000\U000f0000\U000e0041\u2028\ufffd",
    ]
)


def every_character() -> Iterator[str]:
    """Each Unicode scalar value, alone and between letters."""
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            yield chr(code)
            yield f"a{chr(code)}b"


def mixtures(seed: int) -> Iterator[str]:
    """Random strings without end: a few alphabets each, in runs."""
    rng = random.Random(seed)
    while True:
        alphabets = rng.sample(ALPHABETS, rng.randint(1, 4))
        runs = ("".join(rng.choices(rng.choice(alphabets), k=rng.randint(1, 5))) for _ in range(rng.randint(1, 8)))
        text = rng.choice(("", " ", "\r\n")).join(runs)
        yield unicodedata.normalize("NFD", text) if rng.random() < 0.1 else text


def library_lines() -> Iterator[str]:
    """The lines of Python's library, those of a file sometimes several at once."""
    rng = random.Random(0)
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        lines = path.read_text("utf-8", "replace").splitlines(keepends=True)
        while lines:
            n = rng.choice((1, 1, 2, 10))
            yield "".join(lines[:n])
            del lines[:n]


def hard_strings(n: int) -> Iterator[str]:
    """Every character twice, the library, and mixtures: at least n strings."""
    yield from islice(every_character(), n) if n < 10**6 else every_character()
    yield from library_lines()
    yield from islice(mixtures(1), n)


Encode = Callable[[list[str]], list[list[int]]]


def classed_differently(ours: Encode, theirs: Encode) -> set[str]:
    """The characters that alone make a difference."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    texts = [f"a{character}b" for character in characters]
    return {c for c, mine, wanted in zip(characters, ours(texts), theirs(texts), strict=True) if mine != wanted}


def compare(ours: Encode, theirs: Encode, n: int, *, apart: frozenset[str] | set[str] = frozenset()) -> int:
    """Compare batch by batch; prints each difference; returns how many strings differ for another reason than Unicode's age."""
    strings, n_equal, unknown = hard_strings(n), 0, 0
    known: set[str] = set()
    started = time.perf_counter()
    while batch := list(islice(strings, BATCH)):
        for text, mine, wanted in zip(batch, ours(batch), theirs(batch), strict=True):
            if mine == wanted:
                n_equal += 1
            elif new := {c for c in text if unicodedata.category(c) == "Cn" or c in apart}:
                known |= new
            else:
                unknown += 1
                if unknown <= 20:
                    print(f"  {text!r}: ours {mine}, theirs {wanted}")
    print(f"{n_equal:,} strings equal, {unknown} different, in {time.perf_counter() - started:.0f} s")
    if known - apart:
        known -= apart
        print(f"characters newer than the peer's Unicode: {', '.join(f'U+{ord(c):04X}' for c in sorted(known))}")
    return unknown


def tiktoken_encoding(path: Path, tokenizer: BPETokenizer) -> Any:
    """tiktoken on the same file, with the pattern as tiktoken itself spells it."""
    import tiktoken
    from tiktoken_ext import openai_public

    name = path.name.split(".")[0]
    found = {}
    openai_public.load_tiktoken_bpe = lambda *args, **settings: found.setdefault("ranks", dict(tokenizer.ordinary))  # no download
    settings = getattr(openai_public, name)()
    return tiktoken.Encoding(**settings)


def tiktoken_peer(path: Path, tokenizer: BPETokenizer) -> Callable[[list[str]], list[list[int]]]:
    """Its ids."""
    encoding = tiktoken_encoding(path, tokenizer)
    return lambda texts: [encoding.encode_ordinary(text) for text in texts]


def sentencepiece_peer(path: Path) -> Callable[[list[str]], list[list[int]]]:
    """sentencepiece on the same model."""
    import sentencepiece

    peer = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return lambda texts: [peer.encode(text) for text in texts]


def with_offsets(tokenizer: Tokenizer, path: Path) -> tuple[Any, Any]:
    """(ours, theirs): of each text the ids in the template and their offsets, as one list of numbers."""
    import tokenizers

    peer = tokenizers.Tokenizer.from_file(str(path))
    peer.no_padding()
    peer.no_truncation()

    def flat(encoding: Any) -> list[int]:
        return [*encoding.ids, *(place for span in encoding.offsets for place in span)]

    def ours(texts: list[str]) -> list[list[int]]:
        return [flat(tokenizer.encoding(text, allowed_special="all")) for text in texts]

    return ours, lambda texts: [flat(encoding) for encoding in peer.encode_batch(texts)]


def huggingface_peer(path: Path) -> Callable[[list[str]], list[list[int]]]:
    """Hugging Face's tokenizers on the same file, without the tokens that a template adds."""
    import tokenizers

    peer = tokenizers.Tokenizer.from_file(str(path))
    peer.no_padding()
    peer.no_truncation()
    return lambda texts: [encoding.ids for encoding in peer.encode_batch(texts, add_special_tokens=False)]


def main() -> None:
    """Read the arguments, compare, and fail if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("peer", choices=("tiktoken", "huggingface", "sentencepiece"))
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--strings", type=int, default=10**6, metavar="N", help="mixtures, beside every character and the library"
    )
    args = parser.parse_args()
    tokenizer: Tokenizer = read_ranks(args.file) if args.peer == "tiktoken" else load_tokenizer(args.file)
    allowed = "all" if args.peer == "huggingface" else ()  # the others make no special token from text
    if isinstance(tokenizer, BPETokenizer) and args.peer == "tiktoken":
        peer = tiktoken_peer(args.file, tokenizer)
    else:
        peer = sentencepiece_peer(args.file) if args.peer == "sentencepiece" else huggingface_peer(args.file)

    def ours(texts: list[str]) -> list[list[int]]:
        half = len(texts) // 2
        alone = [tokenizer.encode(text, allowed_special=allowed) for text in texts[:half]]
        return alone + tokenizer.encode_batch(texts[half:], allowed_special=allowed)

    print(f"{args.file.name}: {tokenizer.vocab_size:,} tokens")
    apart = classed_differently(ours, peer) if not isinstance(tokenizer, BPETokenizer) else set()
    if apart:
        kinds = Counter(map(unicodedata.category, apart))
        print(f"{len(apart)} characters are classed differently: {dict(kinds)}; the first is U+{ord(min(apart)):04X}")
    wrong = compare(ours, peer, args.strings, apart=apart)
    if args.peer == "huggingface":
        print("with offsets:")
        wrong += compare(*with_offsets(tokenizer, args.file), args.strings, apart=apart)
    if not isinstance(tokenizer, BPETokenizer):
        sys.exit(1 if wrong else 0)
    pairs = [bytes([a, b]) for a in range(256) for b in range(256)]
    form = tokenizer.normalization
    back = 0
    for pair, ids in zip(pairs, tokenizer.encode_batch(pairs), strict=True):
        text = pair.decode("utf-8", "surrogateescape")
        back += tokenizer.decode(ids, "surrogateescape") != (unicodedata.normalize(form, text) if form else text)
    print(f"{len(pairs):,} pairs of bytes, {back} not given back{f' in form {form}' if form else ''}")
    sys.exit(1 if wrong or back else 0)


if __name__ == "__main__":
    main()
