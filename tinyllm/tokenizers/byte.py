"""One token a byte of UTF-8: 256 ids write every text in every language. The second rung: character -> byte -> BPE.

Encoding is what the text already is on disk (RFC 3629), so nothing has to be learned and nothing can be unknown:
decode_bytes(encode(data)) == data for any data at all. ByT5 (Xue et al. 2022, section 3) trains on exactly this.
What it leaves out: it does not shorten anything. English costs one token a letter, Chinese three a character, and
attention pays for every one of them. `bpe` starts from these bytes and joins the frequent neighbours.
"""

from collections.abc import Iterable
from typing import Any

from tinyllm.tokenizers.characters import to_bytes
from tinyllm.tokenizers.layout import byte_layout
from tinyllm.tokenizers.special import add_special_tokens
from tinyllm.tokenizers.tokenizer import Place, Tokenizer


class ByteTokenizer(Tokenizer):
    """Id = byte value, 0 to 255; special tokens follow from 256."""

    def __init__(self, *, special_tokens: Iterable[str] = ("<|endoftext|>",)):
        super().__init__(*add_special_tokens([bytes([b]) for b in range(256)], special_tokens))

    def _encode_normal(self, text: str, at: Place) -> list[int]:
        return list(to_bytes(text))

    def _spans(self, text: str, at: Place) -> list[tuple[int, int, int]]:
        return [(byte, i, i + 1) for i, character in enumerate(text) for byte in to_bytes(character)]

    def _settled(self, text: str, reserve: int, *, only_lines: bool = False) -> int:
        return max(0, len(text) - reserve)

    def to_json(self) -> dict[str, Any]:
        """A byte-level BPE without merges; see `layout`."""
        return byte_layout(self.tokens, self.added_tokens)
