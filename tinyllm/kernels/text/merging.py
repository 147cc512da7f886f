"""Joining the bytes of one piece: of all neighbouring pairs the one of lowest rank, leftmost first, until no pair was learned.

Pairs are looked up in a table with open addressing: (left id, right id) -> rank and the id of what they make. A short piece
compares the ranks of all its pairs at every step. A long one (DNA has no spaces) keeps them in a heap, near-linear, same answer.
Twins: `merge_by_search` and `merge_by_heap` in tokenizers/bpe.py.
"""

from typing import Any, NamedTuple

import numpy as np

from tinyllm.kernels.jit import inlined, jit
from tinyllm.kernels.text.characters import byte_at

SHORT = 64  # bytes
NO_PAIR = np.int64(0x7FFFFFFFFFFFFFFF)
U1, U2, U32 = np.uint64(1), np.uint64(2), np.uint64(32)
MIX, MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


class Pairs(NamedTuple):
    """byte_ids (256,) int32; table (2P,) uint64, P a power of two: key, or 0 = empty, and rank << 32 | id, in turn."""

    byte_ids: Any
    table: Any


@inlined
def place_of(key, mask):
    """The place in the table where the search for `key` begins; mask: the places that there are, all even."""
    mixed = key * MIX
    return (mixed ^ mixed >> U32) * MIX2 >> U32 & mask


@inlined
def look_up(pairs, left, right):
    """rank << 32 | id of a pair, NO_PAIR if it was not learned."""
    key = (np.uint64(left) << U32 | np.uint64(right)) + U1
    mask = np.uint64(pairs.table.size - 2)
    at = place_of(key, mask)
    while pairs.table[at] != np.uint64(0):
        if pairs.table[at] == key:
            return np.int64(pairs.table[at + U1])
        at = (at + U2) & mask
    return NO_PAIR


@jit
def fill_pairs(lefts, rights, ranks, joined, table):
    """Put the pairs (n,) into an empty table; of equal pairs the last counts."""
    mask = np.uint64(table.size - 2)
    for i in range(lefts.size):
        key = (np.uint64(lefts[i]) << U32 | np.uint64(rights[i])) + U1
        at = place_of(key, mask)
        while table[at] != np.uint64(0) and table[at] != key:
            at = (at + U2) & mask
        table[at], table[at + U1] = key, np.uint64(ranks[i]) << U32 | np.uint64(joined[i])


@inlined
def merge_short(text, begin, length, pairs, ids, found):
    """Join text[begin:begin + length] into ids; returns how many. found (length,): what each symbol makes with the next."""
    n = length
    for i in range(n):
        ids[i] = pairs.byte_ids[byte_at(text, begin + i)]
    for i in range(n - 1):
        found[i] = look_up(pairs, ids[i], ids[i + 1])
    while n > 1:
        best = 0
        for i in range(1, n - 1):
            if found[i] >> 32 < found[best] >> 32:
                best = i
        if found[best] == NO_PAIR:
            break
        ids[best] = np.int32(found[best] & 0xFFFFFFFF)
        n -= 1
        for i in range(best + 1, n):
            ids[i], found[i - 1] = ids[i + 1], found[i]
        if best > 0:
            found[best - 1] = look_up(pairs, ids[best - 1], ids[best])
        if best < n - 1:
            found[best] = look_up(pairs, ids[best], ids[best + 1])
    return n


@inlined
def push(heap, n, value):
    """Add a value to a binary heap of n; returns n + 1."""
    at = n
    while at > 0 and heap[(at - 1) >> 1] > value:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = value
    return n + 1


@inlined
def pop(heap, n):
    """Take the smallest value, heap[0], out of a binary heap of n; returns n - 1."""
    n -= 1
    value, at = heap[n], 0
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = value
    return n


@jit
def merge_long(text, begin, length, pairs, out, n_out):
    """Join a long piece; its ids go to out[n_out:]. Returns the new n_out.

    heap: rank << 32 | place of the left symbol. A place whose symbols have changed since is stale: its pair has another rank.
    """
    ids, following, previous = np.empty(length, np.int32), np.empty(length, np.int32), np.empty(length, np.int32)
    heap, n = np.empty(3 * length, np.int64), 0
    for i in range(length):
        ids[i] = pairs.byte_ids[byte_at(text, begin + i)]
        following[i], previous[i] = i + 1, i - 1
    for i in range(length - 1):
        found = look_up(pairs, ids[i], ids[i + 1])
        if found != NO_PAIR:
            n = push(heap, n, found >> 32 << 32 | i)
    while n > 0:
        top = heap[0]
        n = pop(heap, n)
        i = top & 0xFFFFFFFF
        j = np.int64(following[i])
        if ids[i] < 0 or j >= length:
            continue
        found = look_up(pairs, ids[i], ids[j])
        if found >> 32 != top >> 32 or found == NO_PAIR:
            continue
        ids[i], ids[j] = np.int32(found & 0xFFFFFFFF), -1
        after, before = np.int64(following[j]), np.int64(previous[i])
        following[i] = after
        if after < length:
            previous[after] = i
            found = look_up(pairs, ids[i], ids[after])
            if found != NO_PAIR:
                n = push(heap, n, found >> 32 << 32 | i)
        if before >= 0:
            found = look_up(pairs, ids[before], ids[i])
            if found != NO_PAIR:
                n = push(heap, n, found >> 32 << 32 | before)
    here = np.int64(0)
    while here < length:
        out[n_out] = ids[here]
        n_out += 1
        here = np.int64(following[here])
    return n_out
