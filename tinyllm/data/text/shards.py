"""Token files: a corpus encoded once, then mapped into memory, so that training reads only the windows it needs.

A 128-byte header, little-endian, then `n_tokens` ids of 2 bytes (vocabulary up to 65,536) or 4. Each document is
followed by the end-of-text id, if the tokenizer has one. What a header claims is compared with the file before it is
believed: exact size, checksum of the header, tokenizer, and every id below the vocabulary size, because an id beyond
it would make an embedding kernel read memory that is not its own. `verify` also checks the sha256 of all ids.
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from tinyllm.storage import FormatError, atomic

MAGIC = b"tinytok\n"
VERSION = 1
HEADER_BYTES = 128

_FIELDS = struct.Struct("<8sIIQQQQq32s32s")  # magic, version, itemsize, tokens, documents, bytes, vocabulary, eos, 2 sha256
_NO_EOS = -1
_BATCH_BYTES = 1 << 23  # documents are handed to the tokenizer about this many bytes at a time
_CHECKED_AT_ONCE = 1 << 22  # ids


class Tokenizer(Protocol):
    """What a shard needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Every id is below it."""
        ...

    @property
    def eos_id(self) -> int | None:
        """The id that ends a document, if there is one."""
        ...

    def encode_arrays(self, texts: list[bytes]) -> list[np.ndarray]:
        """The ids of each text, whole numbers (n,)."""
        ...

    def encode_chunks(self, chunks: Iterable[bytes]) -> Iterator[np.ndarray]:
        """The ids of one text, given in chunks."""
        ...

    def fingerprint(self) -> str:
        """sha256 in hex: equal means the same ids for any text."""
        ...


@dataclass(frozen=True)
class ShardHeader:
    """What a token file says of itself. n_bytes: of the text; tokenizer, payload: sha256 digests in hex."""

    itemsize: int
    n_tokens: int
    n_documents: int
    n_bytes: int
    vocab_size: int
    eos_id: int | None
    tokenizer: str
    payload: str

    @property
    def dtype(self) -> np.dtype:
        """The little-endian integer type of the ids."""
        return np.dtype(f"<u{self.itemsize}")


@dataclass(frozen=True)
class Shard:
    """An open token file: its header and its ids, a read-only array (n_tokens,) mapped from the disk."""

    path: Path
    header: ShardHeader
    tokens: np.ndarray


def write_shard(
    path: str | os.PathLike[str], documents: Iterable[bytes], *, tokenizer: Tokenizer,
    progress: Callable[[int], None] | None = None,
) -> ShardHeader:  # fmt: skip
    """Encode `documents`, write them to `path` in one atomic step, and return the header.

    progress: called with the number of documents encoded so far. Documents are read and ids written as they come, so memory
    is that of some documents. Raises ValueError if the tokenizer gives an id outside its own vocabulary, or nothing at all.
    """
    writer = _Writer(path, tokenizer)

    def encoded() -> Iterator[np.ndarray]:
        for batch in _in_batches(documents):
            for ids in tokenizer.encode_arrays(batch):
                yield ids
                yield writer.ending
            writer.n_documents += len(batch)
            writer.n_bytes += sum(map(len, batch))
            if progress:
                progress(writer.n_documents)

    return writer.write(encoded())


def encode_file(
    source: str | os.PathLike[str], path: str | os.PathLike[str], *, tokenizer: Tokenizer,
    progress: Callable[[int], None] | None = None,
) -> ShardHeader:  # fmt: skip
    """Encode the text in the file `source`, however large, as one document of a token file at `path`.

    progress: called with the number of bytes read so far. Memory: a few of the pieces that are read at a time.
    """
    writer = _Writer(path, tokenizer)
    writer.n_documents = 1

    def chunks() -> Iterator[bytes]:
        with open(source, "rb") as file:
            while chunk := file.read(_BATCH_BYTES):
                writer.n_bytes += len(chunk)
                yield chunk
                if progress:
                    progress(writer.n_bytes)

    return writer.write(chain(tokenizer.encode_chunks(chunks()), [writer.ending]))


class _Writer:
    """Writes ids as they come and counts them; the header, which tells how many there are, is written last."""

    def __init__(self, path: str | os.PathLike[str], tokenizer: Tokenizer):
        self.path, self.tokenizer = path, tokenizer
        self.itemsize = 2 if tokenizer.vocab_size <= 1 << 16 else 4
        self.ending = np.array([] if tokenizer.eos_id is None else [tokenizer.eos_id], dtype=np.int64)
        self.digest, self.n_tokens, self.n_documents, self.n_bytes = hashlib.sha256(), 0, 0, 0

    def write(self, arrays: Iterable[np.ndarray]) -> ShardHeader:
        """The file of these ids; its header."""
        atomic.write_file(self.path, self._content(arrays), beginning=lambda: _pack(self.header()))
        return self.header()

    def _content(self, arrays: Iterable[np.ndarray]) -> Iterator[bytes]:
        yield bytes(HEADER_BYTES)
        for ids in arrays:
            check_ids(ids, self.tokenizer.vocab_size)
            piece = ids.astype(f"<u{self.itemsize}").tobytes()
            self.digest.update(piece)
            self.n_tokens += len(ids)
            yield piece
        if not self.n_tokens:
            raise ValueError(f"documents gave no tokens, so there is nothing to write to {os.fspath(self.path)!r}")

    def header(self) -> ShardHeader:
        """What the file says of itself."""
        vocabulary = self.tokenizer.vocab_size, self.tokenizer.eos_id, self.tokenizer.fingerprint()
        counts = self.n_tokens, self.n_documents, self.n_bytes
        return ShardHeader(self.itemsize, *counts, *vocabulary, payload=self.digest.hexdigest())


def _in_batches(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    n_bytes = 0
    for document in documents:
        batch.append(document)
        n_bytes += len(document)
        if n_bytes >= _BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def check_ids(ids: np.ndarray, vocab_size: int) -> None:
    """ValueError naming the first id that is negative or not below `vocab_size`."""
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        wrong = ids[(ids < 0) | (ids >= vocab_size)][0]
        raise ValueError(f"the tokenizer gave id {wrong}, outside its vocabulary of {vocab_size}")


def _pack(header: ShardHeader) -> bytes:
    eos_id = _NO_EOS if header.eos_id is None else header.eos_id
    counts = header.n_tokens, header.n_documents, header.n_bytes, header.vocab_size, eos_id
    digests = bytes.fromhex(header.tokenizer), bytes.fromhex(header.payload)
    packed = _FIELDS.pack(MAGIC, VERSION, header.itemsize, *counts, *digests)
    return (packed + struct.pack("<I", zlib.crc32(packed))).ljust(HEADER_BYTES, b"\0")


def open_shard(path: str | os.PathLike[str], *, tokenizer: Tokenizer | None = None) -> Shard:
    """Map the token file at `path`; every id is checked against the vocabulary size (about a second for 2 GB).

    With `tokenizer` given, its fingerprint must be the one the file was written with. Raises FormatError (a ValueError)
    naming file, field, what was expected and what was found; OSError if the file cannot be opened.
    """
    header = read_header(path)
    if tokenizer is not None and tokenizer.fingerprint() != header.tokenizer:
        expected = f"{tokenizer.fingerprint()[:12]}, the tokenizer in use (encode the corpus again with it)"
        raise FormatError(path, field="tokenizer fingerprint", expected=expected, found=header.tokenizer[:12])
    tokens = np.memmap(path, dtype=header.dtype, mode="r", offset=HEADER_BYTES, shape=(header.n_tokens,))
    for start in range(0, header.n_tokens, _CHECKED_AT_ONCE):
        largest = int(tokens[start : start + _CHECKED_AT_ONCE].max())
        if largest >= header.vocab_size:
            raise FormatError(path, field="token id", expected=f"less than {header.vocab_size}", found=largest)
    return Shard(Path(path), header, np.asarray(tokens))


def read_header(path: str | os.PathLike[str]) -> ShardHeader:
    """The header of a token file, checked against the file's size; the ids are not read."""
    with open(path, "rb") as file:
        raw = file.read(HEADER_BYTES)
        size = os.fstat(file.fileno()).st_size
    if len(raw) < HEADER_BYTES:
        raise FormatError(path, field="file size", expected=f"at least {HEADER_BYTES} bytes of header", found=size)
    magic, version, itemsize, n_tokens, n_documents, n_bytes, vocab_size, eos_id, *digests = _FIELDS.unpack_from(raw)
    _require(path, "magic", MAGIC, magic)
    _require(path, "version", VERSION, version)
    _require(path, "header checksum", zlib.crc32(raw[: _FIELDS.size]), *struct.unpack_from("<I", raw, _FIELDS.size))
    _require(path, "header padding", bytes(HEADER_BYTES - _FIELDS.size - 4), raw[_FIELDS.size + 4 :])
    if itemsize not in (2, 4):
        raise FormatError(path, field="bytes per id", expected="2 or 4", found=itemsize)
    if not 1 <= vocab_size <= 1 << 8 * itemsize:
        raise FormatError(path, field="vocabulary size", expected=f"1 to {1 << 8 * itemsize}", found=vocab_size)
    if not _NO_EOS <= eos_id < vocab_size:
        raise FormatError(path, field="eos id", expected=f"-1 (none) to {vocab_size - 1}", found=eos_id)
    if n_tokens < 1:
        raise FormatError(path, field="number of tokens", expected="at least 1", found=n_tokens)
    _require(path, "file size", HEADER_BYTES + n_tokens * itemsize, size)
    eos = None if eos_id == _NO_EOS else eos_id
    tokenizer, payload = (digest.hex() for digest in digests)
    return ShardHeader(itemsize, n_tokens, n_documents, n_bytes, vocab_size, eos, tokenizer, payload)


def _require(path: str | os.PathLike[str], field: str, expected: object, found: object) -> None:
    if found != expected:
        raise FormatError(path, field=field, expected=repr(expected), found=found)


def verify(shard: Shard) -> None:
    """Compare the sha256 of all ids with the header's; raises FormatError when they differ (a damaged disk or copy)."""
    digest = hashlib.sha256(np.ascontiguousarray(shard.tokens).data).hexdigest()
    if digest != shard.header.payload:
        raise FormatError(shard.path, field="sha256 of the ids", expected=shard.header.payload[:16], found=digest[:16])
