"""SentencePiece's own file, `spiece.model` or `tokenizer.model`: pieces with scores, and how text is normalized before.

A protocol buffer (`sentencepiece_model.proto` of the SentencePiece repository): 1 pieces (1 text, 2 score, 3 type), 2 how it was
trained, 3 the normalizer. In a Unigram model scores are log probabilities of 32 bits. In a BPE model they are the order in which
pieces are made: of all neighbours that make a piece, the pair that makes the one with the highest score is joined first, the
leftmost of equal ones. Read: normal, unknown, control, byte and user-defined pieces. Refused by name: models of words or
characters, spaces marked behind words, unused pieces.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm.storage import FormatError, foreign, strict_json, write_file
from tinyllm.tokenizers.added_tokens import AddedToken
from tinyllm.tokenizers.characters import ALL
from tinyllm.tokenizers.charsmap import CharacterMap
from tinyllm.tokenizers.formats.protobuf import BYTES, FOUR, VARINT, read_fields, write_field
from tinyllm.tokenizers.normalizers import Normalizer, Replace, Step
from tinyllm.tokenizers.sentencepiece import BYTE_PIECE, END_STRIPPED, MARK, SQUEEZE, Pieces, SentencePieceTokenizer
from tinyllm.tokenizers.sentencepiece_bpe import SentencePieceBPETokenizer, every_merge
from tinyllm.tokenizers.unigram import UnigramTokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
SQUEEZED: tuple[Step, ...] = (Replace(r"\A +", "", expression=True), SQUEEZE, END_STRIPPED)
# The settings that are looked at: number -> (name, value where the file says nothing).
_TRAINER = {
    3: ("model_type", UNIGRAM), 24: ("treat_whitespace_as_suffix", 0), 35: ("byte_fallback", 0), 40: ("unk_id", 0),
    41: ("bos_id", 1), 42: ("eos_id", 2),
}  # fmt: skip
_NORMALIZER = {
    2: ("precompiled_charsmap", b""),
    3: ("add_dummy_prefix", 1),
    4: ("remove_extra_whitespaces", 1),
    5: ("escape_whitespaces", 1),
}


@dataclass
class _Model:
    """What a file holds."""

    texts: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=lambda: dict([*_TRAINER.values(), *_NORMALIZER.values()]))


def read_sentencepiece(path: str | os.PathLike[str]) -> SentencePieceTokenizer:
    """The tokenizer of a SentencePiece model file. FormatError names what is wrong with it, or not supported."""
    path = Path(path)
    if path.stat().st_size > strict_json.MAX_BYTES:
        raise FormatError(path, field="size", expected=f"at most {strict_json.MAX_BYTES} bytes", found=path.stat().st_size)
    data = path.read_bytes()
    if what := foreign.recognised(data[: foreign.LENGTH]):
        raise FormatError(path, field="content", expected="a SentencePiece model", found=what)
    model = _parse(path, data)
    _check(path, model)
    try:
        return _tokenizer(model)
    except ValueError as error:
        name, _, text = str(error).partition(": ")
        raise FormatError(path, field=name, expected="a consistent model", found=text) from None


def _parse(path: Path, data: bytes) -> _Model:
    """The fields of the file. Each must have the kind that its number asks for."""
    model = _Model()
    try:
        for number, kind, value in read_fields(data):
            if number in (1, 2, 3) and not isinstance(value, bytes):
                raise ValueError(f"field {number} is of kind {kind}, expected a message")
            if number == 1:
                _piece(model, value)  # type: ignore[arg-type]
            elif number in (2, 3):
                _settings(model, _TRAINER if number == 2 else _NORMALIZER, value)  # type: ignore[arg-type]
    except ValueError as error:
        raise FormatError(path, field="content", expected="a SentencePiece model", found=str(error)) from None
    return model


def _piece(model: _Model, data: bytes) -> None:
    """One piece, added to the model."""
    text, score, kind = None, 0.0, NORMAL
    for number, wire, value in read_fields(data):
        if number == 1 and isinstance(value, bytes) and wire == BYTES:
            text = value.decode("utf-8")
        elif number == 2 and isinstance(value, bytes) and wire == FOUR:
            (score,) = struct.unpack("<f", value)
        elif number == 3 and isinstance(value, int):
            kind = value
        elif number in (1, 2, 3):
            raise ValueError(f"piece {len(model.texts)}: field {number} is of kind {wire}")
    if not text or not NORMAL <= kind <= BYTE:
        raise ValueError(f"piece {len(model.texts)}: the text {text!r} and the type {kind}")
    model.texts.append(text)
    model.scores.append(score)
    model.kinds.append(kind)


def _settings(model: _Model, known: dict[int, tuple[str, Any]], data: bytes) -> None:
    """The settings of one message that are looked at."""
    for number, kind, value in read_fields(data):
        if number in known:
            name, default = known[number]
            if isinstance(value, bytes) != isinstance(default, bytes) or kind not in (VARINT, BYTES):
                raise ValueError(f"{name} is of kind {kind}")
            model.settings[name] = value


def _check(path: Path, model: _Model) -> None:
    """FormatError for what is not supported, or does not fit together."""

    def refuse(name: str, expected: str, found: object) -> None:
        raise FormatError(path, field=name, expected=expected, found=found)

    settings = model.settings
    if settings["model_type"] not in (UNIGRAM, BPE):
        refuse("trainer_spec.model_type", "1 (Unigram) or 2 (BPE)", settings["model_type"])
    if settings["treat_whitespace_as_suffix"] or not settings["escape_whitespaces"]:
        refuse("treat_whitespace_as_suffix", "a mark in front of words", "spaces marked otherwise")
    if UNUSED in model.kinds:
        refuse("pieces.type", "no unused pieces (not supported)", model.texts[model.kinds.index(UNUSED)])
    if model.kinds.count(UNKNOWN) != 1:
        refuse("pieces.type", "one unknown piece", model.kinds.count(UNKNOWN))
    if len(set(model.texts)) != len(model.texts):
        seen: set[str] = set()
        twice = next(text for text in model.texts if text in seen or seen.add(text))  # type: ignore[func-returns-value]
        refuse("pieces", "each piece once", repr(twice))
    for text, kind in zip(model.texts, model.kinds, strict=True):
        if kind == BYTE and not BYTE_PIECE.fullmatch(text):
            refuse("pieces", "bytes as <0x00> to <0xFF>", text)
    if bool(settings["byte_fallback"]) != (BYTE in model.kinds) or model.kinds.count(BYTE) not in (0, 256):
        refuse("byte_fallback", "pieces for all 256 bytes where it is on, else none", model.kinds.count(BYTE))


def _tokenizer(model: _Model) -> SentencePieceTokenizer:
    """The tokenizer of a checked model."""
    settings = model.settings
    table = settings["precompiled_charsmap"]
    steps: tuple[Step, ...] = (CharacterMap(table),) if table else ()
    squeezed = SQUEEZED if settings["remove_extra_whitespaces"] else ()
    special = {text: i for i, text in enumerate(model.texts) if model.kinds[i] in (CONTROL, UNKNOWN)}
    user = [AddedToken(text, i, special=False) for i, text in enumerate(model.texts) if model.kinds[i] == USER_DEFINED]
    texts: list[str | None] = list(model.texts)
    pieces = Pieces(texts, model.kinds.index(UNKNOWN), bool(settings["byte_fallback"]))
    others: dict[str, Any] = {
        "normalizer": Normalizer((*steps, *squeezed)), "prefix": "once" if settings["add_dummy_prefix"] else "never",
        "special_tokens": special, "added_tokens": user,
    }  # fmt: skip
    tokenizer: SentencePieceTokenizer
    if settings["model_type"] == UNIGRAM:
        tokenizer = UnigramTokenizer(pieces, np.array(model.scores, np.float32), **others)
    else:
        tokenizer = SentencePieceBPETokenizer(pieces, *every_merge(pieces, model.scores, model.kinds), **others)
    if squeezed and tokenizer.leading_spaces:
        tokenizer.leading_spaces = ALL
    ids = (settings[name] for name in ("bos_id", "eos_id"))
    bos, eos = (i if 0 <= i < len(texts) and model.kinds[i] == CONTROL else None for i in ids)
    return tokenizer.with_said_ids(bos_id=bos, stop_ids=[] if eos is None else [eos])


def write_sentencepiece(tokenizer: SentencePieceTokenizer, path: str | os.PathLike[str]) -> None:
    """Write a SentencePiece model file. ValueError for a tokenizer that such a file cannot say.

    Its normalizer may be a character map, and then `SQUEEZED` or nothing.
    """
    steps = tokenizer.normalizer.steps
    table = steps[0].table if steps and isinstance(steps[0], CharacterMap) else b""
    rest = steps[1:] if table else steps
    if rest not in ((), SQUEEZED) or tokenizer.only_words or tokenizer.each_space:
        raise ValueError(f"normalizer: got {tokenizer.normalizer}, which a SentencePiece model cannot say")
    unigram = isinstance(tokenizer, UnigramTokenizer)
    scores = tokenizer.scores.tolist() if isinstance(tokenizer, UnigramTokenizer) else _order(tokenizer)
    user = {token.id for token in tokenizer.added_tokens if not token.special}
    control = {token.id for token in tokenizer.added_tokens if token.special}
    parts = []
    for i, text in enumerate(tokenizer.pieces.texts):
        if text is None:
            raise ValueError(f"pieces: id {i} has no text, which a SentencePiece model needs")
        kind = UNKNOWN if i == tokenizer.pieces.unknown else USER_DEFINED if i in user else CONTROL if i in control else NORMAL
        kind = BYTE if tokenizer.byte_ids and i in tokenizer.byte_ids else kind
        piece = write_field(1, text.encode()) + write_field(2, float(scores[i])) + write_field(3, kind)
        parts.append(write_field(1, piece))
    ends = {41: tokenizer.bos_id, 42: tokenizer.eos_id}
    trainer = [
        write_field(3, UNIGRAM if unigram else BPE), write_field(4, len(scores)),
        write_field(35, tokenizer.pieces.byte_fallback), write_field(40, tokenizer.pieces.unknown or 0),
        *(write_field(number, -1 if i is None else i) for number, i in ends.items()),
    ]  # fmt: skip
    normalizer = [
        write_field(1, b"own" if table else b"identity"), write_field(2, table), write_field(3, tokenizer.prefix != "never"),
        write_field(4, rest == SQUEEZED), write_field(5, True),
    ]  # fmt: skip
    write_file(Path(path), b"".join([*parts, write_field(2, b"".join(trainer)), write_field(3, b"".join(normalizer))]))


def _order(tokenizer: SentencePieceTokenizer) -> list[float]:
    """The score of each piece of a BPE: minus the rank of the merge that makes it; characters come last."""
    if not isinstance(tokenizer, SentencePieceBPETokenizer):
        raise ValueError(f"tokenizer: got {type(tokenizer).__name__}, expected Unigram or BPE with marked spaces")
    ranks: dict[int, int] = {}
    for rank, joined in zip(tokenizer.order.tolist(), tokenizer.merges[:, 2].tolist(), strict=True):
        ranks.setdefault(joined, rank)
    last = len(ranks) + 1
    return [
        -float(ranks.get(i, last)) if MARK not in (text or "")[1:] or i in ranks else 0.0
        for i, text in enumerate(tokenizer.pieces.texts)
    ]
