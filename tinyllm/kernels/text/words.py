"""A table of the words seen: what a word became is looked up, not worked out again. A text is mostly words seen before.

Open addressing: a word's hash names a place, and if another word has it, the next one is tried. An entry is four numbers of
64 bits, half a line of the cache:

    up to 15 bytes   bytes 0..7    | bytes 8..14, length  |  up to three ids, or where they lie; how many, a tag
    up to 63 bytes   hash          | where they lie, 255  |  the same

Longer words are not kept. When the table is three quarters full it is emptied, so that its memory is bounded.
"""

from typing import Any, NamedTuple

import numpy as np

from tinyllm.kernels.jit import inlined
from tinyllm.kernels.text.characters import MIX, MIX2, byte_at, eight_bytes

SLOTS = 1 << 18  # entries: 8 MB
INLINE, LONGEST = 15, 63  # bytes
ARENA_BYTES, ARENA_IDS = 1 << 21, 1 << 20
N_SLOTS, N_BYTES, N_IDS = 0, 1, 2  # places in `used`
U1, U2, U3, U4, U32, U48, U56 = map(np.uint64, (1, 2, 3, 4, 32, 48, 56))
LOW16 = np.uint64(0xFFFF)
ONES, LOW32, LONG_WORD = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0xFFFFFFFF), np.uint64(255 << 56)
SHIFT = np.uint64(64 - 18)


class Words(NamedTuple):
    """The table (4 * SLOTS,) uint64, the bytes of long words, ids that do not fit, and how much of each is used."""

    table: Any
    letters: Any
    ids: Any
    used: Any


def new_words(n: int) -> Words:
    """n empty tables, one for each thread: each of the arrays has n rows. Memory is used only as it is filled."""
    table = np.zeros(4 * SLOTS * n + 7, np.uint64)
    first = -table.ctypes.data % 64 // 8  # no entry lies across two lines of the cache
    tables = table[first : first + 4 * SLOTS * n].reshape(n, -1)
    return Words(tables, np.empty((n, ARENA_BYTES), np.uint8), np.empty((n, ARENA_IDS), np.int32), np.zeros((n, 3), np.int64))


@inlined
def key_of(text, begin, length):
    """(two numbers that are the word's bytes and length, or its hash; where its entry should be)."""
    if length <= 8:
        low = eight_bytes(text, begin) & (ONES >> np.uint64(64 - 8 * length))
        high = np.uint64(length) << U56
    elif length <= INLINE:
        low = eight_bytes(text, begin)
        high = eight_bytes(text, begin + 8) & (ONES >> np.uint64(128 - 8 * length)) | np.uint64(length) << U56
    else:
        low, high = np.uint64(length), LONG_WORD
        for i in range(0, length - 7, 8):
            low = (low ^ eight_bytes(text, begin + i)) * MIX
            low ^= low >> U32
        low = (low ^ eight_bytes(text, begin + length - 8)) * MIX
    mixed = (low ^ high * MIX2) * MIX
    return low, high, (mixed ^ mixed >> U32) * MIX2 >> SHIFT << U2


@inlined
def same_long_word(words, high, text, begin, length):
    """Whether the long word of an entry is this one: byte by byte, since hashes may be equal by chance or by intent."""
    if high >> U56 != np.uint64(255) or np.int64(high >> U32 & np.uint64(0xFF)) != length:
        return False
    at = np.int64(high & LOW32)
    for i in range(length):
        if words.letters[at + i] != byte_at(text, begin + i):
            return False
    return True


@inlined
def find_word(words, text, begin, length, low, high, at):
    """(the place of the word's entry, True), or (that of the empty one where it should go, False)."""
    while True:
        kept = words.table[at + U1]
        if kept == high and words.table[at] == low:
            return at, True
        if kept == np.uint64(0):
            return at, False
        if length > INLINE and words.table[at] == low and same_long_word(words, kept, text, begin, length):
            return at, True
        at = (at + U4) & np.uint64(4 * SLOTS - 1)


@inlined
def forget_words(words):
    """Empty the table."""
    words.table[:] = np.uint64(0)
    words.used[:] = 0


@inlined
def keep_word(words, text, begin, length, ids, n, tag):
    """Make an entry for a new word and its n ids, with a tag of 16 bits. If there is no room, everything is forgotten first."""
    used = words.used
    if used[N_SLOTS] * 4 > SLOTS * 3 or used[N_BYTES] + length > ARENA_BYTES or used[N_IDS] + n > ARENA_IDS:
        forget_words(words)
    low, high, at = key_of(text, begin, length)
    at, known = find_word(words, text, begin, length, low, high, at)
    if length > INLINE:
        for i in range(length):
            words.letters[used[N_BYTES] + i] = byte_at(text, begin + i)
        high = LONG_WORD | np.uint64(length) << U32 | np.uint64(used[N_BYTES])
        used[N_BYTES] += length
    words.table[at], words.table[at + U1] = low, high
    if n <= 3:
        first = np.uint64(ids[0]) | (np.uint64(ids[1]) << U32 if n > 1 else np.uint64(0))
        second = np.uint64(n) << U32 | (np.uint64(ids[2]) if n > 2 else np.uint64(0))
    else:
        for i in range(n):
            words.ids[used[N_IDS] + i] = ids[i]
        first, second = np.uint64(used[N_IDS]), np.uint64(n) << U32
        used[N_IDS] += n
    second |= np.uint64(tag) << U48
    words.table[at + U2], words.table[at + U3] = first, second
    used[N_SLOTS] += 1


@inlined
def recall(words, at, out, n_out):
    """Write the ids of the entry at `at` to out[n_out:], which has room for three at least; returns the new n_out."""
    first, second = words.table[at + U2], words.table[at + U3]
    out[n_out], out[n_out + 1], out[n_out + 2] = np.int32(first), np.int32(first >> U32), np.int32(second)
    n = np.int64(second >> U32 & LOW16)
    if n > 3:
        place = np.int64(first)
        for here in range(n_out, n_out + n):
            out[here] = words.ids[place]
            place += 1
    return n_out + n
