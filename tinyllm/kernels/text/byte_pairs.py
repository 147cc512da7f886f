"""A text as ids, by byte-pair encoding: find where a piece ends, look up what it became the last time, else join its pairs.

The text is shared out among the threads in parts that begin where a line begins with a letter: there a piece begins, whatever
the pattern. Each thread has its own table of words.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tinyllm.kernels.jit import inlined, jit, max_threads, prange
from tinyllm.kernels.pointers import fetch, move, start, take_number, thread_count
from tinyllm.kernels.text.characters import PADDING
from tinyllm.kernels.text.cuts import piece_end
from tinyllm.kernels.text.merging import SHORT, Pairs, byte_symbols, fill_pairs, merge_long, merge_short
from tinyllm.kernels.text.patterns import Cut
from tinyllm.kernels.text.vocabulary import all_merges, count_bytes, find_token, join_tokens, new_vocabulary, start_ids
from tinyllm.kernels.text.words import LONGEST, Words, find_word, keep_word, key_of, new_words, recall

PART = 1 << 20  # bytes that a thread takes at a time
LONGEST_PART = 1 << 29  # bytes: places in a piece, of which there may be three a byte, are counted in 32 bits
AT_ONCE = 32  # pieces
ROOM = 4  # numbers between the ids of two parts: three may be written where one is meant
BETWEEN = bytes(PADDING)
LINE_START = re.compile(rb"(?<=\n)(?=[A-Za-z])")


@inlined
def encode_new(text, begin, after, pairs, vocabulary, whole, words, scratch, out, n_out):
    """`encode_part` of a piece that is not in the table: join its pairs, and keep what it became."""
    ids, found = scratch
    length = after - begin
    token = find_token(vocabulary, text, begin, after) if whole else -1
    if token >= 0:
        out[n_out] = token
        count = 1
    elif length > SHORT:
        symbols = np.empty(length, np.int32)
        byte_symbols(text, begin, length, pairs, symbols)
        return merge_long(symbols, length, pairs, out, n_out)
    else:
        byte_symbols(text, begin, length, pairs, ids)
        count = merge_short(ids, length, pairs, found)
        for j in range(count):
            out[n_out + j] = ids[j]
    if length <= LONGEST:
        ids[0] = out[n_out]
        keep_word(words, text, begin, length, ids, count, 0)
    return n_out + count


@jit
def encode_part(text, bounds, rules, classes, pairs, vocabulary, words, out):
    """Write the ids of the pieces that begin in text[begin:end] to `out`; returns how many.

    bounds: begin, end, and where the document ends, which may be later.

    Pieces are found AT_ONCE ahead, and what the table holds of each is asked for: when it is looked at, it will have come.
    """
    begin, end, n = bounds
    cut, whole = Cut(rules[0], rules[1], rules[2], rules[3], rules[4], rules[5], rules[6]), rules[7]
    text, classes = start(text), start(classes)
    scratch = np.empty(SHORT, np.int32), np.empty(SHORT, np.int64)
    starts, lows = np.empty(AT_ONCE + 1, np.int64), np.empty(AT_ONCE, np.uint64)
    highs, places = np.empty(AT_ONCE, np.uint64), np.empty(AT_ONCE, np.uint64)
    n_out, i = 0, begin
    while i < end:
        n_pieces = 0
        while n_pieces < AT_ONCE and i < end:
            after = piece_end(text, i, n, classes, cut)
            starts[n_pieces] = i
            if after - i <= LONGEST:
                lows[n_pieces], highs[n_pieces], places[n_pieces] = key_of(text, i, after - i)
                fetch(move(start(words.table), np.int64(places[n_pieces])))
            i = after
            n_pieces += 1
        starts[n_pieces] = i
        for p in range(n_pieces):
            first, after = starts[p], starts[p + 1]
            length = after - first
            at = np.uint64(0)
            known = length <= LONGEST
            if known:
                at, known = find_word(words, text, first, length, lows[p], highs[p], places[p])
            if known:
                n_out = recall(words, at, out, n_out)
            else:
                n_out = encode_new(text, first, after, pairs, vocabulary, whole, words, scratch, out, n_out)
    return n_out


@jit(parallel=True)
def _encode(text, parts, rules, classes, pairs, vocabulary, words, out, counts):
    """Encode the parts (P, 3): begin, end, end of the document. Part p gives counts[p] ids, from out[begin + ROOM * p] on."""
    n_workers = min(thread_count(), parts.shape[0], words.table.shape[0])
    counter = np.empty(1, np.int64)
    counter[0] = 0
    for worker in prange(n_workers):
        own = Words(words.table[worker], words.letters[worker], words.ids[worker], words.used[worker])
        part = take_number(counter)
        while part < parts.shape[0]:
            begin, end, n = parts[part, 0], parts[part, 1], parts[part, 2]
            counts[part] = encode_part(text, (begin, end, n), rules, classes, pairs, vocabulary, own, out[begin + ROOM * part :])
            part = take_number(counter)


class BytePairCoder:
    """A vocabulary and its merges, ready for texts of any length. `tokens[i]`: the bytes of id i.

    ordinary  ids (n,) of the tokens that text may become: no special ones
    merges    (lefts, rights, joined), ids in the order learned; None: any two neighbours that make a token, lowest id first
    whole     whether a piece that is a token becomes it without merging
    """

    def __init__(
        self,
        tokens: list[bytes],
        *,
        ordinary: np.ndarray,
        merges: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
        whole: bool,
        cut: Cut,
        classes: np.ndarray,
    ):
        self.vocabulary = new_vocabulary(tokens, ordinary)
        lefts, rights, joined = all_merges(self.vocabulary, ordinary) if merges is None else merges
        ranks = joined if merges is None else np.arange(len(joined), dtype=np.int32)
        table = np.zeros(2 << (2 * len(joined) + 1).bit_length(), np.uint64)
        fill_pairs(lefts, rights, ranks, joined, table)
        letters = start_ids(self.vocabulary)
        self.pairs, self.classes = Pairs(letters, table), classes
        self.rules = np.array([*cut, whole], np.int64)
        self.words = new_words(max_threads())

    def encode(self, texts: list[bytes]) -> list[np.ndarray]:
        """The ids (n,) int32 of each text."""
        text = np.frombuffer(BETWEEN.join([*texts, b""]), np.uint8)
        parts = np.array([part for parts in document_parts(texts) for part in parts], np.int64).reshape(-1, 3)
        if parts.size and (longest := int((parts[:, 1] - parts[:, 0]).max())) > LONGEST_PART:
            found = f"{longest:,} bytes without a line that begins with a letter"
            raise ValueError(f"texts: {found} came, expected at most {LONGEST_PART:,}; give the text in several parts")
        out, counts = np.empty(len(text) + ROOM * (len(parts) + 1), np.int32), np.zeros(len(parts), np.int64)
        _encode(text, parts, self.rules, self.classes, self.pairs, self.vocabulary, self.words, out, counts)
        ids: list[list[np.ndarray]] = [[] for _ in texts]
        places = np.cumsum([0, *(len(text) + PADDING for text in texts)])
        documents = np.searchsorted(places, parts[:, 0], side="right") - 1
        for part, (document, n) in enumerate(zip(documents.tolist(), counts.tolist(), strict=True)):
            begin = parts[part, 0] + ROOM * part
            ids[document].append(out[begin : begin + n])
        return [np.concatenate(own) if own else np.empty(0, np.int32) for own in ids]

    def decode(self, ids: np.ndarray) -> bytes:
        """The bytes of ids (n,) int32, all of which are in the vocabulary."""
        ids = np.require(ids, np.int32, ["C", "W"])  # one layout, one compiled signature
        n = count_bytes(self.vocabulary, ids)
        out = np.empty(n + PADDING, np.uint8)
        join_tokens(self.vocabulary, ids, out)
        return out[:n].tobytes()


def document_parts(
    texts: list[bytes], seam: re.Pattern[bytes] = LINE_START, size: int | None = None
) -> Iterator[list[tuple[int, int, int]]]:
    """For each document (begin, end, end of the document) of its parts, about `size` bytes (PART) each, in the joined text."""
    place, size = 0, size or PART
    for text in texts:
        cuts = [0]
        while len(text) - cuts[-1] > size and (found := seam.search(text, cuts[-1] + size)):
            cuts.append(found.start())
        cuts.append(len(text))
        yield [(place + a, place + b, place + len(text)) for a, b in pairwise(cuts) if a < b]
        place += len(text) + PADDING
