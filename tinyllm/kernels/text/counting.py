"""How often each distinct word occurs in texts: what all trainers begin with, and most of their time.

A text is cut as in encoding, and each word looked up in a table with open addressing that grows; an entry is three numbers of 64
bits: the word's bytes and length, or its hash and where its bytes lie (as in `words`), and its count. Each thread has a table of
its own. When the tables would grow past the memory that they may use, they are emptied into files, one for each sixteenth
of all hashes; in the end each file is counted by itself.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinyllm.kernels.jit import inlined, jit, max_threads, prange
from tinyllm.kernels.pointers import start, take_number, thread_count
from tinyllm.kernels.text.byte_pairs import BETWEEN, LINE_START, document_parts
from tinyllm.kernels.text.characters import END, MIX, MIX2, PADDING, WIDTH, byte_at, character, eight_bytes
from tinyllm.kernels.text.cuts import piece_end
from tinyllm.kernels.text.patterns import Cut
from tinyllm.kernels.text.plain_words import WORD_SEAM, greedy_word_end
from tinyllm.kernels.text.words import INLINE, LONG_WORD, U32, U56, key_of

PIECES, MARKED, PLAIN = 0, 1, 2  # words: as a pattern cuts; with the space before them; without spaces, punctuation apart
LINE_END, BLANKS, SINGLE = 1, 2, 4  # classes of characters, for MARKED
KINDS = (8, 16, 32, 128)  # the others: those of one kind may stand in one word (64 is END)
PART = 1 << 18  # bytes that a thread takes at a time
FIRST_SLOTS = 1 << 18
N_BUCKETS = 16
N_WORDS, N_BYTES = 0, 1  # places in `used`
U3 = np.uint64(3)
WHERE = np.uint64((1 << 56) - 1)


class Counts(NamedTuple):
    """slots (3S,) uint64, S a power of two; arena (A,) uint8: length (8 bytes) and bytes of each long word; used (2,)."""

    slots: Any
    arena: Any
    used: Any


@inlined
def place_of_word(low, high, mask):
    """The place in the table where the search begins."""
    mixed = (low ^ (LONG_WORD if high >= LONG_WORD else high) * MIX2) * MIX
    return ((mixed ^ mixed >> U32) * MIX2 >> U32 & mask) * U3


@inlined
def find_count(counts, text, begin, length, low, high):
    """(place of the word's entry, True), or (that of the empty one where it should go, False)."""
    mask = np.uint64(counts.slots.size // 3 - 1)
    at = place_of_word(low, high, mask)
    while counts.slots[at + np.uint64(1)] != np.uint64(0):
        kept = counts.slots[at + np.uint64(1)]
        if counts.slots[at] == low:
            if kept == high and length <= INLINE:
                return at, True
            if length > INLINE and kept >= LONG_WORD:
                where = np.int64(kept & WHERE)
                arena = start(counts.arena)
                same, i = np.int64(eight_bytes(arena, where)) == length, 0
                while same and i < length:
                    same = byte_at(arena, where + 8 + i) == byte_at(text, begin + i)
                    i += 1
                if same:
                    return at, True
        at += U3
        if at == np.uint64(counts.slots.size):
            at = np.uint64(0)
    return at, False


@inlined
def count_word(counts, text, begin, end, n):
    """Add n to the count of a word."""
    length = end - begin
    low, high, _ = key_of(text, begin, length)
    at, known = find_count(counts, text, begin, length, low, high)
    if not known:
        if length > INLINE:
            where = counts.used[N_BYTES]
            for i in range(8):
                counts.arena[where + i] = length >> 8 * i & 0xFF
            for i in range(length):
                counts.arena[where + 8 + i] = byte_at(text, begin + i)
            high = LONG_WORD | np.uint64(where)
            counts.used[N_BYTES] += length + 8
        counts.slots[at], counts.slots[at + np.uint64(1)] = low, high
        counts.used[N_WORDS] += 1
    counts.slots[at + np.uint64(2)] += np.uint64(n)


@inlined
def marked_word_end(text, i, n, classes):
    """The end of the word at i, or minus the place behind a line end. A word takes one space before it; of several, the last.

    Spaces at the end of a line are no word.
    """
    begin, here = i, character(text, i, n, classes)
    if here & LINE_END:
        return -(i + (here >> WIDTH))
    while here & BLANKS:
        i += 1
        here = character(text, i, n, classes)
    if here & (END | LINE_END):
        return -i
    if here & SINGLE and i > begin:
        return i
    if i > begin + 1:
        return i - 1
    kind = here & (8 | 16 | 32 | 128)
    i += here >> WIDTH
    if here & SINGLE:
        return i
    here = character(text, i, n, classes)
    while here & kind:
        i += here >> WIDTH
        here = character(text, i, n, classes)
    return i


@inlined
def has_room(counts, most):
    """Whether `most` more bytes of text find room, whatever words they hold."""
    enough = (counts.used[N_WORDS] + most // 2 + 256) * 4 <= counts.slots.size
    return enough and counts.used[N_BYTES] + most + most // 2 + 16 <= counts.arena.size


@jit(parallel=True)
def _count(text, parts, kind, rules, classes, slots, arena, used, done, most):
    """Count the words of the parts (P, 3) from number done[0] on, until a table might become too full for a part."""
    n_workers = min(thread_count(), parts.shape[0], slots.shape[0])
    for worker in prange(n_workers):
        own = Counts(slots[worker], arena[worker], used[worker])
        cut = Cut(rules[0], rules[1], rules[2], rules[3], rules[4], rules[5], rules[6])
        letters, table = start(text), start(classes)
        while has_room(own, most):
            part = take_number(done)
            if part >= parts.shape[0]:
                break
            i, end, n = parts[part, 0], parts[part, 1], parts[part, 2]
            while i < end:
                if kind == PIECES:
                    after = piece_end(letters, i, n, table, cut)
                elif kind == MARKED:
                    after = marked_word_end(letters, i, n, table)
                else:
                    after = greedy_word_end(letters, i, n, table)
                if after > 0:
                    count_word(own, letters, i, after, 1)
                i = abs(after)  # negative: no word, but what lies between two


@jit
def add_words(counts, letters, begins, numbers):
    """Add numbers[k] to the count of word k, letters[begins[k]:begins[k + 1] - 1]."""
    text = start(letters)
    for k in range(numbers.size):
        count_word(counts, text, begins[k], begins[k + 1] - 1, numbers[k])


@jit
def list_words(counts, bucket, letters, begins, numbers):
    """(words, bytes) of a bucket of the table, or of all for bucket -1. Written down if the arrays are not empty.

    letters: the words, a byte 0 behind each; begins (n + 1,): where each begins; numbers (n,): their counts.
    """
    n, place, arena = np.int64(0), np.int64(0), start(counts.arena)
    for slot in range(0, counts.slots.size, 3):
        low, high = counts.slots[slot], counts.slots[slot + 1]
        if high == np.uint64(0) or (bucket >= 0 and np.int64(low * MIX >> np.uint64(60)) != bucket):
            continue
        where = np.int64(high & WHERE)
        length = np.int64(high >> U56) if high < LONG_WORD else np.int64(eight_bytes(arena, where))
        if numbers.size:
            begins[n], numbers[n] = place, np.int64(counts.slots[slot + 2])
            for i in range(length):
                if high >= LONG_WORD:
                    letters[place + i] = byte_at(arena, where + 8 + i)
                else:
                    letters[place + i] = (low >> np.uint64(8 * i) if i < 8 else high >> np.uint64(8 * i - 64)) & np.uint64(0xFF)
            letters[place + length], begins[n + 1] = 0, place + length + 1
        n, place = n + 1, place + length + 1
    return n, place


Words = tuple[np.ndarray, np.ndarray, np.ndarray]
Room = Callable[[int, Any], np.ndarray]


class WordCounter:
    """Counts words of texts.

    kind    PIECES, MARKED or PLAIN; cut: the pattern, for PIECES; classes (0x110000,) uint8 of characters, as `kind` has them
    memory  bytes that the tables may take; what is more goes to files of the system's temporary folder. None: no limit
    """

    def __init__(self, kind: int, classes: np.ndarray, *, cut: Cut | None = None, memory: int | None = None):
        self.kind, self.classes, self.memory = kind, classes, memory
        self.rules = np.array(cut or Cut(), np.int64)
        self.seam = LINE_START if kind == PIECES else WORD_SEAM
        self.n_tables = max_threads()
        self.files: list[Any] = []
        self.n_spilled = np.zeros(2, np.int64)  # words and bytes, as if no word were in two tables
        self._empty(FIRST_SLOTS if memory is None else 1 << 14, 1 << 16)

    def _empty(self, n_slots: int, n_bytes: int) -> None:
        """Make empty tables of the given size, one for each thread."""
        self.slots = np.zeros((self.n_tables, 3 * n_slots), np.uint64)
        self.arena = np.empty((self.n_tables, n_bytes), np.uint8)
        self.used = np.zeros((self.n_tables, 2), np.int64)

    def _tables(self) -> list[Counts]:
        return [Counts(*one) for one in zip(self.slots, self.arena, self.used, strict=True)]

    def add(self, texts: list[bytes]) -> None:
        """Count the words of some texts."""
        text = np.frombuffer(BETWEEN.join([*texts, b""]), np.uint8)
        parts = np.array([part for parts in document_parts(texts, self.seam, PART) for part in parts], np.int64).reshape(-1, 3)
        most, done = int((parts[:, 1] - parts[:, 0]).max(initial=0)), np.zeros(1, np.int64)
        while done[0] < len(parts):
            self._make_room(most)
            _count(text, parts, self.kind, self.rules, self.classes, self.slots, self.arena, self.used, done, most)
            done[0] = min(done[0], len(parts))

    def _make_room(self, most: int) -> None:
        """Let every table have room for `most` bytes more: larger tables, or emptied ones where memory is limited."""
        n_slots, n_bytes = self.slots.shape[1] // 3, self.arena.shape[1]
        words, letters = int(self.used[:, N_WORDS].max()), int(self.used[:, N_BYTES].max())
        while (words + most // 2 + 256) * 4 > 3 * n_slots:
            n_slots *= 2
        while letters + most + most // 2 + 16 > n_bytes:
            n_bytes *= 2
        if (n_slots, n_bytes) == (self.slots.shape[1] // 3, self.arena.shape[1]):
            return
        if self.memory is not None and self.n_tables * (24 * n_slots + n_bytes) > self.memory and words:
            self._spill()
            self._make_room(most)
            return
        old = [_list(one) for one in self._tables()]
        self._empty(n_slots, n_bytes)
        for table, words_of_it in zip(self._tables(), old, strict=True):
            add_words(table, *words_of_it)

    def _spill(self) -> None:
        """Empty the tables into files."""
        self.files = self.files or [tempfile.TemporaryFile() for _ in range(N_BUCKETS)]
        for table in self._tables():
            for bucket, file in enumerate(self.files):
                own = _list(table, bucket)
                self.n_spilled += len(own[2]), len(own[0]) - PADDING
                for array in own:
                    np.save(file, array)
        self.slots[:], self.used[:] = 0, 0

    def words(self, room: Room = np.empty) -> Words:
        """All words counted so far, in no order; the counter is used up. room(n, dtype): makes an array.

        letters (N + PADDING,) uint8: the words, a byte 0 behind each; begins (n + 1,) int64; counts (n,) int64.
        """
        if not self.files:
            return _together([_list(one) for one in self._tables()])
        self._spill()
        self._empty(1, 1)
        most, size = self.n_spilled.tolist()
        letters, begins, counts = room(size + PADDING, np.uint8), room(most + 1, np.int64), room(most, np.int64)
        place, n, begins[0] = 0, 0, 0
        for file in self.files:
            own_letters, own_begins, own_counts = _together(_read(file))
            letters[place : place + len(own_letters)] = own_letters
            begins[n + 1 : n + len(own_begins)] = own_begins[1:] + place
            counts[n : n + len(own_counts)] = own_counts
            place, n = int(begins[n + len(own_counts)]), n + len(own_counts)
        return letters[: place + PADDING], begins[: n + 1], counts[:n]


def _read(file: Any) -> Iterator[Words]:
    """The lists of words that a file holds, one by one; then it is closed."""
    end = file.tell()
    file.seek(0)
    while file.tell() < end:
        yield np.load(file), np.load(file), np.load(file)
    file.close()


def _together(found: Iterable[Words]) -> Words:
    """One list of several, in which each word stands once."""
    table = _table(1 << 10, 1 << 12)
    for letters, begins, counts in found:
        words, n_bytes = table.used[N_WORDS] + len(counts), table.used[N_BYTES] + len(letters) + 8 * len(counts)
        if 3 * words > table.slots.size // 2 or n_bytes > table.arena.size:
            old, table = _list(table), _table(2 * int(words), 2 * int(n_bytes))
            add_words(table, *old)
        add_words(table, letters, begins, counts)
    return _list(table)


def _table(n_words: int, n_bytes: int) -> Counts:
    """An empty table, half full with so many words."""
    n_slots = 1 << (2 * n_words).bit_length()
    return Counts(np.zeros(3 * n_slots, np.uint64), np.empty(n_bytes + PADDING, np.uint8), np.zeros(2, np.int64))


def _list(table: Counts, bucket: int = -1) -> Words:
    """The words of a table, or of a bucket of it."""
    n, size = list_words(table, bucket, np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64))
    words = np.zeros(size + PADDING, np.uint8), np.zeros(n + 1, np.int64), np.empty(n, np.int64)
    if n:
        list_words(table, bucket, *words)
    return words
