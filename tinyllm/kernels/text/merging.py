"""Joining the bytes of one piece: of all neighbouring pairs the one of lowest rank, leftmost first, until no pair was learned.

Pairs are looked up in a table with open addressing: (left id, right id) -> rank and the id of what they make. A short piece
compares the ranks of all its pairs at every step. A long one (DNA has no spaces) keeps lists of the places of each rank, and the
ranks in a heap: near-linear, same answer.
Twins: `merge_by_search` and `merge_by_heap` in tokenizers/merging.py.
"""

from typing import Any, NamedTuple

import numpy as np

from tinyllm.kernels.jit import inlined, jit
from tinyllm.kernels.text.characters import MIX, MIX2, byte_at

SHORT = 64  # bytes
NO_PAIR, NO_RANK = np.int64(0x7FFFFFFFFFFFFFFF), np.int64(0x7FFFFFFF)
U1, U2, U32 = np.uint64(1), np.uint64(2), np.uint64(32)


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
def byte_symbols(text, begin, length, pairs, ids):
    """The ids of the bytes text[begin:begin + length], one by one."""
    for i in range(length):
        ids[i] = pairs.byte_ids[byte_at(text, begin + i)]


@inlined
def merge_short(ids, n, pairs, found):
    """Join the n symbols in ids; returns how many are left. found (n,): what each symbol makes with the next."""
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


class Places(NamedTuple):
    """Where pairs of each rank stand: a table with open addressing, rank -> a list of places, the newest first.

    ranks (P,) int32: rank + 1, 0 = empty; heads (P,): first entry of the list, -1 = none; begins, ends (P,): what is left of
    places that were sorted, in `merge_long`. place, following (3n,): the entries. heap (P,) int64: the ranks that have places.
    n: how many entries and ranks there are.
    """

    ranks: Any
    heads: Any
    begins: Any
    ends: Any
    place: Any
    following: Any
    heap: Any
    n: Any


@inlined
def slot_of(places, rank):
    """The slot of a rank, which is made if there is none yet."""
    mask = places.ranks.size - 1
    slot = (rank * 0x9E3779B1 >> 7) & mask
    while places.ranks[slot] != rank + 1:
        if places.ranks[slot] == 0:
            places.ranks[slot], places.heads[slot], places.ends[slot] = rank + 1, -1, 0
            break
        slot = (slot + 1) & mask
    return slot


@inlined
def note_pair(places, pairs, ids, left, right):
    """Note where the pair at `left` stands, if it was learned; returns its rank, NO_RANK if not."""
    found = look_up(pairs, ids[left], ids[right])
    if found == NO_PAIR:
        return NO_RANK
    rank, entry = found >> 32, places.n[0]
    slot = slot_of(places, rank)
    if places.heads[slot] < 0:
        places.n[1] = push(places.heap, places.n[1], rank)
    places.place[entry], places.following[entry], places.heads[slot] = left, places.heads[slot], entry
    places.n[0] += 1
    return rank


@inlined
def take_places(places, slot, line, n_line):
    """Move the list of a slot to line[n_line:], sorted; returns how long `line` is then."""
    entry, end = np.int64(places.heads[slot]), n_line
    while entry >= 0:
        line[end] = places.place[entry]
        end += 1
        entry = np.int64(places.following[entry])
    places.heads[slot] = -1
    line[n_line:end] = line[n_line:end][::-1].copy()
    for i in range(n_line + 1, end):
        if line[i - 1] > line[i]:
            line[n_line:end].sort()
            break
    return end


@jit
def merge_long(ids, length, pairs, out, n_out):
    """Join the symbols of a long piece in time near-linear in their number; they go to out[n_out:]. Returns the new n_out.

    All places of the lowest rank are joined from left to right, unless a join brings about a pair of lower rank, which then goes
    first. A place whose symbols have changed since it was noted is stale: its pair has another rank. No rank gets new places
    while it waits: what its joins lead to is longer than its token. So its places are sorted once.
    """
    n_slots = 64
    while n_slots < 4 * length and n_slots < pairs.table.size:
        n_slots *= 2
    following, previous = np.empty(length, np.int32), np.empty(length, np.int32)
    table = np.zeros(n_slots, np.int32), np.empty(n_slots, np.int32), np.empty(n_slots, np.int32), np.zeros(n_slots, np.int32)
    entries = np.empty(3 * length, np.int32), np.empty(3 * length, np.int32)
    places = Places(
        table[0], table[1], table[2], table[3], entries[0], entries[1], np.empty(n_slots, np.int64), np.zeros(2, np.int64)
    )
    line, n_line = np.empty(3 * length, np.int32), 0
    for k in range(length):
        following[k], previous[k] = k + 1, k - 1
    for left in range(length - 1):
        note_pair(places, pairs, ids, left, left + 1)
    while places.n[1] > 0:
        rank = places.heap[0]
        places.n[1] = pop(places.heap, places.n[1])
        slot = slot_of(places, rank)
        if places.ends[slot] > 0:
            here, end = places.begins[slot], places.ends[slot]
            places.ends[slot] = 0
        else:
            here, end = n_line, take_places(places, slot, line, n_line)
            n_line = end
        lowest = rank
        while here < end and lowest >= rank:
            i = np.int64(line[here])
            here += 1
            j = np.int64(following[i])
            if ids[i] < 0 or j >= length:
                continue
            found = look_up(pairs, ids[i], ids[j])
            if found == NO_PAIR or found >> 32 != rank:
                continue
            ids[i], ids[j] = np.int32(found & 0xFFFFFFFF), -1  # -1: swallowed, so places that start here are stale
            after, before = np.int64(following[j]), np.int64(previous[i])
            following[i] = after
            if before >= 0:
                lowest = min(lowest, note_pair(places, pairs, ids, before, i))
            if after < length:
                previous[after] = i
                lowest = min(lowest, note_pair(places, pairs, ids, i, after))
        if here < end:
            places.begins[slot], places.ends[slot] = here, end
            places.n[1] = push(places.heap, places.n[1], rank)
    first = np.int64(0)
    while first < length:
        out[n_out] = ids[first]
        n_out += 1
        first = np.int64(following[first])
    return n_out
