import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.text import shards
from tinyllm.data.text.shards import HEADER_BYTES, encode_file, open_shard, read_header, verify, write_shard
from tinyllm.storage import FormatError


class BytesTokenizer:
    """Ids are bytes, and one more ends a document."""

    def __init__(self, vocab_size=257, eos_id=256, offset=0):
        self.vocab_size, self.eos_id, self.offset = vocab_size, eos_id, offset

    def encode_arrays(self, texts):
        return [np.array([byte + self.offset for byte in text], np.int32) for text in texts]

    def encode_chunks(self, chunks):
        return (self.encode_arrays([chunk])[0] for chunk in chunks)

    def fingerprint(self):
        return f"{self.vocab_size:064x}"


@given(documents=st.lists(st.binary(max_size=50), min_size=1, max_size=10), wide=st.booleans())
def test_a_shard_reads_back_as_the_documents_each_ended_by_eos(tmp_path_factory, documents, wide):
    path = tmp_path_factory.mktemp("shard") / "train.tokens"
    tokenizer = BytesTokenizer(vocab_size=70_000, eos_id=69_999) if wide else BytesTokenizer()
    header = write_shard(path, documents, tokenizer=tokenizer)
    shard = open_shard(path, tokenizer=tokenizer)
    expected = [number for document in documents for number in [*document, tokenizer.eos_id]]
    assert shard.tokens.tolist() == expected and shard.header == header
    assert shard.tokens.dtype == (np.uint32 if wide else np.uint16) and not shard.tokens.flags.writeable
    assert (header.n_documents, header.n_tokens) == (len(documents), len(expected))
    assert header.n_bytes == sum(map(len, documents))
    verify(shard)


def test_a_file_of_any_size_becomes_one_document(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_BATCH_BYTES", 10)
    (tmp_path / "text").write_bytes(bytes(range(65, 90)))
    read = []
    header = encode_file(tmp_path / "text", tmp_path / "s", tokenizer=BytesTokenizer(), progress=read.append)
    assert open_shard(tmp_path / "s").tokens.tolist() == [*range(65, 90), 256] and read == [10, 20, 25]
    assert header == read_header(tmp_path / "s") and (header.n_documents, header.n_bytes) == (1, 25)


def test_without_an_eos_documents_follow_each_other(tmp_path):
    write_shard(tmp_path / "s", [b"ab", b"", b"c"], tokenizer=BytesTokenizer(eos_id=None))
    shard = open_shard(tmp_path / "s")
    assert bytes(shard.tokens.tolist()) == b"abc" and shard.header.eos_id is None


def test_a_vocabulary_of_65536_fits_two_bytes(tmp_path):
    write_shard(tmp_path / "s", [b"ab"], tokenizer=BytesTokenizer(1 << 16, 65_535))
    assert open_shard(tmp_path / "s").tokens.tolist() == [97, 98, 65_535]
    assert read_header(tmp_path / "s").itemsize == 2


def test_many_documents_are_encoded_in_several_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_BATCH_BYTES", 10)
    counts = []
    write_shard(tmp_path / "s", [b"abcd"] * 7, tokenizer=BytesTokenizer(), progress=counts.append)
    assert counts == [3, 6, 7] and open_shard(tmp_path / "s").header.n_tokens == 35


@pytest.mark.parametrize("offset", [-98, 200])
def test_an_id_outside_the_vocabulary_is_never_written(tmp_path, offset):
    with pytest.raises(ValueError, match="the tokenizer gave id .*, outside its vocabulary of 257"):
        write_shard(tmp_path / "s", [b"abc"], tokenizer=BytesTokenizer(offset=offset))
    assert not list(tmp_path.iterdir())


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(ValueError, match="gave no tokens"):
        write_shard(tmp_path / "s", [b""], tokenizer=BytesTokenizer(eos_id=None))


def test_another_tokenizer_is_refused(tmp_path):
    write_shard(tmp_path / "s", [b"abc"], tokenizer=BytesTokenizer())
    with pytest.raises(FormatError, match="tokenizer fingerprint: expected .*encode the corpus again"):
        open_shard(tmp_path / "s", tokenizer=BytesTokenizer(300))


def _with_header(raw: bytes, **changes) -> bytes:
    """The file with header fields changed and the header's checksum made right again."""
    names = ["magic", "version", "itemsize", "n_tokens", "n_documents", "n_bytes", "vocab_size", "eos_id", "tokenizer", "payload"]
    values = dict(zip(names, shards._FIELDS.unpack_from(raw), strict=True)) | changes
    packed = shards._FIELDS.pack(*values.values())
    return (packed + struct.pack("<I", zlib.crc32(packed))).ljust(HEADER_BYTES, b"\0") + raw[HEADER_BYTES:]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"magic": b"GGUF\0\0\0\0"}, "magic: expected b'tinytok"),
        ({"version": 0}, "version: expected 1, found 0"),
        ({"version": 2}, "version: expected 1, found 2"),
        ({"itemsize": 1}, "bytes per id: expected 2 or 4, found 1"),
        ({"itemsize": 4}, "file size: expected 144, found 136"),
        ({"n_tokens": 0}, "number of tokens: expected at least 1, found 0"),
        ({"n_tokens": 3}, "file size: expected 134, found 136"),
        ({"n_tokens": 5}, "file size: expected 138, found 136"),
        ({"n_tokens": 2**63}, "file size: expected 18446744073709551744, found 136"),
        ({"n_tokens": 2**63 + 4}, "file size"),  # 2 * n_tokens wraps to 8 in 64 bits
        ({"vocab_size": 0}, "vocabulary size: expected 1 to 65536, found 0"),
        ({"vocab_size": 65_537}, "vocabulary size: expected 1 to 65536, found 65537"),
        ({"vocab_size": 256, "eos_id": -1}, "token id: expected less than 256, found 256"),
        ({"eos_id": 257}, "eos id: expected -1 .none. to 256, found 257"),
        ({"eos_id": -2}, "eos id: expected -1 .none. to 256, found -2"),
    ],
)
def test_a_lying_header_is_refused(tmp_path, change, message):
    write_shard(tmp_path / "s", [b"abc"], tokenizer=BytesTokenizer())
    (tmp_path / "s").write_bytes(_with_header((tmp_path / "s").read_bytes(), **change))
    with pytest.raises(FormatError, match=message) as error:
        open_shard(tmp_path / "s")
    assert str(tmp_path / "s") in str(error.value)


def test_any_changed_header_byte_is_noticed(tmp_path):
    write_shard(tmp_path / "s", [b"abc"], tokenizer=BytesTokenizer())
    raw = (tmp_path / "s").read_bytes()
    for position in range(HEADER_BYTES):
        damaged = bytearray(raw)
        damaged[position] ^= 0x20
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(FormatError):
            open_shard(tmp_path / "bad")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 135, 137])
def test_a_file_of_the_wrong_length_is_refused(tmp_path, size):
    write_shard(tmp_path / "s", [b"abc"], tokenizer=BytesTokenizer())
    raw = (tmp_path / "s").read_bytes() + b"\0"
    (tmp_path / "s").write_bytes(raw[:size])
    with pytest.raises(FormatError, match="file size"):
        open_shard(tmp_path / "s")


def test_a_changed_id_within_the_vocabulary_is_found_by_verify(tmp_path):
    write_shard(tmp_path / "s", [b"abc"], tokenizer=BytesTokenizer())
    raw = bytearray((tmp_path / "s").read_bytes())
    raw[-2] ^= 1
    raw[-1] = 0
    (tmp_path / "s").write_bytes(raw)
    shard = open_shard(tmp_path / "s")
    with pytest.raises(FormatError, match="sha256 of the ids"):
        verify(shard)


def test_a_wrong_id_beyond_the_first_block_is_found_at_opening(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_CHECKED_AT_ONCE", 2)
    write_shard(tmp_path / "s", [b"abcdef"], tokenizer=BytesTokenizer())
    raw = bytearray((tmp_path / "s").read_bytes())
    raw[-4:-2] = struct.pack("<H", 300)
    (tmp_path / "s").write_bytes(raw)
    with pytest.raises(FormatError, match="token id: expected less than 257, found 300"):
        open_shard(tmp_path / "s")
