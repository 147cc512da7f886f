"""All tokens end to end as bytes, and a table that finds the id of given bytes."""

from typing import Any, NamedTuple

import numpy as np

from tinyllm.kernels.jit import inlined, jit
from tinyllm.kernels.pointers import start
from tinyllm.kernels.text.characters import MIX, PADDING, byte_at, eight_bytes, put_eight_bytes

U1, U32 = np.uint64(1), np.uint64(32)


class Vocabulary(NamedTuple):
    """letters (n_bytes + PADDING,) uint8; starts (V + 1,) int64; slots (P,) int32, P a power of two: id + 1, 0 = empty."""

    letters: Any
    starts: Any
    slots: Any


def new_vocabulary(tokens: list[bytes], ids: np.ndarray) -> Vocabulary:
    """All tokens, of which those with one of `ids` are found by their bytes; of equal ones the first."""
    starts = np.zeros(len(tokens) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, tokens), np.int64, len(tokens)), out=starts[1:])
    letters = np.frombuffer(b"".join(tokens) + bytes(PADDING), np.uint8)
    slots = np.zeros(1 << max(4, (2 * len(ids)).bit_length()), np.int32)
    vocabulary = Vocabulary(letters.copy(), starts, slots)
    _fill(vocabulary, ids)
    return vocabulary


@inlined
def hash_of(text, begin, end):
    """A hash of text[begin:end]."""
    mixed = np.uint64(end - begin)
    for i in range(begin, end):
        mixed = (mixed ^ np.uint64(byte_at(text, i))) * MIX
        mixed ^= mixed >> U32
    return mixed


@inlined
def find_token(vocabulary, text, begin, end):
    """The id of text[begin:end]; -1 if it is no token."""
    mask = np.uint64(vocabulary.slots.size - 1)
    letters = start(vocabulary.letters)
    at = hash_of(text, begin, end) & mask
    while vocabulary.slots[at] != 0:
        token = np.int64(vocabulary.slots[at]) - 1
        first = vocabulary.starts[token]
        if vocabulary.starts[token + 1] - first == end - begin:
            i = 0
            while i < end - begin and byte_at(letters, first + i) == byte_at(text, begin + i):
                i += 1
            if i == end - begin:
                return token
        at = (at + U1) & mask
    return -1


@jit
def _fill(vocabulary, ids):
    """Put the tokens with these ids into the empty table."""
    letters, mask = start(vocabulary.letters), np.uint64(vocabulary.slots.size - 1)
    for token in ids:
        begin, end = vocabulary.starts[token], vocabulary.starts[token + 1]
        if find_token(vocabulary, letters, begin, end) < 0:
            at = hash_of(letters, begin, end) & mask
            while vocabulary.slots[at] != 0:
                at = (at + U1) & mask
            vocabulary.slots[at] = np.int32(token + 1)


def start_ids(vocabulary: Vocabulary) -> np.ndarray:
    """The id of each single byte (256,); -1 where there is none."""
    letters = np.frombuffer(bytes(range(256)) + bytes(PADDING), np.uint8)
    return _find_each(vocabulary, letters)


@jit
def _find_each(vocabulary, letters):
    """The id of each of the first 256 bytes of `letters`."""
    found = np.empty(256, np.int32)
    for i in range(256):
        found[i] = find_token(vocabulary, start(letters), i, i + 1)
    return found


def all_merges(vocabulary: Vocabulary, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lefts, rights, joined), int32: all ways to make a token of `ids` from two tokens."""
    n = int(vocabulary.starts[-1])
    lefts, rights, joined = (np.empty(n, np.int32) for _ in range(3))
    n = _every_split(vocabulary, ids, lefts, rights, joined)
    return lefts[:n], rights[:n], joined[:n]


@jit
def _every_split(vocabulary, ids, lefts, rights, joined):
    """The loop of `all_merges`; returns how many there are."""
    letters, n = start(vocabulary.letters), 0
    for token in ids:
        begin, end = vocabulary.starts[token], vocabulary.starts[token + 1]
        for middle in range(begin + 1, end):
            left = find_token(vocabulary, letters, begin, middle)
            right = find_token(vocabulary, letters, middle, end) if left >= 0 else -1
            if right >= 0:
                lefts[n], rights[n], joined[n] = left, right, token
                n += 1
    return n


@jit
def count_bytes(vocabulary, ids):
    """How many bytes the tokens `ids` (n,) have."""
    n = 0
    for token in ids:
        n += vocabulary.starts[token + 1] - vocabulary.starts[token]
    return n


@jit
def join_tokens(vocabulary, ids, out):
    """Write the bytes of `ids` (n,) to out, which has PADDING bytes of room behind them: always eight at a time."""
    letters, base, n = start(vocabulary.letters), start(out), 0
    for token in ids:
        begin, end = vocabulary.starts[token], vocabulary.starts[token + 1]
        for i in range(0, end - begin, 8):
            put_eight_bytes(base, n + i, eight_bytes(letters, begin + i))
        n += end - begin
