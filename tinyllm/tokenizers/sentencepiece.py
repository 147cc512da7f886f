"""What SentencePiece's two models share: text is a row of characters in which the space is one of them, written ▁.

    "Hello world"  ->  "▁Hello▁world"  ->  ▁Hello | ▁wor | ld

So nothing needs to know what a word is, in Chinese as in English, and joining the pieces gives the text back, spaces too (Kudo
and Richardson 2018, "SentencePiece", section 3.1). A space is put in front of the text, so that a word is the same piece wherever
it stands. Characters without a piece become bytes, <0xE4> <0xBD> <0xA0>, where the vocabulary has those (byte fallback), or else
the unknown token. In here the mark is a plain space: only files write ▁. `unigram` and `sentencepiece_bpe` say how a word is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.characters import to_bytes
from tinyllm.tokenizers.compiled import CompiledWords
from tinyllm.tokenizers.encoding import NO_TEMPLATE, Template
from tinyllm.tokenizers.layout import file_layout, template_layout
from tinyllm.tokenizers.normalizers import UNCHANGED, Normalizer, Replace, Step, Traced, normalizer_parts
from tinyllm.tokenizers.tokenizer import Place, Tokenizer

if TYPE_CHECKING:
    from tinyllm.kernels.text.pieces import WordCoder

MARK = "\u2581"
# Where a space is put in front: before every stretch of text between added tokens; the same, unless one is there; before the
# first unless one is there; before the first; nowhere.
Prefix = Literal["always", "unless_there", "first", "once", "never"]
PREFIXES: tuple[Prefix, ...] = ("always", "unless_there", "first", "once", "never")
CACHE_WORDS, LONGEST_CACHED = 100_000, 64
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_WORD, _EACH_SPACE = re.compile(" *[^ ]+| +"), re.compile(" [^ ]*|[^ ]+")


SQUEEZE, END_STRIPPED = Replace(" {2,}", " ", expression=True), Replace(rf"[ {MARK}]+\z", "", expression=True)


@dataclass(frozen=True)
class Words:
    """Only words count: any white space between them is one space, and there is one in front of each (marks count)."""

    def __call__(self, text: str) -> str:
        return "".join(word if word[0] == MARK else f" {word}" for word in text.split())

    def trace(self, text: str) -> Traced:
        """See `normalizers`."""
        places: list[int] = []
        for match in re.finditer(r"\S+", text):
            new = [match.start()] if match[0][0] != MARK else []
            places += [*new, *range(match.start(), match.end())]
        return self(text), places


@dataclass(frozen=True)
class Marked:
    """Marks are spaces; and, if `prefix`, there is one in front."""

    prefix: bool
    unless_there: bool = False

    def __call__(self, text: str) -> str:
        text = text.replace(MARK, " ")
        return f" {text}" if text and self.prefix and not (self.unless_there and text[0] == " ") else text

    def trace(self, text: str) -> Traced:
        """See `normalizers`."""
        new = self(text)
        return new, [*([0] if len(new) > len(text) else []), *range(len(text))]


def _sequence(members: str, parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Several parts of a file in one field."""
    return None if not parts else parts[0] if len(parts) == 1 else {"type": "Sequence", members: parts}


@dataclass(frozen=True)
class Pieces:
    """A vocabulary. texts: as files write them, None where an id stands for nothing; `unknown`: the id for what has no piece."""

    texts: list[str | None]
    unknown: int | None = None
    byte_fallback: bool = False

    def spoken(self) -> list[bytes]:
        """The bytes that each id adds to a text."""
        return [self._bytes_of(text or "") for text in self.texts]

    def _bytes_of(self, text: str) -> bytes:
        if self.byte_fallback and (byte := BYTE_PIECE.fullmatch(text)):
            return bytes([int(byte[1], 16)])
        return text.replace(MARK, " ").encode()

    def byte_ids(self) -> list[int] | None:
        """The ids of all 256 bytes; None if one is missing: then there is no fallback to them."""
        ids = {text: i for i, text in enumerate(self.texts)} if self.byte_fallback else {}
        found = [ids.get(f"<0x{byte:02X}>", -1) for byte in range(256)]
        return None if min(found) < 0 else found


class SentencePieceTokenizer(Tokenizer):
    """What is done before and after a model: subclasses say by `_segment` how a word is cut.

    prefix       where a space is put in front of text
    only_words   white space is only what separates words (T5, ALBERT, XLM-R)
    each_space   a word begins at each space, so that none is in the middle of a piece, not even among spaces
    """

    def __init__(
        self, pieces: Pieces, *, normalizer: Normalizer = UNCHANGED, prefix: Prefix = "always", only_words: bool = False,
        each_space: bool = False, special_tokens: dict[str, int] | None = None, added_tokens: Iterable[AddedToken] = (),
        template: Template = NO_TEMPLATE,
    ):  # fmt: skip
        if prefix not in PREFIXES:
            raise ValueError(f"prefix: got {prefix!r}, expected one of {', '.join(PREFIXES)}")
        if pieces.unknown is not None and not 0 <= pieces.unknown < len(pieces.texts):
            raise ValueError(f"unknown: got {pieces.unknown}, expected an id below {len(pieces.texts)}, or None")
        tokens = [(text or "").encode() for text in pieces.texts]
        super().__init__(tokens, special_tokens or {}, added_tokens=added_tokens, normalizer=normalizer, template=template)
        self.pieces, self.prefix, self.only_words, self.each_space = pieces, prefix, only_words, each_space
        self.byte_ids = pieces.byte_ids()
        if self.byte_ids is None and pieces.unknown is None:
            raise ValueError("unknown: got None, expected the id for characters without a piece, or pieces for all 256 bytes")
        apart = {token.id for token in self.added_tokens} | set(self.byte_ids or ()) | {pieces.unknown}
        self._spoken = pieces.spoken()
        self.leading_spaces = int(prefix != "never")
        self.ordinary = {
            text.replace(MARK, " "): i for i, text in reversed(list(enumerate(pieces.texts))) if text and i not in apart
        }
        self._cut_at_spaces = each_space or not any(" " in piece.lstrip(" ") for piece in self.ordinary)
        last = [step for step in self.normalizer.steps[-2:] if step != END_STRIPPED]
        self._squeezes = bool(last) and last[-1] == SQUEEZE
        self._compiled = CompiledWords(self._coder)
        self._cache: dict[str, tuple[list[int], list[int]]] = {}
        self._marking = {at: self._steps(at) for at in get_args(Place)}

    def _steps(self, at: Place) -> Normalizer:
        """What is done to a normalized text: white space, then marks."""
        steps: list[Step] = [Words()] if self.only_words else []
        if at == "within":  # the text goes on with a space; a normalizer may have taken it away
            return Normalizer((*steps, Marked(not self.only_words, unless_there=True)))
        if at == "joined":
            return Normalizer((*steps, Marked(False)))
        wanted = self.prefix != "never" and (at == "start" or self.prefix in ("always", "unless_there"))
        return Normalizer((*steps, Marked(wanted and not self.only_words, self.prefix not in ("always", "once"))))

    def _settled(self, text: str, reserve: int, *, only_lines: bool = False) -> int:
        return super()._settled(text, reserve)

    def _layout(self, model: dict[str, Any]) -> dict[str, Any]:
        """tokenizer.json around a model."""
        steps, cuts = normalizer_parts(self.normalizer), list[dict[str, Any]]()
        replaced = {"type": "Replace", "pattern": {"String": MARK}, "content": " "}
        decoders = [replaced, *([{"type": "ByteFallback"}] if self.byte_ids else []), {"type": "Fuse"}]
        decoders += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if self.leading_spaces else []
        if self.prefix in ("always", "once", "never") and not self.each_space and not self.only_words:
            front: dict[str, Any] = {"type": "Prepend", "prepend": MARK, **({"once": True} if self.prefix == "once" else {})}
            steps += [front] if self.prefix != "never" else []
            steps.append({"type": "Replace", "pattern": {"String": " "}, "content": MARK})
        else:
            scheme = {"always": "always", "unless_there": "always", "first": "first", "never": "never"}[self.prefix]
            cuts = [{"type": "WhitespaceSplit"}] if self.only_words else []
            cuts.append({"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": self.each_space})
        return file_layout(
            self.added_tokens, normalizer=_sequence("normalizers", steps), pre_tokenizer=_sequence("pretokenizers", cuts),
            post_processor=template_layout(self.template), decoder={"type": "Sequence", "decoders": decoders}, model=model,
        )  # fmt: skip

    def _for_kernels(self, text: str, at: Place) -> str | None:
        if not self._cut_at_spaces or (self._squeezes and MARK in text):
            return None
        steps = Normalizer(tuple(step for step in self.normalizer.steps if step != SQUEEZE))  # the kernels do that one
        return self._marking[at](steps(text))

    def _grow(self, ids: dict[str, int]) -> None:
        self.pieces = replace(self.pieces, texts=[*self.pieces.texts, *ids])

    def _coder(self) -> WordCoder:
        """The kernels that do what `_segment` does."""
        raise TypeError(f"{type(self).__name__} does not say how it cuts words")

    def _ordinary_ids(self) -> np.ndarray:
        """The ids that text may become, (n,) int64, sorted."""
        return np.sort(np.fromiter(self.ordinary.values(), np.int64, len(self.ordinary)))

    def _segment(self, word: str) -> list[tuple[int, int]]:
        """(id, characters) of each piece of a word, which has all its spaces in front."""
        raise TypeError(f"{type(self).__name__} does not say how it cuts words")

    def _encode_normal(self, text: str, at: Place) -> list[int]:
        return [token for ids, _ in self._words(self._marking[at](text)) for token in ids]

    def _spans(self, text: str, at: Place) -> list[tuple[int, int, int]]:
        marked, origins = self._marking[at].trace(text)
        found, place = [], 0
        for ids, lengths in self._words(marked):
            for token, n in zip(ids, lengths, strict=True):
                begin, place = (place - 1, place) if n < 0 else (place, place + n)
                found.append((token, origins[begin], origins[place - 1] + 1))
        return found

    def _cut(self, text: str) -> list[str]:
        """Parts of a marked text that no piece goes beyond."""
        if not self._cut_at_spaces:
            return [text] if text else []
        return (_EACH_SPACE if self.each_space else _WORD).findall(text)

    def _words(self, text: str) -> Iterable[tuple[list[int], list[int]]]:
        """(ids, lengths) of each word; -1: the same character as the token before."""
        for word in self._cut(text):
            known = self._cache.get(word)
            if known is None:
                known = self._with_fallback(word, self._segment(word))
                if len(word) <= LONGEST_CACHED:
                    if len(self._cache) >= CACHE_WORDS:
                        self._cache.clear()
                    self._cache[word] = known
            yield known

    def _with_fallback(self, word: str, cut: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """(ids, lengths) of a cut, with unknown characters (id -1) as bytes, or a run of them as one unknown token."""
        ids: list[int] = []
        lengths: list[int] = []
        place = 0
        for token, n in cut:
            if token >= 0:
                ids.append(token)
                lengths.append(n)
            elif self.byte_ids is not None:
                data = to_bytes(word[place : place + n])
                ids += [self.byte_ids[byte] for byte in data]
                lengths += [n] + [-1] * (len(data) - 1)
            elif ids and ids[-1] == self.pieces.unknown:
                lengths[-1] += n
            else:
                ids.append(int(self.pieces.unknown))  # type: ignore[arg-type]
                lengths.append(n)
            place += n
        return ids, lengths
