"""What `tinyllm tokenizer` does: learn a vocabulary by any scheme, compare several, write one as another kind of file."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import regex

from tinyllm.tokenizers import (
    END_OF_TEXT,
    BPETokenizer,
    SentencePieceBPETokenizer,
    Tokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    load_tokenizer,
)
from tinyllm.tokenizers import sentencepiece_train as marked
from tinyllm.tokenizers import wordpiece_train as wordpiece
from tinyllm.tokenizers.formats.sentencepiece import write_sentencepiece
from tinyllm.tokenizers.formats.tiktoken import read_ranks, write_ranks
from tinyllm.tokenizers.formats.vocab_txt import write_vocab_txt
from tinyllm.tokenizers.sentencepiece import SentencePieceTokenizer

Train = Callable[..., Any]
SCHEMES: dict[str, tuple[Train, Sequence[str]]] = {  # name -> what trains it, its usual special tokens
    "bpe": (BPETokenizer.train, (END_OF_TEXT,)),
    "marked-bpe": (SentencePieceBPETokenizer.train, marked.SPECIAL_TOKENS),
    "unigram": (UnigramTokenizer.train, marked.SPECIAL_TOKENS),
    "wordpiece": (WordPieceTokenizer.train, wordpiece.SPECIAL_TOKENS),
    "wordpiece-bpe": (partial(WordPieceTokenizer.train, rule="frequency"), wordpiece.SPECIAL_TOKENS),
    "words": (WordTokenizer.train, (END_OF_TEXT,)),
}
FILE_PART = 1 << 22  # bytes
# One sentence in five languages (ours); a model reads, and its user pays for, tokens.
LANGUAGES = {
    "English": "Every person has the right to read, to learn and to ask questions.",
    "German": "Jeder Mensch hat das Recht zu lesen, zu lernen und Fragen zu stellen.",
    "Spanish": "Toda persona tiene derecho a leer, a aprender y a hacer preguntas.",
    "Hindi": "हर व्यक्ति को पढ़ने, सीखने और सवाल पूछने का अधिकार है।",
    "Chinese": "每个人都有阅读、学习和提问的权利。",
}
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]|[\p{L}\p{M}\p{N}_'’]+")
_LINE = re.compile(rb"\n(?=[A-Za-z])")


def train_scheme(
    documents: Iterable[str | bytes], scheme: str, *, vocab_sizes: Sequence[int], special_tokens: Sequence[str] | None = None,
    **settings: Any,
) -> list[Tokenizer]:  # fmt: skip
    """A tokenizer of each size: by BPE, all of one training.

    settings of the scheme's `train` (min_frequency, pattern, progress, memory_limit); those that are None are left out.
    ValueError for a scheme that is not there, or sizes or settings that it has not.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: got {scheme!r}, expected one of {', '.join(map(repr, SCHEMES))}")
    train, usual = SCHEMES[scheme]
    chosen = {name: value for name, value in settings.items() if value is not None}
    for name in ("pattern", "min_frequency", "memory_limit"):
        if name in chosen and name in _MISSING.get(scheme, ()):
            raise ValueError(f"{name}: {scheme!r} has no such setting; leave it out")
    if len(vocab_sizes) > 1 and scheme != "bpe":
        raise ValueError(f"vocab_size: got {len(vocab_sizes)} sizes; only 'bpe' gives several from one training")
    largest = train(documents, vocab_size=max(vocab_sizes), special_tokens=list(special_tokens or usual), **chosen)
    return [largest if size >= largest.vocab_size else largest.smaller(size) for size in vocab_sizes]


_MISSING = {
    "marked-bpe": ("pattern",),
    "unigram": ("pattern", "min_frequency"),
    "wordpiece": ("pattern",),
    "wordpiece-bpe": ("pattern",),
    "words": ("pattern", "memory_limit"),
}


def file_parts(paths: Iterable[str | os.PathLike[str]], size: int = FILE_PART) -> Iterator[bytes]:
    """Files of any length, and the files of folders, in parts of about `size` bytes that end where a line begins with a letter.

    There a word begins, by every known way to cut text, so the words of the parts are those of the whole.
    """
    for path in map(Path, paths):
        for file in sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]:
            with open(file, "rb") as stream:
                rest = b""
                while data := stream.read(size):
                    rest += data
                    *_, last = (0, *(match.end() for match in _LINE.finditer(rest, max(0, len(rest) - size))))
                    if last:
                        yield rest[:last]
                        rest = rest[last:]
                if rest:
                    yield rest


@dataclass(frozen=True)
class Compared:
    """One text by one tokenizer. seconds: of encoding it once more, when all words were seen."""

    tokens: int
    bytes_per_token: float
    tokens_per_word: float
    seconds: float


def compare(tokenizers: Mapping[str, Tokenizer], texts: Mapping[str, str]) -> dict[str, dict[str, Compared]]:
    """text -> tokenizer -> what it makes of it. A word is a run of letters, or one Chinese or Japanese character."""
    found: dict[str, dict[str, Compared]] = {}
    for name, text in texts.items():
        n_words, n_bytes = max(1, len(_WORD.findall(text))), len(text.encode("utf-8", "surrogateescape"))
        found[name] = {}
        for label, tokenizer in tokenizers.items():
            n = len(tokenizer.encode(text))
            start = time.perf_counter()
            tokenizer.encode(text)
            found[name][label] = Compared(n, n_bytes / max(n, 1), n / n_words, time.perf_counter() - start)
    return found


def read_any(path: str | os.PathLike[str], pattern: str | None = None) -> Tokenizer:
    """The tokenizer in a folder or a file of any kind; `pattern`: how tiktoken's ranks cut text, if the name does not tell."""
    path = Path(path)
    if path.name.endswith((".tiktoken", ".tiktoken.gz")):
        return read_ranks(path, pattern=pattern)
    return load_tokenizer(path)


def convert(tokenizer: Tokenizer, target: str | os.PathLike[str]) -> Path:
    """Write a tokenizer as the kind of file that `target` names: .model, .tiktoken, vocab.txt, else a folder for tokenizer.json.

    ValueError if such a file cannot say what the tokenizer does. Returns what was written.
    """
    target = Path(target)
    kinds: dict[str, tuple[type, Callable[..., None]]] = {
        ".model": (SentencePieceTokenizer, write_sentencepiece),
        ".tiktoken": (BPETokenizer, write_ranks),
        ".txt": (WordPieceTokenizer, write_vocab_txt),
    }
    if target.suffix not in kinds:
        return tokenizer.save(target)
    kind, write = kinds[target.suffix]
    if not isinstance(tokenizer, kind):
        raise ValueError(f"{target.name}: such a file holds no {type(tokenizer).__name__}; write tokenizer.json (name a folder)")
    target.parent.mkdir(parents=True, exist_ok=True)
    write(tokenizer, target)
    return target
