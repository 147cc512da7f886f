"""Who may see whom in attention: one small object, made once a batch and handed through all blocks down to the kernels.

    causal mask      window = 3       prefix = 2       end to end, lengths 2 and 3        key s →
    1 . . . .        1 . . . .        1 1 . . .        1 . . . .                       query t
    1 1 . . .        1 1 . . .        1 1 . . .        1 1 . . .                         ↓
    1 1 1 . .        1 1 1 . .        1 1 1 . .        . . 1 . .
    1 1 1 1 .        . 1 1 1 .        1 1 1 1 .        . . 1 1 .
    1 1 1 1 1        . . 1 1 1        1 1 1 1 1        . . 1 1 1

In each of them a query sees one unbroken run of keys; only padding (`key_mask`) makes holes. The
kernels need no more than that to leave out whole tiles of scores that nobody would look at.
Causal: Vaswani et al. 2017, section 3.2.3; window: Beltagy et al. 2020 (Longformer), Jiang et al. 2023 (Mistral 7B), section 2;
prefix: Raffel et al. 2020 (T5), figure 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np


def causal_mask(n_queries: int, n_keys: int) -> np.ndarray:
    """(T, S) bool: query t sees keys s <= t + S - T, that is, nothing that comes later in the text. T = 3, S = 5:

        s 0 1 2 3 4
    t 0   1 1 1 . .        position 2 of the text
    t 1   1 1 1 1 .
    t 2   1 1 1 1 1
    """
    return np.arange(n_keys) <= np.arange(n_queries)[:, None] + (n_keys - n_queries)


class Places(NamedTuple):
    """Where the sequences of a batch lie; each row of a rectangular batch begins at 0 of its own."""

    sequences: np.ndarray  # (B, 5): first query, queries, first key, keys, prefix
    n_queries: int  # the most that a sequence has
    n_keys: int


@dataclass(frozen=True, eq=False)
class Visibility:
    """Which keys each query may attend to. The queries are the last T of the S positions that the keys have.

    causal     position t sees nothing that comes later
    window     it sees the last `window` positions only, itself included; with causal
    prefix     (B,) whole numbers: the first of each sequence's keys that everybody in it sees, later or not; with causal
    key_mask   (B, S) bool, False = padding, seen by nobody
    sequences  (B, 4): the arrays are (1, N, ...) and hold B sequences one behind the other; each one's first query, number of
               queries, first key, number of keys. Each gives the same bits whatever the others are
    read       (N,) bool: only these positions ask; the last of each sequence. For layers: they leave out the other queries
    cached     the keys are those of a cache: a step of generation, whose few queries are computed in the way that reads fastest
    """

    causal: bool = False
    window: int | None = None
    prefix: np.ndarray | None = None
    key_mask: np.ndarray | None = None
    sequences: np.ndarray | None = None
    read: np.ndarray | None = None
    cached: bool = False
    _found: list[tuple[tuple[int, int, int], Places]] = field(default_factory=list, init=False, repr=False)  # the last answer

    def __post_init__(self) -> None:
        if self.window is not None and (isinstance(self.window, bool) or self.window != int(self.window) or self.window < 1):
            raise ValueError(f"window is {self.window!r}; expected a whole number of at least 1, or None")
        if not self.causal and (self.window is not None or self.prefix is not None):
            raise ValueError("a window and a prefix are said of causal attention; give causal=True, or leave them out")
        if self.key_mask is not None and self.sequences is not None:
            raise ValueError("key_mask came with sequences end to end, among which there is no padding; leave one of them out")

    def within(self, window: int | None) -> Visibility:
        """The same, but that nobody sees more than the last `window` positions (None: as it is)."""
        return self if window is None else replace(self, window=window)

    def places(self, query: np.ndarray, key: np.ndarray) -> Places:
        """Where each sequence lies in query (B, T, H, D) and key (B, S, G, D). ValueError unless this is said of them.

        Found once for all layers of a batch.
        """
        shapes = *query.shape[:2], key.shape[1]
        for known, places in self._found.copy():
            if known == shapes:
                return places
        self._check(*shapes)
        places = self._places(*shapes)
        self._found[:] = [(shapes, places)]
        return places

    def _places(self, B: int, T: int, S: int) -> Places:
        own = np.tile([0, T, 0, S], (B, 1)) if self.sequences is None else self.sequences
        prefix = np.zeros(len(own), np.int64) if self.prefix is None else self.prefix
        _, n_queries, _, n_keys = own.max(axis=0, initial=0).tolist()
        return Places(np.column_stack([own, prefix]).astype(np.int64, copy=False), n_queries, n_keys)

    def _check(self, B: int, T: int, S: int) -> None:
        mask, sequences = self.key_mask, self.sequences
        if mask is not None and (mask.shape != (B, S) or mask.dtype != np.bool_):
            raise ValueError(f"attention: key_mask {mask.dtype} {mask.shape} came, bool (B, S) = {(B, S)} expected")
        if sequences is not None and (B != 1 or not _are_sequences(sequences, n_queries=T, n_keys=S)):
            expected = f"(B, 4) that cover {T} queries and lie within {S} keys expected, and all sequences in one row"
            raise ValueError(f"attention: {B} rows and sequences {sequences.tolist()} came, {expected}")
        n_rows = B if sequences is None else len(sequences)
        if self.prefix is not None and (self.prefix.shape != (n_rows,) or self.prefix.dtype.kind not in "iu"):
            found = f"{self.prefix.dtype} {self.prefix.shape}"
            raise ValueError(f"attention: prefix {found} came, whole numbers (B,) = ({n_rows},) expected")

    def mask(self, n_queries: int, n_keys: int, *, row: int | slice = slice(None)) -> np.ndarray:
        """(B or 1, T, S) bool, True = may be seen, of rectangular rows; or (1, T, S) of one row or sequence, `row`."""
        seen = causal_mask(n_queries, n_keys)[None] if self.causal else np.ones((1, n_queries, n_keys), bool)
        if self.prefix is not None:
            seen = seen | (np.arange(n_keys) < np.atleast_1d(self.prefix[row])[:, None, None])
        if self.window is not None:
            positions = np.arange(n_keys - n_queries, n_keys)  # of the queries
            seen = seen & (np.arange(n_keys) > positions[:, None] - self.window)
        if self.key_mask is not None:
            seen = seen & np.atleast_2d(self.key_mask[row])[:, None]
        return seen


def _are_sequences(sequences: np.ndarray, *, n_queries: int, n_keys: int) -> bool:
    """Whether these (B, 4) cover all queries in order, each once, and lie within the keys."""
    if sequences.ndim != 2 or sequences.shape[1] != 4 or sequences.dtype != np.int64 or (sequences < 0).any():
        return False
    first_query, queries, first_key, keys = sequences.T
    in_order = np.array_equal(first_query, np.cumsum(queries) - queries) and int(queries.sum()) == n_queries
    return in_order and bool((first_key + keys <= n_keys).all())


EVERYTHING = Visibility()  # everybody sees everybody: an encoder
CAUSAL = Visibility(causal=True)  # nobody sees the future: a decoder


def end_to_end(
    lengths: np.ndarray, *, read: np.ndarray | None = None, keys: tuple[np.ndarray, np.ndarray] | None = None, causal: bool = True
) -> Visibility:
    """Of sequences (B,) of these lengths that lie one behind the other, (1, N, ...); `read` (N,): only these positions ask.

    padded   . . a a a         end to end   a a a b b b b b c c        lengths 3, 5, 2
             b b b b b
             . . . c c
    keys  of each sequence the first and how many, (B,) each, where they are not those of the queries: in a cache
    """
    n_positions = int(lengths.sum())
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise ValueError(f"lengths {lengths} came, whole numbers (B,) expected, 0 or more")
    ends, asked = np.cumsum(lengths), lengths
    if read is not None:
        fits = read.dtype == np.bool_ and read.shape == (n_positions,)
        if not fits or not np.isin(np.flatnonzero(read[:-1] > read[1:]) + 1, ends).all():
            expected = f"bool {(n_positions,)} expected, True at the last positions of each sequence"
            raise ValueError(f"read {read.dtype} {read.shape} came, {expected}")
        asked = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[read], minlength=len(lengths))
    first_key, n_keys = (ends - lengths, lengths) if keys is None else keys
    sequences = np.stack([np.cumsum(asked) - asked, asked, first_key, n_keys], axis=1).astype(np.int64)
    return Visibility(causal=causal, sequences=sequences, read=read)
