"""Batches of conversations: many short texts of different lengths in rectangles, with little padding.

PackedConversations   several conversations a row, one after the other, until block_size is full: hardly any padding
PaddedConversations   one conversation a row; rows of like length share a batch, trimmed to its longest

Packing is bin packing: conversations are put, longest first, into the row with the least room that still holds them
(best-fit decreasing; Ding et al. 2024, "Fewer Truncations Improve Language Modeling"). None is ever cut: half an answer
teaches the wrong ending. Packed neighbours can see what stands before them in the row, as documents can in pre-training;
each begins with <|endoftext|>, from which a model learns to look no further back. Where that must not be, pad.
The loss mask counts a target only if the assistant says it. Every epoch each conversation comes exactly once, in a new order.
"""

import zlib
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyllm.data.batches import Batch, Epochs, check_identity

Encoded = Sequence[tuple[Sequence[int], Sequence[bool]]]  # (ids, loss mask) of each conversation, as ChatFormat.encode gives them
WINDOW = 16  # batches' worth of shuffled conversations that are sorted by length together


class _Conversations:
    """What both sources share: which conversations are fit to learn from, the epochs, the state."""

    def __init__(self, encoded: Encoded, *, batch_size: int, block_size: int, rng: np.random.Generator):
        if batch_size < 1 or block_size < 1:
            raise ValueError(f"batch_size and block_size must be at least 1, got {batch_size} and {block_size}")
        self.batch_size, self.block_size = batch_size, block_size
        self.conversations, reasons = _fit_for_learning(encoded, block_size)
        self.n_skipped = reasons.total()
        self.skipped = ""  # how many were left out and why, in words
        if reasons:
            why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            self.skipped = f"{self.n_skipped:,} of {len(encoded):,} conversations skipped: {why}"
        if not self.conversations:
            raise ValueError(f"encoded: nothing to learn from; {self.skipped or 'there are no conversations'}")
        self._lengths = np.array([len(ids) for ids, _ in self.conversations])
        self.epochs = Epochs(self._make_plan, rng=rng)
        self._crc32 = _checksum(self.conversations)

    def _make_plan(self, rng: np.random.Generator) -> list[list[list[int]]]:
        """One epoch in a new random order: batches of rows of conversation indices."""
        raise TypeError(f"{type(self).__name__} does not say how it makes its batches")

    @property
    def batches_per_epoch(self) -> int:
        """The number of batches in the current epoch."""
        return len(self.epochs.order)

    def next_batch(self) -> Batch:
        """The next batch of at most batch_size rows; after the last of an epoch, the first of the next."""
        (rows,) = self.epochs.take(1)
        return self._batch([[self.conversations[i] for i in row] for row in rows])

    def _batch(self, rows: list[list[tuple[np.ndarray, np.ndarray]]]) -> Batch:
        return make_batch(rows)

    def state(self) -> dict[str, Any]:
        """Where the epoch stands, and the identity of the data."""
        return {**self._identity(), **self.epochs.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; ValueError if it was taken with other conversations or other sizes."""
        check_identity(self._identity(), state)
        self.epochs.restore(state)

    def _identity(self) -> dict[str, Any]:
        sizes = {"batch_size": self.batch_size, "block_size": self.block_size}
        return {"kind": type(self).__name__, **sizes, "n": len(self.conversations), "crc32": self._crc32}


class PackedConversations(_Conversations):
    """Batches (B, block_size) whose rows hold several conversations each. B differs by at most one within an epoch.

    encoded  (ids, loss mask) of each conversation; one with more than block_size + 1 ids (its targets would not fit), or in
             which nothing counts, is left out and counted in `n_skipped`; `skipped` says so in words
    rng      draws the order of each epoch. ValueError if no conversation is left.
    """

    def _make_plan(self, rng: np.random.Generator) -> list[list[list[int]]]:
        shuffled = rng.permutation(len(self._lengths))
        packed = pack(self._lengths[shuffled], self.block_size + 1)
        rows = [[int(shuffled[i]) for i in row] for row in packed]
        rows = [rows[i] for i in rng.permutation(len(rows))]
        return [rows[a:b] for a, b in _even_parts(len(rows), self.batch_size)]

    def _batch(self, rows: list[list[tuple[np.ndarray, np.ndarray]]]) -> Batch:
        return make_batch(rows, length=self.block_size)


class PaddedConversations(_Conversations):
    """Batches (B, T) of one conversation a row, T the longest of the batch. Arguments as in PackedConversations."""

    def _make_plan(self, rng: np.random.Generator) -> list[list[list[int]]]:
        shuffled = rng.permutation(len(self._lengths))
        batches = []
        for first in range(0, len(shuffled), WINDOW * self.batch_size):
            window = shuffled[first : first + WINDOW * self.batch_size]
            by_length = window[np.argsort(self._lengths[window], kind="stable")]
            batches += [[[int(i)] for i in by_length[a:b]] for a, b in _even_parts(len(by_length), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


def conversation_batches(encoded: Encoded, *, batch_size: int, block_size: int) -> list[Batch]:
    """Each conversation once, the same batches every time, for measuring a loss: one a row, sorted by length.

    What does not fit or does not count is left out as in the sources. ValueError if nothing is left.
    """
    one = PaddedConversations(encoded, batch_size=batch_size, block_size=block_size, rng=np.random.default_rng(0))
    order = np.argsort(one._lengths, kind="stable")
    parts = _even_parts(len(order), batch_size)
    return [make_batch([[one.conversations[i]] for i in order[a:b]]) for a, b in parts]


def pack(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Rows of indices into `lengths`, each row's lengths adding up to at most `capacity`: best-fit decreasing.

    Of equal lengths the earlier index goes first. ValueError if one alone exceeds the capacity.
    """
    if len(lengths) and max(lengths) > capacity:
        raise ValueError(f"lengths: got {max(lengths)}, expected at most the capacity, {capacity}")
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = defaultdict(list)  # room left -> rows with that room
    rooms: list[int] = []  # the rooms for which there is a row, sorted
    for index in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        length = int(lengths[index])
        place = bisect_left(rooms, length)
        if place == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[place]
            row = with_room[room].pop()
            if not with_room[room]:
                rooms.pop(place)
        rows[row].append(index)
        left = room - length
        if not with_room[left]:
            insort(rooms, left)
        with_room[left].append(row)
    return rows


def make_batch(rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], *, length: int | None = None) -> Batch:
    """Rows of (ids, loss mask) conversations -> Batch (B, length): targets one step ahead, id 0 and loss mask False on the right.

    length: the longest row's by default. A row's first id, and that of each conversation in it, is never a target.
    """
    if length is None:
        length = max(sum(len(ids) for ids, _ in row) for row in rows) - 1
    ids = np.zeros((len(rows), length + 1), dtype=np.int64)
    mask = np.zeros((len(rows), length + 1), dtype=bool)
    for i, row in enumerate(rows):
        start = 0
        for own_ids, own_mask in row:
            end = start + len(own_ids)
            ids[i, start:end], mask[i, start + 1 : end] = own_ids, own_mask[1:]
            start = end
    return Batch(*(np.ascontiguousarray(array) for array in (ids[:, :-1], ids[:, 1:], mask[:, 1:])))


def _fit_for_learning(encoded: Encoded, block_size: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], Counter[str]]:
    """The conversations that can be learned from, as arrays, and how many cannot, by reason. ValueError names a broken one."""
    kept, reasons = [], Counter[str]()
    for i, (ids, mask) in enumerate(encoded):
        own_ids, own_mask = np.asarray(ids), np.asarray(mask)
        if own_ids.ndim != 1 or own_ids.shape != own_mask.shape or own_mask.dtype != np.bool_:
            found = f"shapes {own_ids.shape} and {own_mask.shape}, mask of {own_mask.dtype}"
            raise ValueError(f"encoded[{i}]: expected ids and a bool mask of one length, got {found}")
        if len(own_ids) and own_ids.dtype.kind not in "iu":
            raise ValueError(f"encoded[{i}]: expected whole numbers as ids, got {own_ids.dtype}")
        if len(own_ids) > block_size + 1:
            reasons[f"longer than block_size {block_size}"] += 1
        elif not own_mask[1:].any():
            reasons["without an answer of the assistant"] += 1
        else:
            kept.append((own_ids.astype(np.int64), own_mask))
    return kept, reasons


def _even_parts(n: int, at_most: int) -> list[tuple[int, int]]:
    """(start, end) of the fewest parts of n items with at most so many in each, their sizes differing by at most one."""
    n_parts = -(-n // at_most)
    edges = [i * n // n_parts for i in range(n_parts + 1)]
    return list(zip(edges, edges[1:], strict=False))


def _checksum(conversations: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    """CRC-32 over all ids and masks, and where each ends."""
    crc32 = 0
    for ids, mask in conversations:
        crc32 = zlib.crc32(mask.tobytes(), zlib.crc32(ids.tobytes(), crc32))
    return crc32
