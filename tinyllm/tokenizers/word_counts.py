"""How often each word occurs in a corpus: all that learning a vocabulary needs to know of it.

    "the cat the dog"  ->  the 1,  cat 1 (with its space),  " the" 1,  " dog" 1

`count_pieces` is the whole idea. A large corpus is counted by kernels, on all cores, and within a limit of memory if there
is one: `count_words`. Cut by a pattern of your own, which no kernel knows, it is counted by several processes.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyllm import kernels
from tinyllm.tokenizers.characters import to_bytes, to_text

if TYPE_CHECKING:
    from tinyllm.kernels.text.counting import WordCounter

Progress = Callable[[str, int, int | None], None]  # (stage, done, total or None)
Split = Callable[[str], list[str]]
LARGE = 1 << 21  # characters from which kernels pay
AT_ONCE = 1 << 23  # characters that are counted in one call
LEAST_MEMORY = 1 << 24
WORDS_AT_ONCE = 1 << 14  # that are made symbols
SORTED_BY = 32  # first bytes of a word


class Words(NamedTuple):
    """Distinct words and their counts. letters (N,) uint8: words, a byte 0 behind each; begins (n + 1,); counts (n,) int64."""

    letters: np.ndarray
    begins: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, counts: dict[bytes, int]) -> Words:
        """From a dictionary."""
        begins = np.cumsum([0, *(len(word) + 1 for word in counts)])
        letters = np.frombuffer(b"\0".join([*counts, b""]), np.uint8)
        return cls(letters, begins, np.fromiter(counts.values(), np.int64, len(counts)))

    def row(self, ids: np.ndarray, room: Callable[[int, Any], np.ndarray] = np.empty) -> tuple[np.ndarray, np.ndarray]:
        """(symbols int32, weights int64), (N + 1,): the words as ids (256,) of their bytes, -1 around each; the counts."""
        n = int(self.begins[-1])
        symbols, weights = room(n + 1, np.int32), room(n + 1, np.int64)
        symbols[0], weights[0] = -1, 0
        for first in range(0, len(self.counts), WORDS_AT_ONCE):
            begins = self.begins[first : first + WORDS_AT_ONCE + 1]
            begin, end = int(begins[0]), int(begins[-1])
            symbols[begin + 1 : end + 1] = ids[self.letters[begin:end]]
            symbols[begins[1:]] = -1
            weights[begin + 1 : end + 1] = np.repeat(self.counts[first : first + WORDS_AT_ONCE], np.diff(begins))
        return symbols, weights

    def ordered(self) -> Words:
        """The same words from a to z, byte by byte: whatever comes of them does not depend on who counted which first."""
        sizes, n = np.diff(self.begins) - 1, len(self.counts)
        offsets = np.arange(SORTED_BY)
        at = np.minimum(self.begins[:-1, None] + np.minimum(offsets, sizes[:, None]), max(int(self.begins[-1]) - 1, 0))
        starts = (
            np.where(offsets < sizes[:, None], self.letters[at], 0).astype(np.uint8) if n else np.empty((0, SORTED_BY), np.uint8)
        )
        order = np.lexsort([sizes, *starts.view(">u8").T[::-1]])
        ties = (
            (starts[order][1:] == starts[order][:-1]).all(axis=1)
            & (sizes[order][1:] > SORTED_BY)
            & (sizes[order][:-1] > SORTED_BY)
        )
        for begin, end in _runs(ties):
            order[begin : end + 1] = sorted(order[begin : end + 1].tolist(), key=self._word)
        begins = np.concatenate([[0], np.cumsum(sizes[order] + 1)])
        places = np.repeat(self.begins[:-1][order] - begins[:-1], sizes[order] + 1) + np.arange(begins[-1])
        return Words(self.letters[places], begins, self.counts[order])

    def _word(self, k: int) -> bytes:
        return self.letters[self.begins[k] : self.begins[k + 1] - 1].tobytes()

    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """(code points, the count of each one's word), (M,): the words as characters, a line end behind each."""
        n = int(self.begins[-1])
        letters = self.letters[:n].copy()
        letters[self.begins[1:] - 1] = ord("\n")
        text = letters.tobytes().decode("utf-8", "surrogateescape")
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
        ends = np.flatnonzero(codes == ord("\n"))
        return codes, np.repeat(self.counts, np.diff(ends, prepend=-1))

    def texts(self) -> list[str]:
        """The words, bytes that are no UTF-8 as in `to_text`."""
        data = self.letters.tobytes()
        bounds = itertools.pairwise(self.begins.tolist())
        return [to_text(data[begin : end - 1]) for begin, end in bounds]


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """(begin, end) of each run of True."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def count_pieces(
    documents: Iterable[str | bytes], split: Split, *, special_tokens: Sequence[str] = (), progress: Progress | None = None
) -> Counter[bytes]:
    """How often each piece occurs in `documents`. Special tokens found in a text separate it and are not counted.

    Memory: one document and the distinct pieces. ValueError if `documents` is a single text.
    """
    counts: Counter[str] = Counter()
    for done, parts in enumerate(ordinary_parts(documents, special_tokens), start=1):
        for part in parts:
            counts.update(split(part))
        if progress:
            progress("count", done, None)
    return Counter({to_bytes(piece): count for piece, count in counts.items()})


def ordinary_parts(documents: Iterable[str | bytes], special_tokens: Sequence[str]) -> Iterator[list[str]]:
    """Of each document the stretches of text between special tokens."""
    if isinstance(documents, str | bytes):
        raise ValueError(f"documents: got one {type(documents).__name__}, expected an iterable; put it in a list")
    ordered = sorted(map(to_text, special_tokens), key=len, reverse=True)
    separator = re.compile("|".join(map(re.escape, ordered))) if ordered else None
    for document in documents:
        text = to_text(document)
        yield separator.split(text) if separator else [text]


def count_words(
    documents: Iterable[str | bytes], split: Split, *, special_tokens: Sequence[str] = (), progress: Progress | None = None,
    counter: Callable[[int | None], WordCounter] | None = None, memory_limit: int | None = None, processes: int = 1,
) -> Words:  # fmt: skip
    """`count_pieces` of a corpus of any size.

    counter       makes the kernels that cut as `split` does, given the bytes that their tables may take; None: there are none
    memory_limit  bytes. What is counted is kept in files where it does not fit (with kernels alone)
    processes     how many count, where there are no kernels
    """
    if memory_limit is not None and memory_limit < LEAST_MEMORY:
        raise ValueError(f"memory_limit: got {memory_limit:,} bytes, expected at least {LEAST_MEMORY:,}")
    if processes < 1:
        raise ValueError(f"processes: got {processes}, expected at least 1")
    parts = ordinary_parts(documents, special_tokens)
    if counter and kernels.machine_code():
        first, parts, large = _look_ahead(parts)
        if large or memory_limit is not None:
            return _count_by_kernels(
                itertools.chain(first, parts), counter(memory_limit and memory_limit // 4), progress, memory_limit
            )
        parts = iter(first)
    texts = _joined(parts, progress)
    counts: Counter[str] = Counter()
    if processes == 1:
        for batch in texts:
            counts.update(itertools.chain.from_iterable(map(split, batch)))
    else:
        for found in _by_processes(split, texts, processes):
            counts.update(found)
    return Words.of({to_bytes(piece): count for piece, count in counts.items()})


def _look_ahead(parts: Iterator[list[str]]) -> tuple[list[list[str]], Iterator[list[str]], bool]:
    """(the first documents, the others, whether there is enough text for kernels)."""
    first, n = [], 0
    for document in parts:
        first.append(document)
        n += sum(map(len, document))
        if n >= LARGE:
            return first, parts, True
    return first, parts, False


def _joined(parts: Iterable[list[str]], progress: Progress | None, most: int = AT_ONCE) -> Iterator[list[str]]:
    """The stretches of text of several documents at a time, about `most` characters."""
    batch: list[str] = []
    n = 0
    for done, document in enumerate(parts, start=1):
        batch += document
        n += sum(map(len, document))
        if n >= most:
            yield batch
            batch, n = [], 0
        if progress:
            progress("count", done, None)
    yield batch


def _count_by_kernels(
    parts: Iterable[list[str]], counter: WordCounter, progress: Progress | None, memory_limit: int | None
) -> Words:
    most = AT_ONCE if memory_limit is None else min(AT_ONCE, memory_limit // 16)
    for batch in _joined(parts, progress, most):
        counter.add(list(map(to_bytes, batch)))
    return Words(*counter.words(working_room(memory_limit)))


def _by_processes(split: Split, batches: Iterable[list[str]], processes: int) -> Iterator[Counter[str]]:
    """The counts of each batch, made by several processes; so many batches are in memory, and as many again wait."""
    with ProcessPoolExecutor(processes) as pool:
        waiting: deque[Future[Counter[str]]] = deque()
        for batch in batches:
            waiting.append(pool.submit(_count_batch, split, batch))
            if len(waiting) >= 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _count_batch(split: Split, texts: list[str]) -> Counter[str]:
    return Counter(itertools.chain.from_iterable(map(split, texts)))


def working_room(memory_limit: int | None) -> Callable[[int, Any], np.ndarray]:
    """What makes an array of n numbers: in memory, or in a file of the temporary folder if it is large beside the limit."""

    def room(n: int, dtype: Any) -> np.ndarray:
        if memory_limit is None or n * np.dtype(dtype).itemsize < memory_limit // 8:
            return np.empty(n, dtype)
        with tempfile.TemporaryFile() as file:
            return np.asarray(np.memmap(file, dtype, "w+", shape=(n,)))

    return room
