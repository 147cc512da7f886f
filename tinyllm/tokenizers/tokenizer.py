"""The contract of every tokenizer: text becomes whole numbers below `vocab_size`, and numbers become text again.

Three rules hold for all of them. (1) Any input is accepted: bytes that are not UTF-8 travel through Python's
`surrogateescape` (PEP 383: byte 0x80+k stands as U+DC80+k), surrogate pairs in a str are joined into their character,
and any other lone surrogate becomes U+FFFD. (2) Special tokens, such as <|endoftext|>, are never made from text unless
`allowed_special` asks for it: who types "<|endoftext|>" in a chat gets those letters, not the control token. (tiktoken raises
there, as `with_special_text` can; Hugging Face obeys the text.) When several would match, the longest wins. (3) Ids outside the
vocabulary are an error, never a guess.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import regex

from tinyllm.storage import strict_json, write_file
from tinyllm.tokenizers.added_tokens import AddedToken, AddedTokens, cut_out, either
from tinyllm.tokenizers.characters import as_array, settled_parts, to_text, without_leading
from tinyllm.tokenizers.compiled import MIDDLING, CompiledWords
from tinyllm.tokenizers.encoding import (
    NO_TEMPLATE,
    Encoding,
    Padding,
    Template,
    Truncation,
    fit,
    in_original,
    pad,
    plain_encoding,
)  # fmt: skip
from tinyllm.tokenizers.layout import batch_layout
from tinyllm.tokenizers.normalizers import UNCHANGED, Normalizer
from tinyllm.tokenizers.pretokenize import line_start
from tinyllm.tokenizers.special import (
    EOS_NAMES,
    TURN_ENDS,
    add_special_tokens,
    chat_template,
    check_special,
    refuse_special,
    write_settings,
)

# Where a text stands: at the start, behind an added token, behind other text (a space between them may be gone), right behind it.
SpecialText = Literal["plain", "error"]
Place = Literal["start", "token", "within", "joined"]
_WORD_START = regex.compile(r"[A-Za-z0-9] [A-Za-z]", regex.REVERSE)


class Tokenizer:
    """Base of all tokenizers: special tokens, decoding, files. Subclasses say how ordinary text is encoded.

    tokens          how the vocabulary writes each id
    special_tokens  text -> id, ids inside `tokens`
    added_tokens    others that are found in text before all else, or special ones with ways of their own (`added_tokens.py`)
    normalizer      what is done to a text first
    template        what is written around a text, and around a pair, by `encoding`

    Raises ValueError for a special token that is empty, has no UTF-8 form or has no place in `tokens`.
    """

    _said_bos_id: int | None = None
    _said_stop_ids: tuple[int, ...] = ()
    chat_program: str | None = None  # another chat template than ours, which its folder brought (`chat_templates.recognise`)
    _compiled: CompiledWords | None = None  # what encodes large texts in machine code
    leading_spaces = 0  # how many spaces what is decoded may begin with that were not written
    trim_offsets = False  # whether a token's offsets leave out spaces at its ends
    special_text: SpecialText = (
        "plain"  # what text that spells a special token is, where that is not allowed (`with_special_text`)
    )
    truncation: Truncation | None = None  # what a file says of batches; used where it is given to `encodings`
    padding: Padding | None = None

    def __init__(
        self, tokens: list[bytes], special_tokens: dict[str, int], *, added_tokens: Iterable[AddedToken] = (),
        normalizer: Normalizer = UNCHANGED, template: Template = NO_TEMPLATE,
    ):  # fmt: skip
        check_special(tokens, special_tokens)
        self.tokens, self.normalizer, self.template = tokens, normalizer, template
        self._spoken = tokens  # the bytes that each id adds to a text
        self._holes = np.array([not token for token in tokens]) if b"" in tokens else None
        self.special_tokens = dict(special_tokens)
        usual = [AddedToken(text, index) for text, index in special_tokens.items()]
        self.added_tokens = AddedTokens([*usual, *added_tokens])
        self._normal_ids = {
            normalizer(t.content): t.id for t in self.added_tokens if t.normalized and not t.special and normalizer
        }
        self._normal_pattern = either(self._normal_ids) if self._normal_ids else None

    # What a subclass must define.

    def _spans(self, text: str, at: Place) -> list[tuple[int, int, int]]:
        """(id, begin, end) of each token of a normalized text without special tokens, in characters."""
        raise TypeError(f"{type(self).__name__} does not say how it encodes text")

    def _encode_normal(self, text: str, at: Place) -> list[int]:
        return [token for token, _, _ in self._spans(text, at)]

    def _encode_plainly(self, text: str, at: Place) -> list[int]:
        """The ids of text without special tokens, as this file and its like have it, without kernels."""
        normal = self.normalizer(text)
        if self._normal_pattern is None:
            return self._encode_normal(normal, at)
        return [token for token, _, _ in self._spans_of_all(normal, at)]

    def _encode_ordinary(self, text: str, at: Place = "start") -> list[int]:
        """The ids of text without special tokens; `text` comes from `to_text`."""
        if self._compiled and len(text) >= MIDDLING:
            return self._encode_many([text], [at])[0].tolist()
        return self._encode_plainly(text, at)

    def _spans_of_all(self, normal: str, at: Place) -> list[tuple[int, int, int]]:
        """`_spans`, with the added tokens that are found in normalized text."""
        if self._normal_pattern is None:
            return self._spans(normal, at)
        found, place = [], 0
        for i, part in enumerate(cut_out(self._normal_pattern, normal)):
            own = [(self._normal_ids[part], 0, len(part))] if i % 2 else self._spans(part, "token" if i else at)
            found += [(token, place + begin, place + end) for token, begin, end in own]
            place += len(part)
        return found

    def _encode_many(self, texts: list[str | bytes], places: Sequence[Place]) -> list[np.ndarray]:
        """`_encode_ordinary` of several texts, str or bytes as users give them, each as an array (n,) int32."""
        written = list(zip(map(to_text, texts), places, strict=True))
        if self._compiled and self._normal_pattern is None and self._compiled.ready(sum(map(len, texts))):
            if (found := self._compiled.encode(self._for_kernels(*one) for one in written)) is not None:
                return found
        return [np.array(self._encode_plainly(*one), np.int32) for one in written]

    def _for_kernels(self, text: str, at: Place) -> str | None:
        """A text as the kernels take it, normalized; None if they cannot."""
        return self.normalizer(text)

    def _grow(self, ids: dict[str, int]) -> None:
        """Take new special tokens into what a subclass keeps beside `tokens`."""

    def _settled(self, text: str, reserve: int, *, only_lines: bool = False) -> int:
        """How many characters of `text` no text to come after it can give other ids.

        `reserve`: leave at least this many. `only_lines`: end where a line begins with a letter. Right for tokenizers of words:
        between two words of ASCII letters.
        """
        settled = len(text) - reserve
        if only_lines:
            return line_start(text, settled)
        found = _WORD_START.search(text, 0, settled) if settled > 0 else None
        return found.start() + 1 if found else 0

    def to_json(self) -> dict[str, Any]:
        """The content of tokenizer.json, in Hugging Face's layout."""
        raise TypeError(f"{type(self).__name__} does not say how it is written")

    # What all of them share.

    @property
    def vocab_size(self) -> int:
        """The number of ids, special tokens included: every id is below it."""
        return len(self.tokens)

    @property
    def eos_id(self) -> int | None:
        """The id that ends a document: what its folder says, else <|endoftext|>, </s>, <eos> or <|end_of_text|>, or None."""
        special = self.special_tokens
        ids = [*(i for i in self._said_stop_ids if i in special.values()), *(special[n] for n in EOS_NAMES if n in special)]
        return next(iter([*ids, *(i for i in self._said_stop_ids if i < self.vocab_size)]), None)

    @property
    def bos_id(self) -> int | None:
        """The id that begins a document: what its folder says, else its template, else the one that ends the one before."""
        said, begins = self._said_bos_id, self.template.single[0].ids
        usual = begins[0] if begins else self.eos_id
        return said if said is not None and (said in self.special_tokens.values() or self.eos_id is None) else usual

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """All ids that end what a model writes: `eos_id`, others that the folder says, and in a chat what ends a turn."""
        turns = TURN_ENDS if chat_template(self.special_tokens) else ()
        ids = (self.eos_id, *self._said_stop_ids, *(self.special_tokens[name] for name in turns))
        return tuple(dict.fromkeys(i for i in ids if i is not None))

    def with_said_ids(self, *, bos_id: int | None, stop_ids: Iterable[int]) -> Self:
        """This tokenizer, knowing what a folder says of ids that begin and end a text (see `special`), beside its own."""
        copied = copy.copy(self)
        copied._said_bos_id = self._said_bos_id if bos_id is None else bos_id
        copied._said_stop_ids = tuple(dict.fromkeys((*self._said_stop_ids, *stop_ids)))
        return copied

    def with_special_tokens(self, names: Iterable[str]) -> Self:
        """This tokenizer with the special tokens `names` after all others; those it has already keep their ids.

        Returns itself if none is new. A model must grow with it: `models.vocabulary.extend_vocabulary`. ValueError for a
        name that cannot be a special token here.
        """
        names = [names] if isinstance(names, str) else names
        new = [name for name in dict.fromkeys(names) if name not in self.special_tokens]
        if not new:
            return self
        tokens, ids = add_special_tokens(self.tokens, new)
        extended = copy.copy(self)  # shares what knows only ordinary tokens: alphabet, merges, remembered pieces
        details = [token for token in self.added_tokens if token != AddedToken(token.content, token.id)]
        Tokenizer.__init__(
            extended, tokens, {**self.special_tokens, **ids}, added_tokens=details, normalizer=self.normalizer,
            template=self.template,
        )  # fmt: skip
        extended._spoken = [*self._spoken, *(tokens[i] for i in ids.values())]
        extended._grow(ids)
        return extended

    def encode(self, text: str | bytes, *, allowed_special: Collection[str] = ()) -> list[int]:
        """The ids of `text`.

        `allowed_special`: special tokens that the text may spell, or "all"; the others are ordinary text. Give it only
        for text you wrote yourself, never for what a user typed.
        """
        text = to_text(text)
        pattern = self._special_pattern(allowed_special) if allowed_special or self.added_tokens.plain else None
        self._refuse_special([text], allowed_special)
        if pattern is None:
            return self._encode_ordinary(text)
        ids: list[int] = []
        for i, part in enumerate(cut_out(pattern, text)):
            ids += [self.added_tokens.id_of(part)] if i % 2 else self._encode_ordinary(part, "token" if i else "start")
        return ids

    def encoding(
        self, text: str | bytes, pair: str | bytes | None = None, *, add_template: bool = True,
        allowed_special: Collection[str] = (), truncation: Truncation | None = None,
    ) -> Encoding:  # fmt: skip
        """The ids of a text or a pair with the place of each in the text, in the tokenizer's template: see `encoding.py`.

        Offsets count characters of the text as it was given, before it was normalized. Bytes that are no UTF-8 count as one each.
        """
        texts = [self._plain_encoding(to_text(one), allowed_special) for one in (text, pair) if one is not None]
        template = self.template if add_template else Template()
        return template.apply(texts) if truncation is None else fit(texts, template, truncation)

    def encodings(
        self, texts: Iterable[str | bytes | tuple[str | bytes, str | bytes]], *, add_template: bool = True,
        allowed_special: Collection[str] = (), truncation: Truncation | None = None, padding: Padding | None = None,
    ) -> list[Encoding]:  # fmt: skip
        """`encoding` of each text or pair, padded to one length if `padding` is given."""
        if isinstance(texts, str | bytes):
            raise ValueError(f"texts: got one {type(texts).__name__}, expected several; use encoding for one text")
        found = [
            self.encoding(
                *(one if isinstance(one, tuple) else (one,)), add_template=add_template, allowed_special=allowed_special,
                truncation=truncation,
            )
            for one in texts
        ]  # fmt: skip
        return found if padding is None else pad(found, padding)

    def _plain_encoding(self, text: str, allowed_special: Collection[str]) -> Encoding:
        """The ids of one text, with the offsets of each."""
        pattern, place = self._special_pattern(allowed_special), 0
        self._refuse_special([text], allowed_special)
        found: list[tuple[int, int, int]] = []
        for i, part in enumerate(cut_out(pattern, text) if pattern else [text]):
            if i % 2:
                found.append((self.added_tokens.id_of(part), place, place + len(part)))
            elif part:
                normal, origins = self.normalizer.trace(part)
                spans = self._spans_of_all(normal, "token" if i else "start")
                found += in_original(spans, origins, place)
            place += len(part)
        return plain_encoding(found, self.tokens, trim_offsets=self.trim_offsets)

    def _special_pattern(self, allowed: Collection[str]) -> re.Pattern[str] | None:
        """An expression for the tokens that are found in text: the allowed special ones, and those added as plain ones."""
        if isinstance(allowed, str) and allowed != "all":
            raise ValueError(f'allowed_special: got the string {allowed!r}, expected a set of tokens or "all"')
        names = frozenset(self.special_tokens if allowed == "all" else allowed)
        if unknown := sorted(names - self.special_tokens.keys()):
            known = ", ".join(map(repr, self.special_tokens)) or "none"
            raise ValueError(f"allowed_special: {unknown[0]!r} is not a special token here; known: {known}")
        return self.added_tokens.pattern(names)

    def with_special_text(self, meaning: SpecialText) -> Self:
        """This tokenizer, to which a special token in text, if not allowed, is "plain" text, or an "error" that says where."""
        if meaning not in get_args(SpecialText):
            raise ValueError(f"special_text: got {meaning!r}, expected {' or '.join(map(repr, get_args(SpecialText)))}")
        copied = copy.copy(self)
        copied.special_text = meaning
        return copied

    def _refuse_special(self, texts: Iterable[str | bytes], allowed: Collection[str], *, place: int = 0) -> None:
        if self.special_text == "error" and allowed != "all":
            refuse_special(texts, self.special_tokens, allowed=allowed, place=place)

    def encode_batch(self, texts: Iterable[str | bytes], *, allowed_special: Collection[str] = ()) -> list[list[int]]:
        """The ids of each text: the same as `encode` one by one."""
        return [ids.tolist() for ids in self.encode_arrays(texts, allowed_special=allowed_special)]

    def encode_arrays(self, texts: Iterable[str | bytes], *, allowed_special: Collection[str] = ()) -> list[np.ndarray]:
        """The ids of each text as an array (n,) int32, on all cores: for large texts, of which lists would be slow and heavy."""
        if isinstance(texts, str | bytes):
            raise ValueError(f"texts: got one {type(texts).__name__}, expected several; use encode for one text")
        texts = list(texts)
        self._refuse_special(texts, allowed_special)
        return self._encode_texts(texts, self._special_pattern(allowed_special), at="start")

    def _encode_texts(self, texts: list[str | bytes], pattern: re.Pattern[str] | None, *, at: Place) -> list[np.ndarray]:
        """The body of `encode_arrays`."""
        for text in texts:
            if not isinstance(text, str | bytes):
                to_text(text)  # says what is wrong with it, if anything
        if pattern is None:
            return self._encode_many(texts, [at] * len(texts))
        cuts = [cut_out(pattern, to_text(text)) for text in texts]
        places: list[Place] = ["token" if i else at for parts in cuts for i in range(len(parts[::2]))]
        ordinary = iter(self._encode_many([part for parts in cuts for part in parts[::2]], places))
        found = []
        for parts in cuts:
            special = (np.array([self.added_tokens.id_of(part)], np.int32) for part in parts[1::2])
            found.append(np.concatenate([next(special) if i % 2 else next(ordinary) for i in range(len(parts))]))
        return found

    def encode_iterable(self, chunks: Iterable[str | bytes], *, allowed_special: Collection[str] = ()) -> Iterator[int]:
        """The ids of the joined chunks, one by one: equal to `encode` of the whole, without holding the whole.

        Chunks may be cut anywhere, inside a character too. Memory: a few chunks, or the longest single word if longer.
        """
        return (i for ids in self.encode_chunks(chunks, allowed_special=allowed_special) for i in ids.tolist())

    def encode_chunks(self, chunks: Iterable[str | bytes], *, allowed_special: Collection[str] = ()) -> Iterator[np.ndarray]:
        """`encode_iterable` in arrays (n,) int32, one for about each chunk: joined, they are the ids of the whole."""
        return self._encode_parts(chunks, self._special_pattern(allowed_special), allowed_special)

    def _encode_parts(
        self, chunks: Iterable[str | bytes], pattern: re.Pattern[str] | None, allowed: Collection[str]
    ) -> Iterator[np.ndarray]:
        """The body of `encode_chunks`. What later text could still change waits."""
        seen = self._special_pattern("all") if self.special_text == "error" else pattern  # no token that is seen is cut in two
        at: Place = "start"
        place = 0
        for part in settled_parts(chunks, lambda text: self.added_tokens.settled_length(text, seen, self._settled)):
            self._refuse_special([part], allowed, place=place)
            yield from self._encode_texts([part], pattern, at=at)
            at = "token" if pattern and cut_out(pattern, part)[-1] == "" else "within"
            place += len(part)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id; ValueError if it is outside the vocabulary."""
        return self._join(self._checked([token_id]))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that `ids` stand for, exactly. `ids`: list, array or other iterable of whole numbers."""
        joined = self._join(self._checked(ids))
        return without_leading(joined, self.leading_spaces)

    def _checked(self, ids: Iterable[int]) -> np.ndarray:
        """`ids` as an array (n,) int32; ValueError for one that is no id of this vocabulary."""
        found = as_array(ids)
        if found.size and not (found.min() >= 0 and found.max() < self.vocab_size):
            wrong = found[(found < 0) | (found >= self.vocab_size)][0]
            raise ValueError(
                f"ids: got {wrong}, expected 0 to {self.vocab_size - 1} (vocabulary size {self.vocab_size}); "
                "were these ids made by another tokenizer?"
            )
        if self._holes is not None and (wrong := found[self._holes[found]]).size:
            raise ValueError(f"ids: got {wrong[0]}, which stands for no token here; were these ids made by another tokenizer?")
        return found.astype(np.int32, copy=False)

    def _join(self, ids: np.ndarray) -> bytes:
        """The bytes of checked ids, end to end."""
        return b"".join(map(self._spoken.__getitem__, ids.tolist()))

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """The text of `ids`. Bytes that are not UTF-8 (a character cut in two) follow `errors`, as in bytes.decode.

        "replace" shows U+FFFD; "surrogateescape" keeps them, so that encoding the result gives the same bytes.
        """
        return self.decode_bytes(ids).decode("utf-8", errors)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `folder`/tokenizer.json, whole or not at all, and return its path. The folder is made if needed.

        Beside it tokenizer_config.json says for transformers which tokens begin and end a text, and how a chat is written.
        """
        path = Path(folder) / "tokenizer.json"
        layout = {**self.to_json(), **batch_layout(self.truncation, self.padding)}
        path.parent.mkdir(parents=True, exist_ok=True)
        bos, eos = (None if i is None else self.tokens[i].decode("utf-8", "replace") for i in (self.bos_id, self.eos_id))
        write_settings(path.parent, self.special_tokens, bos=bos, eos=eos, program=self.chat_program)
        write_file(path, strict_json.dump(layout, indent=1))
        return path

    def fingerprint(self) -> str:
        """The sha256 (64 hexadecimal digits) of the canonical tokenizer.json: equal means the same ids for any text."""
        layout = {**self.to_json(), "post_processor": None}  # which adds to a text only in `encoding`
        return hashlib.sha256(strict_json.dump(layout)).hexdigest()
