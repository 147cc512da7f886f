"""What a corpus is made of: named sources, each a tuple of documents, each document plain bytes.

Bytes and not text, because a byte-level tokenizer loses nothing: a file that is not valid UTF-8 keeps all its bytes.
A document is the unit that is never divided between training and validation (`tinyllm.data.split`) and the unit that
ends with the end-of-text token (`tinyllm.data.text.shards`). One long text is therefore cut into documents first, at blank
lines, so that a validation set can be held out of it. The pieces joined together are the text again, byte for byte.
Where the text itself says where its documents end, by the end-of-text mark between them, it is cut there instead and
the mark is left out: the model is to see the token that means it, not its letters.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DOCUMENT_BYTES = 8192  # a long text becomes documents of about this size
LARGE_DOCUMENT_BYTES = 64 * 1024  # a document that somebody else made stays whole up to this size
END_OF_TEXT = "<|endoftext|>"  # GPT-2's mark, which published corpora have between their texts
SMALLEST_DOCUMENT_BYTES = 256  # a short text becomes about twenty documents, but none smaller than this

_BLANK_LINE = re.compile(rb"\r?\n[ \t]*\r?\n\s*")
_LINE_END = re.compile(rb"\n")


@dataclass(frozen=True)
class Source:
    """Documents under one name, e.g. "docstrings", in an order that is always the same."""

    name: str
    documents: tuple[bytes, ...]
    skipped: tuple[str, ...] = ()  # what was passed over and why, one line each
    notes: tuple[str, ...] = ()  # what else the reader should know of it: records skipped, keys not used
    n_marks: int = 0  # end-of-text marks in the text, where documents were cut

    @property
    def n_bytes(self) -> int:
        """The size of all documents together, in bytes."""
        return sum(map(len, self.documents))


def canonical(text: bytes) -> bytes:
    """The text without spaces, line ends and capitals: equal for copies."""
    return b"".join(text.split()).lower()


def content_digest(document: bytes) -> bytes:
    """sha256 of the document: where an order must be arbitrary but always the same, documents are ordered by it."""
    return hashlib.sha256(document).digest()


def document_size_for(n_bytes: int) -> int:
    """The size of the documents that one text of `n_bytes` is cut into: a twentieth of it, from 256 to 8192 bytes."""
    return min(DOCUMENT_BYTES, max(SMALLEST_DOCUMENT_BYTES, n_bytes // 20))


def cut_at_paragraphs(text: bytes, size: int = DOCUMENT_BYTES) -> list[bytes]:
    """Cut `text` into documents of about `size` bytes whose concatenation is `text`.

    A document ends after the first blank line at or beyond `size` bytes; where the next `size` bytes hold no blank
    line, after the first line end; where they hold none either, at 2 * size bytes. From size 4 on no cut is inside a
    UTF-8 character.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 byte, got {size}")
    pieces, start = [], 0
    while len(text) - start > size:
        end = _end_of_document(text, start + size, start + 2 * size)
        pieces.append(text[start:end])
        start = end
    if start < len(text):
        pieces.append(text[start:])
    return pieces


def cut_at_marks(text: bytes, marks: Sequence[str] = (END_OF_TEXT,)) -> tuple[list[bytes], int]:
    """(the documents between end-of-text marks, the number of marks). A mark goes with the spaces and the line end behind it."""
    alternatives = b"|".join(re.escape(mark.encode("utf-8", "surrogateescape")) for mark in marks if mark)
    if not alternatives:
        return [text], 0
    pieces = re.split(rb"(?:" + alternatives + rb")[ \t]*(?:\r?\n)?", text)
    return [piece for piece in pieces if piece.strip()], len(pieces) - 1


def as_documents(text: bytes, marks: Sequence[str] = (END_OF_TEXT,), *, whole: bool = False) -> tuple[list[bytes], int]:
    """The documents of one file, and the number of end-of-text marks in it.

    Documents that the text marks itself, if they are twenty or more, and a text that is one document (`whole`) are cut only
    where they are large; any other text is cut at blank lines, so that some of it can be held out.
    """
    pieces, n_marks = cut_at_marks(text, marks)
    known = whole or len(pieces) >= 20
    size = DOCUMENT_BYTES if known else document_size_for(len(text))
    return [part for one in pieces for part in _cut(one, size, keep=LARGE_DOCUMENT_BYTES if known else 0)], n_marks


def _cut(document: bytes, size: int, *, keep: int) -> list[bytes]:
    """`cut_at_paragraphs`, for a document of more than `keep` bytes."""
    return [document] if len(document) <= keep else cut_at_paragraphs(document, size)


def _end_of_document(text: bytes, low: int, high: int) -> int:
    for pattern in (_BLANK_LINE, _LINE_END):
        found = pattern.search(text, low - 1, high)
        if found:
            return found.end()
    end = min(high, len(text))
    for back in range(min(4, high - low)):  # bytes 10xxxxxx continue a character: step back to its first byte
        if end == len(text) or text[end - back] & 0xC0 != 0x80:
            return end - back
    return end


def without_duplicates(documents: Iterable[bytes]) -> tuple[bytes, ...]:
    """The documents with each content once, in the order of first appearance."""
    return tuple(dict.fromkeys(documents))


def limit_bytes(source: Source, max_bytes: int | None) -> Source:
    """A part of `source` of at most `max_bytes`: documents in the order of their sha256, as far as they fit.

    The hash makes the choice look random (a sample of all the folders, not the first one) yet always the same; those
    chosen keep their old order. If none fits, the first `max_bytes` bytes of one are kept.
    """
    if max_bytes is None or source.n_bytes <= max_bytes:
        return source
    if max_bytes < 1:
        raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
    by_digest = sorted(range(len(source.documents)), key=lambda i: content_digest(source.documents[i]))
    kept, room = [], max_bytes
    for index in by_digest:
        if len(source.documents[index]) <= room:
            kept.append(index)
            room -= len(source.documents[index])
    chosen = tuple(source.documents[i] for i in sorted(kept)) or (source.documents[by_digest[0]][:max_bytes],)
    return dataclasses.replace(source, documents=chosen)
