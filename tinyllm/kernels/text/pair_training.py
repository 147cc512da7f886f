"""Learning merges: of all neighbouring pairs the best becomes a new token, again and again.

The distinct words lie end to end in one row of symbols. A token is written at its first place and at its last, so that both
neighbours of a token are found from its length alone. For each pair there is its count and a list of the places where it
stands; a merge visits these places only. Pairs of the new token come about in that one visit, so their lists are made whole, in
order; from then on a pair can only become rarer: a heap whose counts may be out of date is corrected when they come up.
Twin: `learn_pairs_slowly` in tokenizers/pair_training.py.
"""

from typing import Any, NamedTuple

import numpy as np

from tinyllm.kernels.jit import inlined, jit
from tinyllm.kernels.text.characters import MIX, MIX2
from tinyllm.kernels.text.merging import U32

NOBODY, SWALLOWED = -1, -2  # symbols: between two words; the first place of a token that the one before has taken in
N_TOKENS, N_PAIRS, N_HEAP, N_ARENA, N_MERGES = 0, 1, 2, 3, 4  # places in `used`
DONE, NO_ROOM = -1, -2
FIRST_ROOM = 1 << 16  # pairs


class Row(NamedTuple):
    """The words. symbols (N,) int32, NOBODY at both ends and between words; weights (N,) int64: how often the word occurs.

    lengths (T,) int32 and totals (T,) int64: of each token, in symbols, and how often it occurs.
    """

    symbols: Any
    weights: Any
    lengths: Any
    totals: Any


class PairLists(NamedTuple):
    """All pairs that were ever frequent enough.

    slots (S,) int32: table with open addressing of pair + 1, 0 = empty. sides (P, 2) int32, counts (P,) int64; begins, sizes
    (P,): the places in arena where it stands. heap (P,) int32 of pairs, seen (P,): the counts they had when they came into it.
    used: how much of each there is.
    """

    slots: Any
    sides: Any
    counts: Any
    begins: Any
    sizes: Any
    arena: Any
    heap: Any
    seen: Any
    used: Any


class Changes(NamedTuple):
    """What a merge changes, by neighbour (T,): lost counts, new counts, new places; and the neighbours touched on each side."""

    lost: Any
    gained: Any
    places: Any
    touched: Any


@inlined
def slot_of_pair(pairs, left, right):
    """(slot, pair) of a pair in the table; (the empty slot where it should go, -1) if it is not there."""
    mask = np.int64(pairs.slots.size - 1)
    mixed = (np.uint64(left) << U32 | np.uint64(right)) * MIX
    slot = np.int64((mixed ^ mixed >> U32) * MIX2 >> U32) & mask
    while pairs.slots[slot] != 0:
        pair = pairs.slots[slot] - 1
        if pairs.sides[pair, 0] == left and pairs.sides[pair, 1] == right:
            return slot, np.int64(pair)
        slot = (slot + 1) & mask
    return slot, np.int64(-1)


@inlined
def add_pair(pairs, left, right, count):
    """Make an entry for a new pair; returns its number."""
    slot, _ = slot_of_pair(pairs, left, right)
    pair = pairs.used[N_PAIRS]
    pairs.sides[pair, 0], pairs.sides[pair, 1], pairs.counts[pair] = left, right, count
    pairs.sizes[pair], pairs.slots[slot] = 0, pair + 1
    pairs.used[N_PAIRS] += 1
    return pair


@inlined
def comes_first(pairs, a, a_count, b, b_count):
    """Whether pair a goes before pair b: the higher count, then the smaller left id, then the smaller right id."""
    if a_count != b_count:
        return a_count > b_count
    if pairs.sides[a, 0] != pairs.sides[b, 0]:
        return pairs.sides[a, 0] < pairs.sides[b, 0]
    return pairs.sides[a, 1] < pairs.sides[b, 1]


@inlined
def sift_down(pairs, at, n):
    """Let the entry at `at` sink in a heap of n to where it belongs."""
    heap, seen = pairs.heap, pairs.seen
    pair, count = heap[at], seen[at]
    while 2 * at + 1 < n:
        child = 2 * at + 1
        if child + 1 < n and comes_first(pairs, heap[child + 1], seen[child + 1], heap[child], seen[child]):
            child += 1
        if not comes_first(pairs, heap[child], seen[child], pair, count):
            break
        heap[at], seen[at] = heap[child], seen[child]
        at = child
    heap[at], seen[at] = pair, count


@inlined
def push_pair(pairs, pair):
    """Put a pair into the heap."""
    at, count = pairs.used[N_HEAP], pairs.counts[pair]
    while at > 0 and comes_first(pairs, pair, count, pairs.heap[(at - 1) >> 1], pairs.seen[(at - 1) >> 1]):
        pairs.heap[at], pairs.seen[at] = pairs.heap[(at - 1) >> 1], pairs.seen[(at - 1) >> 1]
        at = (at - 1) >> 1
    pairs.heap[at], pairs.seen[at] = pair, count
    pairs.used[N_HEAP] += 1


@jit
def fill_slots(pairs):
    """Enter all pairs into an empty table."""
    mask = np.int64(pairs.slots.size - 1)
    for pair in range(pairs.used[N_PAIRS]):
        slot, _ = slot_of_pair(pairs, pairs.sides[pair, 0], pairs.sides[pair, 1])
        pairs.slots[slot & mask] = pair + 1


@jit
def count_pairs(row, pairs, begin):
    """Count the pairs of single symbols from place `begin` on; returns where it stopped because the table is full, or N."""
    symbols = row.symbols
    most = min(pairs.sides.shape[0], pairs.slots.size * 3 // 4)
    for i in range(begin, symbols.size - 1):
        if symbols[i] >= 0 and symbols[i + 1] >= 0:
            _, pair = slot_of_pair(pairs, symbols[i], symbols[i + 1])
            if pair < 0:
                if pairs.used[N_PAIRS] >= most:
                    return i
                pair = add_pair(pairs, symbols[i], symbols[i + 1], 0)
            pairs.counts[pair] += row.weights[i]
            pairs.sizes[pair] += 1
    return symbols.size


@jit
def list_pairs(row, pairs, least):
    """Write down where each pair stands that occurs `least` times, and put it into the heap; forget the others."""
    symbols, n = row.symbols, 0
    for pair in range(pairs.used[N_PAIRS]):
        if pairs.counts[pair] >= least:
            pairs.sides[n], pairs.counts[n], pairs.sizes[n] = pairs.sides[pair], pairs.counts[pair], pairs.sizes[pair]
            n += 1
    pairs.used[N_PAIRS], pairs.slots[:] = n, 0
    for pair in range(n):
        slot, _ = slot_of_pair(pairs, pairs.sides[pair, 0], pairs.sides[pair, 1])
        pairs.slots[slot] = pair + 1
        pairs.begins[pair] = pairs.used[N_ARENA]
        pairs.used[N_ARENA] += pairs.sizes[pair]
        pairs.sizes[pair] = 0
    for i in range(symbols.size - 1):
        if symbols[i] >= 0 and symbols[i + 1] >= 0:
            _, pair = slot_of_pair(pairs, symbols[i], symbols[i + 1])
            if pair >= 0:
                pairs.arena[pairs.begins[pair] + pairs.sizes[pair]] = i
                pairs.sizes[pair] += 1
    for pair in range(n):
        push_pair(pairs, pair)
    for i in range(symbols.size):
        if symbols[i] >= 0:
            row.totals[symbols[i]] += row.weights[i]


@inlined
def touch(changes, side, n, x):
    """Note that neighbour x is touched on one side; n: how many are. Returns the new n."""
    if changes.lost[side, x] == 0 and changes.gained[side, x] == 0:
        changes.touched[side, n] = x
        return n + 1
    return n


@inlined
def join_places(row, pairs, pair, joined, changes):
    """Join a pair wherever it stands, left to right. Returns (how many places, neighbours touched before, after).

    The places go to the front of the pair's list. What its neighbours lose and gain goes to `changes`.
    """
    symbols, arena = row.symbols, pairs.arena
    left, right, begin = pairs.sides[pair, 0], pairs.sides[pair, 1], pairs.begins[pair]
    n_left, n_right = row.lengths[left], row.lengths[right]
    n, n_before, n_after, total = 0, 0, 0, 0
    for k in range(begin, begin + pairs.sizes[pair]):
        i = np.int64(arena[k])
        j = i + n_left
        if symbols[i] != left or symbols[j] != right:  # it had gone from here meanwhile
            continue
        after, weight = j + n_right, row.weights[i]
        x, y = symbols[i - 1], symbols[after]
        symbols[j] = SWALLOWED
        symbols[i], symbols[after - 1] = joined, joined
        if x >= 0 and x != joined:  # what stands before a place just joined was counted there
            n_before = touch(changes, 0, n_before, x)
            changes.lost[0, x] += weight
        if y >= 0:
            n_after = touch(changes, 1, n_after, y)
            changes.lost[1, y] += weight
        arena[begin + n] = i
        n, total = n + 1, total + weight
    row.totals[left] -= total
    row.totals[right] -= total
    row.totals[joined] = total
    length = n_left + n_right
    for k in range(begin, begin + n):
        i = np.int64(arena[k])
        x, y, weight = symbols[i - 1], symbols[i + length], row.weights[i]
        if x >= 0 and x != joined:
            n_before = touch(changes, 0, n_before, x)
            changes.gained[0, x] += weight
            changes.places[0, x] += 1
        if y >= 0:
            n_after = touch(changes, 1, n_after, y)
            changes.gained[1, y] += weight
            changes.places[1, y] += 1
    return n, n_before, n_after


@inlined
def note_changes(pairs, pair, joined, changes, side, n, least):
    """Correct the counts of the pairs that a merge broke up on one side, and make those that have come about."""
    inner = pairs.sides[pair, side]
    for k in range(n):
        x = changes.touched[side, k]
        _, old = slot_of_pair(pairs, x, inner) if side == 0 else slot_of_pair(pairs, inner, x)
        if old >= 0:
            pairs.counts[old] -= changes.lost[side, x]
        if changes.gained[side, x] >= least:
            count = changes.gained[side, x]
            new = add_pair(pairs, x, joined, count) if side == 0 else add_pair(pairs, joined, x, count)
            pairs.begins[new] = pairs.used[N_ARENA]
            pairs.used[N_ARENA] += changes.places[side, x]
            push_pair(pairs, new)
            changes.places[side, x] = new
        else:
            changes.places[side, x] = -1
        changes.lost[side, x], changes.gained[side, x] = 0, 0


@inlined
def list_new_pairs(row, pairs, pair, joined, n, changes):
    """Write down where the pairs of a new token stand, which were made by `note_changes`."""
    symbols, arena, begin, length = row.symbols, pairs.arena, pairs.begins[pair], row.lengths[joined]
    for k in range(begin, begin + n):
        i = np.int64(arena[k])
        x, y = symbols[i - 1], symbols[i + length]
        if x >= 0 and x != joined and changes.places[0, x] >= 0:
            new = changes.places[0, x]
            arena[pairs.begins[new] + pairs.sizes[new]] = i - row.lengths[x]
            pairs.sizes[new] += 1
        if y >= 0 and changes.places[1, y] >= 0:
            new = changes.places[1, y]
            arena[pairs.begins[new] + pairs.sizes[new]] = i
            pairs.sizes[new] += 1


@inlined
def merge(row, pairs, pair, changes, least):
    """Make a new token of a pair; returns its id."""
    joined = pairs.used[N_TOKENS]
    pairs.used[N_TOKENS] += 1
    row.lengths[joined] = row.lengths[pairs.sides[pair, 0]] + row.lengths[pairs.sides[pair, 1]]
    n, n_before, n_after = join_places(row, pairs, pair, joined, changes)
    note_changes(pairs, pair, joined, changes, 0, n_before, least)
    note_changes(pairs, pair, joined, changes, 1, n_after, least)
    list_new_pairs(row, pairs, pair, joined, n, changes)
    for side in range(2):
        for k in range(n_before if side == 0 else n_after):
            changes.places[side, changes.touched[side, k]] = 0
    pairs.counts[pair] = 0
    return joined


@inlined
def most_frequent(pairs, least):
    """The pair with the highest count; DONE if none occurs `least` times. It stays at the top of the heap."""
    while pairs.used[N_HEAP] > 0:
        pair = np.int64(pairs.heap[0])
        count, n = pairs.counts[pair], pairs.used[N_HEAP]
        if count == pairs.seen[0] and count >= least:
            return pair
        if count < least:
            n -= 1
            pairs.heap[0], pairs.seen[0], pairs.used[N_HEAP] = pairs.heap[n], pairs.seen[n], n
        else:
            pairs.seen[0] = count
        if n > 0:
            sift_down(pairs, 0, n)
    return np.int64(DONE)


@inlined
def most_likely(row, pairs, least):
    """The pair with the highest count(ab) / (count(a) count(b)); DONE if none occurs `least` times."""
    best, best_score, n = np.int64(DONE), 0.0, 0
    for k in range(pairs.used[N_HEAP]):
        pair = np.int64(pairs.heap[k])
        count = pairs.counts[pair]
        if count < least:
            continue
        pairs.heap[n] = pair  # here no heap, but a list of those that are left
        n += 1
        left, right = pairs.sides[pair, 0], pairs.sides[pair, 1]
        score = np.float64(count) / (np.float64(row.totals[left]) * np.float64(row.totals[right]))
        if best < 0 or score > best_score or (score == best_score and comes_first(pairs, pair, count, best, pairs.counts[best])):
            best, best_score = pair, score
    pairs.used[N_HEAP] = n
    return best


@jit(in_order=True)
def merge_some(row, pairs, changes, merges, n_merges, least, by_likelihood):
    """Learn merges until there are `n_merges`; merges (M, 2) int32, counts of each. Returns DONE, or NO_ROOM for more pairs."""
    most = min(pairs.sides.shape[0], pairs.slots.size * 3 // 4)
    while pairs.used[N_MERGES] < n_merges:
        pair = most_likely(row, pairs, least) if by_likelihood else most_frequent(pairs, least)
        if pair < 0:
            return DONE
        if pairs.used[N_PAIRS] + 2 * min(pairs.sizes[pair], pairs.used[N_TOKENS] + 1) > most:
            return NO_ROOM
        n = pairs.used[N_MERGES]
        merges[n, 0], merges[n, 1] = pairs.sides[pair, 0], pairs.sides[pair, 1]
        pairs.used[N_MERGES] = n + 1
        merge(row, pairs, pair, changes, least)
    return n_merges


class PairLearner:
    """Words as symbols, ready to be merged.

    symbols  (N,) int32 ids below n_symbols, -1 before, between and behind the words
    weights  (N,) int64: how often the word of each symbol occurs
    """

    def __init__(
        self, symbols: np.ndarray, weights: np.ndarray, *, n_symbols: int, n_merges: int, least: int, room: Any = np.empty
    ):
        self.room = room
        n_tokens = n_symbols + n_merges
        lengths = np.ones(n_tokens, np.int32)
        self.row = Row(symbols, weights, lengths, np.zeros(n_tokens, np.int64))
        self.merges, self.n_merges, self.least = np.empty((n_merges, 2), np.int32), n_merges, least
        lost, gained, places = (np.zeros((2, n_tokens), np.int64) for _ in range(3))
        self.changes = Changes(lost, gained, places, np.zeros((2, n_tokens), np.int32))
        used = np.zeros(5, np.int64)
        used[N_TOKENS] = n_symbols
        self.pairs = self._with_room(FIRST_ROOM, room(3 * len(symbols), np.int32), used)
        begin = 0
        while (begin := count_pairs(self.row, self.pairs, begin)) < len(symbols):
            self.grow()
        list_pairs(self.row, self.pairs, least)

    def _with_room(self, n: int, arena: np.ndarray, used: np.ndarray) -> PairLists:
        """Empty lists for n pairs."""
        counts, begins, sizes, seen = (self.room(n, np.int64) for _ in range(4))
        slots, sides, heap = self.room(2 * n, np.int32), self.room(2 * n, np.int32).reshape(n, 2), self.room(n, np.int32)
        slots[:] = 0
        return PairLists(slots, sides, counts, begins, sizes, arena, heap, seen, used)

    def grow(self) -> None:
        """Twice the room for pairs."""
        old = self.pairs
        n = len(old.counts)
        self.pairs = self._with_room(2 * n, old.arena, old.used)
        for name in ("sides", "counts", "begins", "sizes", "heap", "seen"):
            getattr(self.pairs, name)[:n] = getattr(old, name)
        fill_slots(self.pairs)

    def learn(self, n: int, *, by_likelihood: bool = False) -> np.ndarray:
        """The first n merges (n, 2), left and right id; fewer if no other pair occurs often enough."""
        n = min(n, self.n_merges)
        while merge_some(self.row, self.pairs, self.changes, self.merges, n, self.least, by_likelihood) == NO_ROOM:
            self.grow()
        return self.merges[: int(self.pairs.used[N_MERGES])]
