"""Normalization: bring text into one form before it is cut, so that "Café", "CAFE" and "cafe" can share a token.

A normalizer is a list of steps. Each step is a dataclass with the name and the fields that Hugging Face's tokenizer.json gives
it, and one method: `trace(text)` gives the new text, and for each of its characters the place of the old one that it came from.
With these places a token is found again in the text that somebody wrote (`Encoding.offsets`). What is lost here is lost: decoding
gives the normalized text back. The Unicode forms are those of `unicodedata` (Unicode Standard Annex 15).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, Protocol

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]  # of Unicode
Traced = tuple[str, Sequence[int]]  # new text; for each character the place of its origin
FORMS: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")
# As Hugging Face has it; U+2B820 to U+2B91F are Chinese too in the released code.
CHINESE = re.compile(
    "([\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b81f"
    "\U0002b920-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f])"
)


_WIDE = re.compile("([^\x00-\x7f]+)")


class Step(Protocol):
    """One step. `trace` is its definition; `__call__` gives the text alone, faster."""

    def __call__(self, text: str) -> str: ...
    def trace(self, text: str) -> Traced:
        """The new text, and for each of its characters the place of the old one that it came from."""
        ...


@dataclass(frozen=True)
class Unicode:
    """One of Unicode's four forms: composed (NFC) or taken apart (NFD); with K, look-alikes such as ﬁ made plain too."""

    form: Form

    def __call__(self, text: str) -> str:
        return unicodedata.normalize(self.form, text)

    def trace(self, text: str) -> Traced:
        """See `Step`."""
        characters, places = [], []
        for run in _joining().finditer(text):
            new, place = [(c, 0) for c in run.group()], run.start() - 1
            if self(run.group()) != run.group():
                new = _taken_apart(run.group(), "NFKD" if "K" in self.form else "NFD")
                new = _composed(new) if self.form.endswith("C") else new
            for character, change in new:
                place += change <= 0
                characters.append(character)
                places.append(place)
                place -= min(change, 0)
        return "".join(characters), places


def _taken_apart(run: str, form: Form) -> list[tuple[str, int]]:
    """(character, 0 for the first of the parts of an old one, 1 for the others), marks in canonical order."""
    parts = [(new, int(i > 0)) for old in run for i, new in enumerate(unicodedata.normalize(form, old))]
    ordered: list[tuple[str, int]] = []
    while parts:
        n = next((i for i, (c, _) in enumerate(parts) if i and not unicodedata.combining(c)), len(parts))
        ordered += sorted(parts[:n], key=lambda part: unicodedata.combining(part[0]))
        parts = parts[n:]
    return ordered


def _composed(parts: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Parts put together again; a character made of n old ones has the number 1 - n: it counts as the first of them."""
    new: list[tuple[str, int]] = []
    first, last = -1, 0  # the place of the last character that can take marks; the class of the one before
    for character, change in parts:
        kind = unicodedata.combining(character)
        whole = ""
        if first >= 0 and (first == len(new) - 1 or last < kind):
            whole = unicodedata.normalize("NFC", new[first][0] + character)
        if len(whole) == 1:
            new[first] = whole, new[first][1] + change - 1
            continue
        new.append((character, change))
        first, last = (first, kind) if kind else (len(new) - 1, 0)
    return new


@cache
def _joining() -> re.Pattern[str]:
    """Runs of characters that normalization looks at together: one, and those behind it that combine with it."""
    marks = [code for code in range(sys.maxunicode + 1) if unicodedata.combining(chr(code))]
    seconds = {ord(parts[1]) for parts in (unicodedata.normalize("NFD", chr(c)) for c in range(0xA0, 0x30000)) if len(parts) > 1}
    codes = sorted({*marks, *(c for c in seconds if not unicodedata.combining(chr(c))), *range(0x1160, 0x1200)})
    inside = "".join(re.escape(chr(code)) for code in codes if not 0xD800 <= code < 0xE000)
    return re.compile(f"[\\s\\S][{inside}]*")


@dataclass(frozen=True)
class Lowercase:
    """Small letters, character by character: Σ becomes σ at the end of a word too."""

    def __call__(self, text: str) -> str:
        return text.lower() if "Σ" not in text else "".join(map(str.lower, text))

    def trace(self, text: str) -> Traced:
        """See `Step`."""
        return _each(text, str.lower)


@dataclass(frozen=True)
class StripAccents:
    """Without combining marks (category M). Accents that are part of a letter must have been taken apart before."""

    def __call__(self, text: str) -> str:
        return text if text.isascii() else "".join(c for c in text if unicodedata.category(c)[0] != "M")

    def trace(self, text: str) -> Traced:
        """See `Step`."""
        return _each(text, lambda c: "" if unicodedata.category(c)[0] == "M" else c)


@dataclass(frozen=True)
class Bert:
    """What BERT's own tokenizer does first (Devlin et al. 2019, the released code).

    clean_text            control characters go, every kind of white space becomes a space
    handle_chinese_chars  spaces around Chinese characters, so that each is a word
    strip_accents         None: where text is put into small letters
    """

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def __call__(self, text: str) -> str:
        parts = [text] if text.isascii() else _WIDE.split(text)  # neither kind changes the other
        for i, part in enumerate(parts):
            if i % 2:
                parts[i] = self.trace(part)[0]
            else:
                part = part.translate(_CLEANED) if self.clean_text else part
                parts[i] = part.lower() if self.lowercase else part
        return "".join(parts)

    def trace(self, text: str) -> Traced:
        """See `Step`."""
        return _chain([*([_EachCharacter(_cleaned)] if self.clean_text else []), *self._steps()], text)

    def _steps(self) -> list[Step]:
        steps: list[Step] = [_EachCharacter(_apart)] if self.handle_chinese_chars else []
        strip = self.lowercase if self.strip_accents is None else self.strip_accents
        steps += [Unicode("NFD"), _EachCharacter(_without_mark)] if strip else []
        return [*steps, *([Lowercase()] if self.lowercase else [])]


def _cleaned(character: str) -> str:
    """ "" for a control character, a space for white space."""
    if character in "\t\n\r":
        return " "
    if character in "\0\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co"):
        return ""
    return " " if character.isspace() else character


def _without_mark(character: str) -> str:
    """ "" for a mark that takes no space of its own (category Mn)."""
    return "" if unicodedata.category(character) == "Mn" else character


_CLEANED = {code: _cleaned(chr(code)) for code in range(128) if _cleaned(chr(code)) != chr(code)}


def _apart(character: str) -> str:
    """A Chinese character with spaces around it."""
    return f" {character} " if CHINESE.match(character) else character


@dataclass(frozen=True)
class _EachCharacter:
    """A step that looks at one character at a time."""

    change: Any

    def __call__(self, text: str) -> str:
        return "".join(map(self.change, text))

    def trace(self, text: str) -> Traced:
        """See `Step`."""
        return _each(text, self.change)


_ENDS = re.compile(r"\\A\[?([ ▁]+)\]?\+|\[?([ ▁]+)\]?\+\\z")  # spaces or marks at one end of a text


@dataclass(frozen=True)
class Replace:
    """Each `pattern` becomes `content`: a text, or one of the few expressions that files have (\\z is the end)."""

    pattern: str
    content: str
    expression: bool = False

    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern.replace(r"\z", r"\Z") if self.expression else re.escape(self.pattern))

    def __call__(self, text: str) -> str:
        if not self.expression:
            return text.replace(self.pattern, self.content)
        if not self.content and (end := _ENDS.fullmatch(self.pattern)):  # the same, faster
            return text.lstrip(end[1]) if end[1] else text.rstrip(end[2])
        if (self.pattern, self.content) == (" {2,}", " "):
            while "  " in text:
                text = text.replace("  ", " ")
            return text
        return self._compiled().sub(self.content.replace("\\", r"\\"), text)

    def trace(self, text: str) -> Traced:
        """See `Step`."""
        parts, places, last = [], list[int](), 0
        for match in self._compiled().finditer(text):
            parts += [text[last : match.start()], self.content]
            places += [*range(last, match.start()), *[match.end() - 1] * len(self.content)]
            last = match.end()
        return "".join([*parts, text[last:]]), [*places, *range(last, len(text))]


@dataclass(frozen=True)
class Prepend:
    """`prepend` in front of a text that is not empty. once: of the first stretch only, not behind added tokens too."""

    prepend: str
    once: bool = False

    def __call__(self, text: str) -> str:
        return self.prepend + text if text else text

    def trace(self, text: str) -> Traced:
        """See `Step`."""
        return self(text), [*([0] * len(self.prepend) if text else []), *range(len(text))]


@dataclass(frozen=True)
class Strip:
    """Without white space at the ends."""

    strip_left: bool = True
    strip_right: bool = True

    def __call__(self, text: str) -> str:
        text = text.lstrip() if self.strip_left else text
        return text.rstrip() if self.strip_right else text

    def trace(self, text: str) -> Traced:
        """See `Step`."""
        first = len(text) - len(text.lstrip()) if self.strip_left else 0
        new = self(text)
        return new, range(first, first + len(new))


def _each(text: str, change: Any) -> Traced:
    """`trace` of a step that looks at one character at a time."""
    parts = [change(character) for character in text]
    return "".join(parts), [i for i, part in enumerate(parts) for _ in part]


def _chain(steps: Iterable[Step], text: str) -> Traced:
    """The steps one after the other."""
    places: Sequence[int] = range(len(text))
    for step in steps:
        text, own = step.trace(text)
        places = [places[i] for i in own]
    return text, places


@dataclass(frozen=True)
class Normalizer:
    """Steps, one after the other; none at all leave the text as it is."""

    steps: tuple[Step, ...] = ()

    def __call__(self, text: str) -> str:
        for step in self.steps:
            text = step(text)
        return text

    def trace(self, text: str) -> Traced:
        """The new text, and for each of its characters the place in `text` that it came from."""
        return _chain(self.steps, text)

    def __bool__(self) -> bool:
        return bool(self.steps)


UNCHANGED = Normalizer()
BERT = Normalizer((Bert(),))


def step_layout(step: Step) -> dict[str, Any]:
    """A step as tokenizer.json has it."""
    if isinstance(step, Unicode):
        return {"type": step.form}
    if hasattr(step, "to_json"):
        return step.to_json()
    if isinstance(step, Replace):
        return {"type": "Replace", "pattern": {"Regex" if step.expression else "String": step.pattern}, "content": step.content}
    name = "BertNormalizer" if isinstance(step, Bert) else type(step).__name__
    layout = {"type": name, **asdict(step)}  # type: ignore[call-overload]
    return layout


def normalizer_parts(normalizer: Normalizer) -> list[dict[str, Any]]:
    """Its steps as tokenizer.json has them."""
    return [step_layout(step) for step in normalizer.steps]


def normalizer_layout(normalizer: Normalizer) -> dict[str, Any] | None:
    """A normalizer as tokenizer.json has it."""
    parts = normalizer_parts(normalizer)
    return None if not parts else parts[0] if len(parts) == 1 else {"type": "Sequence", "normalizers": parts}
