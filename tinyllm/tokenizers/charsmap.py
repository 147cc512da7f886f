"""SentencePiece's own normalization: a table of strings and what they become, kept in the model file as a double array.

The table is compiled from Unicode's NFKC and a few rules for white space (Kudo and Richardson 2018, section 3.2), so that every
program that reads the file normalizes alike, whatever Unicode version it knows. Layout: the length of the double array in bytes
(32 bits), the double array (32-bit units, as Darts-clone writes them), then all results, each with a NUL behind it. A trie as a
double array: from a node, the letter c leads to the unit at `offset of the node XOR c`, if that has the label c (Aoe 1989).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import regex

from tinyllm.tokenizers.normalizers import Traced

MOST_BYTES = 1 << 24
LONGEST_GRAPHEME = 5  # bytes; of longer ones each character is looked at
# Behind a virama a consonant goes on (Unicode Standard Annex 29, GB9c), but only if it began with one: `regex` forgets that.
_VIRAMA = r"\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d"
_GRAPHEME = regex.compile(rf"(?![\p{{C}}\p{{Zl}}\p{{Zp}}])[^\p{{Lo}}]\p{{M}}*[{_VIRAMA}]\p{{M}}*(?=\p{{Lo}})|\X")
# Where entries of more than one character are, with the character before; the second also where a grapheme is ASCII's only one.
_WIDE, _WIDE_OR_LINE_END = re.compile(r"[^\x00-\x7f]+"), re.compile(r"[^\x00-\x7f]+|\r\n")


@dataclass(frozen=True)
class CharacterMap:
    """The step. graphemes: look at one grapheme at a time and take the shortest entry, as Hugging Face's `Precompiled` does;
    SentencePiece itself takes the longest entry that begins at a place.

    ValueError if the bytes are no such table.
    """

    table: bytes = field(repr=False)
    graphemes: bool = False

    def __post_init__(self) -> None:
        n = int.from_bytes(self.table[:4], "little")
        if not 4 <= len(self.table) <= MOST_BYTES or n % 4 or 4 + n > len(self.table) or n < 4:
            raise ValueError(f"precompiled_charsmap: got {len(self.table)} bytes, of which the double array says to have {n}")

    @cached_property
    def _units(self) -> list[int]:
        n = int.from_bytes(self.table[:4], "little")
        return np.frombuffer(self.table, "<u4", n // 4, 4).tolist()

    @cached_property
    def _results(self) -> bytes:
        return self.table[4 + 4 * len(self._units) :]

    def _entries(self, key: bytes) -> Iterator[tuple[int, str]]:
        """(bytes, result) of the entries that `key` begins with, the shortest first."""
        units, node = self._units, 0
        node = _offset(units[0])
        for n, byte in enumerate(key, start=1):
            node ^= byte
            if byte == 0 or node >= len(units) or units[node] & 0x800000FF != byte:
                return
            leaf = units[node] >> 8 & 1
            node ^= _offset(units[node])
            if leaf and node < len(units):
                start = units[node] & 0x7FFFFFFF
                yield n, self._results[start : self._results.find(b"\0", start)].decode("utf-8", "replace")

    @cached_property
    def _ascii(self) -> dict[int, str | None]:
        """What the single ASCII characters become, where that is something else."""
        found = {code: next((new for _, new in self._entries(bytes([code]))), chr(code)) for code in range(128)}
        return {code: new or None for code, new in found.items() if new != chr(code)}

    def __call__(self, text: str) -> str:
        line_ends = self.graphemes and "\r\n" in text
        if text.isascii() and not line_ends:
            return text.translate(self._ascii)
        parts, place = [], 0
        for match in (_WIDE_OR_LINE_END if line_ends else _WIDE).finditer(text):
            begin = max(place, match.start() - 1)
            parts += [text[place:begin].translate(self._ascii), self.trace(text[begin : match.end()])[0]]
            place = match.end()
        return "".join([*parts, text[place:].translate(self._ascii)])

    def trace(self, text: str) -> Traced:
        """See `normalizers`."""
        changed = self._by_grapheme(text) if self.graphemes else self._by_longest(text)
        characters: list[str] = []
        changes: list[int] = []  # as in `normalizers.Unicode`: 1 = more than there was, -n = n old ones are gone
        for old, new in changed:
            more = len(new) - old
            characters += new
            changes += [0] * min(len(new), old) + [1] * more
            if more < 0 and changes:
                changes[-1] += more
        places, place = [], -1
        for change in changes:
            place += change <= 0
            places.append(place)
            place -= min(change, 0)
        return "".join(characters), places

    def _by_grapheme(self, text: str) -> Iterator[tuple[int, str]]:
        """(old characters, what they become)."""
        for grapheme in _GRAPHEME.findall(text):
            data = grapheme.encode("utf-8", "surrogatepass")
            new = next((new for _, new in self._entries(data)), None) if len(data) <= LONGEST_GRAPHEME else None
            if new is not None:
                yield len(grapheme), new
                continue
            for character in grapheme:
                yield 1, next((new for _, new in self._entries(character.encode("utf-8", "surrogatepass"))), character)

    def _by_longest(self, text: str) -> Iterator[tuple[int, str]]:
        """(old characters, what they become)."""
        place = 0
        while place < len(text):
            key = text[place : place + 32].encode("utf-8", "surrogatepass")
            found = list(self._entries(key))
            n, new = found[-1] if found else (0, "")
            old = len(key[:n].decode("utf-8", "replace")) if found else 1
            yield old, new if found else text[place]
            place += old

    def to_json(self) -> dict[str, Any]:
        """As tokenizer.json has it."""
        own = {} if self.graphemes else {"longest_match": True}  # which Hugging Face passes over
        return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(self.table).decode(), **own}


def _offset(unit: int) -> int:
    """Where the children of a node are, before the letter."""
    return unit >> 10 << ((unit & 0x200) >> 6)
