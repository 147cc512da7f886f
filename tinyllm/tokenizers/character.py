"""One token a character: the simplest tokenizer there is, and the first rung of the ladder character -> byte -> BPE.

The vocabulary is the set of characters seen in training, sorted by code point, and U+FFFD, which stands for every
character that was not seen. Tiny vocabularies make tiny models learn quickly (Karpathy's char-rnn, 2015).
What it leaves out: it is not lossless (an unseen character is gone), the vocabulary grows with the alphabet (thousands
for Chinese), and sequences are long. `byte` cures the first two, `bpe` the third.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinyllm.tokenizers.characters import to_bytes, to_text
from tinyllm.tokenizers.layout import character_layout
from tinyllm.tokenizers.special import add_special_tokens
from tinyllm.tokenizers.tokenizer import Place, Tokenizer

UNKNOWN = "\ufffd"


class CharacterTokenizer(Tokenizer):
    """Ids in order of code point, then U+FFFD if it was not there already, then the special tokens.

    `characters`: distinct characters in the order of their ids. Bytes that are not UTF-8 count as unknown.
    """

    def __init__(self, characters: Iterable[str], *, special_tokens: Iterable[str] = ()):
        alphabet = list(characters)
        if len(set(alphabet)) != len(alphabet):
            raise ValueError("characters: got one twice, expected distinct characters")
        for character in alphabet:
            if not isinstance(character, str) or len(character) != 1 or "\ud800" <= character <= "\udfff":
                raise ValueError(f"characters: got {character!r}, expected single characters (no surrogates)")
        if UNKNOWN not in alphabet:
            alphabet.append(UNKNOWN)
        tokens, special_ids = add_special_tokens([to_bytes(c) for c in alphabet], special_tokens)
        super().__init__(tokens, special_ids)
        self._ids = {character: i for i, character in enumerate(alphabet)}

    @classmethod
    def train(cls, documents: Iterable[str | bytes], *, special_tokens: Iterable[str] = ("<|endoftext|>",)) -> CharacterTokenizer:
        """The tokenizer whose alphabet is every character of `documents`."""
        if isinstance(documents, str | bytes):
            raise ValueError("documents: got one text, expected an iterable of texts; put it in a list")
        seen: set[str] = set()
        for document in documents:
            seen.update(to_text(document))
        return cls(sorted(c for c in seen if not "\udc80" <= c <= "\udcff"), special_tokens=special_tokens)

    def _spans(self, text: str, at: Place) -> list[tuple[int, int, int]]:
        return [(token, i, i + 1) for i, token in enumerate(self._encode_normal(text, at))]

    def _encode_normal(self, text: str, at: Place) -> list[int]:
        unknown = self._ids[UNKNOWN]
        return [self._ids.get(character, unknown) for character in text]

    def _settled(self, text: str, reserve: int, *, only_lines: bool = False) -> int:
        return max(0, len(text) - reserve)

    def to_json(self) -> dict[str, Any]:
        """A WordLevel model over single characters; see `layout`."""
        return character_layout(self.tokens, self.added_tokens, UNKNOWN)
