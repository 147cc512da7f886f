"""Normalized text as ids by a scheme that cuts words into pieces: WordPiece, BPE with marked spaces, Unigram.

As in `byte_pairs`, a word that was seen before is looked up; a new one is cut by one of three rules. Their plain twins are
`WordPieceTokenizer.cut_word`, `SentencePieceBPETokenizer._segment` and `UnigramTokenizer._viterbi`.
"""

import re
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyllm.kernels.jit import inlined, jit, max_threads, prange
from tinyllm.kernels.pointers import start, take_number, thread_count
from tinyllm.kernels.text.byte_pairs import BETWEEN, ROOM, document_parts
from tinyllm.kernels.text.characters import byte_at, is_continuation
from tinyllm.kernels.text.merging import SHORT, Pairs, fill_pairs, merge_long, merge_short
from tinyllm.kernels.text.plain_words import WORD_SEAM, greedy_word_end
from tinyllm.kernels.text.vocabulary import Vocabulary, find_token, new_vocabulary
from tinyllm.kernels.text.words import LONGEST, U3, U48, Words, find_word, keep_word, key_of, new_words, recall

GREEDY, MERGES, BEST = 0, 1, 2  # how a word is cut
BLANK = 0x20
NEVER = re.compile(rb"(?!)")
FAR = 0x7FFF  # tag of a word that has one best cut only, however sums are rounded
TAG_ZERO = 0x2000


class Rules(NamedTuple):
    """The numbers of a scheme.

    kind        GREEDY, MERGES or BEST
    each_space  whether a word begins at every space
    squeeze     whether of several spaces only the last counts
    unknown     the id for what has no piece
    longest     bytes of a piece; most: characters of a word that is cut at all (GREEDY)
    rounding    see `WordCoder`
    """

    kind: Any
    each_space: Any
    squeeze: Any
    unknown: Any
    longest: Any
    most: Any
    unknown_score: Any
    rounding: Any


class Tables(NamedTuple):
    """The arrays of a scheme.

    begins, goes_on   the pieces at the start of a word and inside it (the same unless GREEDY)
    byte_ids          (256,) int32: the pieces of bytes; -1: there are none
    pairs             for MERGES
    scores            (V + 1,) for BEST; a byte that begins a character has that of an unknown one, which is the last
    classes           (0x110000,) uint8 for GREEDY
    neighbours        (128 * 128,) uint8: whether two ASCII characters stand side by side in some piece
    """

    begins: Any
    goes_on: Any
    byte_ids: Any
    pairs: Any
    scores: Any
    classes: Any
    neighbours: Any


@inlined
def character_bytes(text, i):
    """How many bytes the character at i has, as its first byte says."""
    first = byte_at(text, i)
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


@inlined
def word_end(text, i, n, each_space, neighbours):
    """The end of the word at i: before the next space, or between two ASCII characters that are neighbours in no piece."""
    end, before = i + 1, byte_at(text, i)
    while end < n:
        here = byte_at(text, end)
        if here == BLANK and (each_space or before != BLANK):
            break
        if before < 0x80 and here < 0x80 and not byte_at(neighbours, before << 7 | here):
            break
        end, before = end + 1, here
    return end


@inlined
def say_unknown(text, i, rules, tables, out, n_out):
    """Write what stands for the character at i, which has no piece: its bytes, or the unknown id. Returns the new n_out."""
    if tables.byte_ids[0] < 0:
        out[n_out] = rules.unknown
        return n_out + 1
    for k in range(i, i + character_bytes(text, i)):
        out[n_out] = tables.byte_ids[byte_at(text, k)]
        n_out += 1
    return n_out


@inlined
def cut_greedy(text, begin, end, rules, tables, out, n_out):
    """The longest piece that fits, and on from there; the unknown id alone if at some place nothing fits."""
    first, n_characters = n_out, 0
    for k in range(begin, end):
        n_characters += not is_continuation(byte_at(text, k))
    i = begin
    while i < end and n_characters <= rules.most:
        token, after = -1, min(end, i + rules.longest)
        while after > i:
            if after == end or not is_continuation(byte_at(text, after)):
                token = find_token(tables.begins, text, i, after) if i == begin else find_token(tables.goes_on, text, i, after)
                if token >= 0:
                    break
            after -= 1
        if token < 0:
            break
        out[n_out] = token
        n_out, i = n_out + 1, after
    if i < end:
        out[first] = rules.unknown
        return first + 1
    return n_out


@inlined
def cut_by_merges(text, begin, end, rules, tables, scratch, out, n_out):
    """Join the characters. A character without a piece has an id that no pair has."""
    n, nobody = 0, np.int32(tables.scores.size)
    symbols = scratch[0] if end - begin <= SHORT else np.empty(end - begin, np.int32)
    i = begin
    while i < end:
        after = min(end, i + character_bytes(text, i))
        token = find_token(tables.begins, text, i, after)
        symbols[n] = token if token >= 0 else nobody
        n, i = n + 1, after
    joined, count = symbols, 0
    if n <= SHORT:
        count = merge_short(symbols, n, tables.pairs, scratch[1])
    else:
        joined = np.empty(n, np.int32)
        count = merge_long(symbols, n, tables.pairs, joined, 0)
    i = begin
    for k in range(count):
        token = joined[k]
        if token == nobody:
            n_out = say_unknown(text, i, rules, tables, out, n_out)
            i += character_bytes(text, i)
        else:
            out[n_out] = token
            n_out += 1
            i += tables.begins.starts[token + 1] - tables.begins.starts[token]
    return n_out


@partial(inlined, in_order=True)
def cut_best(text, begin, end, base, rules, tables, scratch, out, n_out):
    """(new n_out, how near another cut came at some place of it): the most probable cut. base: the sum before the word."""
    n = end - begin
    sums, backs, tokens, margins = scratch
    if n >= sums.size:
        sums, backs, tokens = np.empty(n + 1, sums.dtype), np.empty(n + 1, np.int32), np.empty(n + 1, np.int32)
        margins = np.empty(n + 1)
    backs[: n + 1] = -1
    sums[0], near, i = base, np.inf, 0
    while i < n:
        after, known = i, False
        one = min(n, i + character_bytes(text, begin + i))
        while after < n and after - i < rules.longest:
            after = min(n, after + character_bytes(text, begin + after))
            token = find_token(tables.begins, text, begin + i, begin + after)
            score = tables.scores[token] if token >= 0 else rules.unknown_score
            known = known or after == one and token >= 0
            if token >= 0 or after == one and not known:
                total = sums[i] + score
                margin = np.float64(total) - np.float64(sums[after]) if backs[after] >= 0 else np.inf
                if backs[after] < 0 or total > sums[after]:
                    sums[after], backs[after], tokens[after], margins[after] = total, i, token, margin
                else:
                    margins[after] = min(margins[after], -margin)
        i = one
    place, count = np.int64(n), np.int64(0)
    while place > 0:  # turn the chain round: tokens[k] becomes where the piece that begins at k ends
        before, near = np.int64(backs[place]), min(near, margins[place])
        backs[place] = count
        count, place = place, before
    place = np.int64(0)
    while place < n:
        token = tokens[count]
        if token < 0:
            n_out = say_unknown(text, begin + place, rules, tables, out, n_out)
        else:
            out[n_out] = token
            n_out += 1
        place, count = count, np.int64(backs[count])
    return n_out, near


@inlined
def tag_of(near):
    """A distance as the exponent of two below it, so that it fits into 16 bits."""
    if near == np.inf:
        return FAR
    return TAG_ZERO + (np.int64(np.floor(np.log2(near))) if near > 1e-30 else -200)


@inlined
def certain(tag, base, length, rules):
    """Whether a word's best cut stays the best, however sums are rounded behind `base`."""
    if tag == FAR:
        return True
    most = 4 * length * rules.rounding * (abs(np.float64(base)) + length * abs(np.float64(rules.unknown_score)))
    return tag > TAG_ZERO + np.int64(np.ceil(np.log2(most)))


@inlined
def one_unknown(out, n_out, unknown):
    """Make one of each run of unknown characters; returns how many ids are left."""
    n_kept = 0
    for k in range(n_out):
        if n_kept == 0 or out[k] != unknown or out[n_kept - 1] != unknown:
            out[n_kept] = out[k]
            n_kept += 1
    return n_kept


@jit(in_order=True)
def encode_words(text, bounds, rules, tables, words, out):
    """Write the ids of the words in text[begin:end] to `out`; returns how many. bounds: begin, end, end of the document."""
    begin, end, n = bounds
    text, classes, neighbours = start(text), start(tables.classes), start(tables.neighbours)
    symbols = np.empty(SHORT, np.int32), np.empty(SHORT, np.int64)
    links = np.empty(LONGEST + 1, np.int32), np.empty(LONGEST + 1, np.int32)
    paths = np.empty(LONGEST + 1, tables.scores.dtype), links[0], links[1], np.empty(LONGEST + 1)
    n_out, i = 0, begin
    base = tables.scores[0] - tables.scores[0]
    while i < end:
        if rules.kind == GREEDY:
            after = greedy_word_end(text, i, n, classes)
            if after < 0:
                i = -after
                continue
        else:
            while rules.squeeze and byte_at(text, i) == BLANK and i + 1 < end and byte_at(text, i + 1) == BLANK:
                i += 1
            after = word_end(text, i, n, rules.each_space, neighbours)
        length, first, known, tag = after - i, n_out, False, np.int64(FAR)
        low, high, at = np.uint64(0), np.uint64(0), np.uint64(0)
        if length <= LONGEST:
            low, high, at = key_of(text, i, length)
            at, known = find_word(words, text, i, length, low, high, at)
            if known and rules.rounding > 0.0:
                known = certain(np.int64(words.table[at + U3] >> U48), base, length, rules)
        if known:
            n_out = recall(words, at, out, n_out)
        else:
            if rules.kind == GREEDY:
                n_out = cut_greedy(text, i, after, rules, tables, out, n_out)
            elif rules.kind == MERGES:
                n_out = cut_by_merges(text, i, after, rules, tables, symbols, out, n_out)
            else:
                n_out, near = cut_best(text, i, after, base, rules, tables, paths, out, n_out)
                tag = tag_of(near)
            if length <= LONGEST:
                at, known = find_word(words, text, i, length, low, high, key_of(text, i, length)[2])
                if not known:
                    keep_word(words, text, i, length, out[first:], n_out - first, tag)
        if rules.rounding > 0.0:
            for k in range(first, n_out):
                base += tables.scores[out[k]]
        i = after
    return one_unknown(out, n_out, rules.unknown) if tables.byte_ids[0] < 0 and rules.kind != GREEDY else n_out


@jit(parallel=True)
def _encode(text, parts, rules, begins, goes_on, pairs, byte_ids, scores, classes, neighbours, words, out, counts):
    """Encode the parts (P, 3), as in `byte_pairs`."""
    n_workers = min(thread_count(), parts.shape[0], words.table.shape[0])
    counter = np.empty(1, np.int64)
    counter[0] = 0
    for worker in prange(n_workers):
        tables = Tables(begins, goes_on, byte_ids, pairs, scores, classes, neighbours)
        own = Words(words.table[worker], words.letters[worker], words.ids[worker], words.used[worker])
        unpacked = Rules(
            np.int64(rules[0]), np.int64(rules[1]), np.int64(rules[2]), np.int32(rules[3]), np.int64(rules[4]),
            np.int64(rules[5]), tables.scores[tables.scores.size - 1], rules[6],
        )  # fmt: skip
        part = take_number(counter)
        while part < parts.shape[0]:
            begin, end, n = parts[part, 0], parts[part, 1], parts[part, 2]
            counts[part] = encode_words(text, (begin, end, n), unpacked, tables, own, out[begin + ROOM * part :])
            part = take_number(counter)


def neighbours_in(pieces: list[bytes]) -> np.ndarray:
    """(128 * 128,) uint8: which two ASCII characters stand side by side in some piece. Nothing is joined across the others."""
    letters = np.frombuffer(b"\xff".join(pieces), np.uint8).astype(np.int64)
    lefts, rights = letters[:-1], letters[1:]
    found = np.zeros(128 * 128, np.uint8)
    both = (lefts < 0x80) & (rights < 0x80)
    found[lefts[both] << 7 | rights[both]] = 1
    return found


class WordCoder:
    """A scheme, ready for normalized texts of any length.

    begins, goes_on  the bytes of each id, at the start of a word and inside it; b"" where it is no piece of that kind
    ordinary         (n,) the ids that text may become; None: all that have bytes
    scores           (V,); None if the scheme has none
    rounding         for scores of 32 bits: what it may make of equal sums; 0: words are cut each by itself
    """

    def __init__(
        self,
        kind: int,
        begins: list[bytes],
        goes_on: list[bytes],
        *,
        unknown: int,
        ordinary: np.ndarray | None = None,
        each_space: bool = False,
        squeeze: bool = False,
        most: int = 0,
        byte_ids: list[int] | None = None,
        merges: tuple[np.ndarray, np.ndarray] | None = None,
        scores: np.ndarray | None = None,
        unknown_score: float = 0.0,
        rounding: float = 0.0,
        classes: np.ndarray | None = None,
    ):
        def vocabulary(pieces: list[bytes]) -> Vocabulary:
            own = np.flatnonzero([len(piece) > 0 for piece in pieces]) if ordinary is None else ordinary
            return new_vocabulary(pieces, own)

        joined, order = merges if merges is not None else (np.zeros((0, 3), np.int32), np.zeros(0, np.int32))
        table = np.zeros(2 << (2 * len(joined) + 1).bit_length(), np.uint64)
        fill_pairs(*np.ascontiguousarray(joined[:, :2].T), order, np.ascontiguousarray(joined[:, 2]), table)
        known = np.zeros(len(begins)) if scores is None else scores
        own = np.append(known, known.dtype.type(unknown_score))  # the last one is that of an unknown character
        if unknown >= 0:
            own[unknown] = unknown_score
        for byte, i in enumerate(byte_ids or ()):
            own[i] = 0 if 0x80 <= byte < 0xC0 else unknown_score
        if classes is None:
            classes = np.zeros(0x110000, np.uint8)
            classes.setflags(write=False)
        first = vocabulary(begins)
        self.tables = Tables(
            first, first if goes_on is begins else vocabulary(goes_on), np.array(byte_ids or [-1] * 256, np.int32),
            Pairs(np.zeros(256, np.int32), table), own, classes, neighbours_in(begins),
        )  # fmt: skip
        longest = max(map(len, [*begins, *goes_on]), default=1)
        self.rules = np.array([kind, each_space, squeeze, unknown, longest, most, rounding], np.float64)
        self.words = new_words(max_threads())
        self.seam = NEVER if rounding else WORD_SEAM  # sums of 32 bits go through a whole text

    def encode(self, texts: list[bytes]) -> list[np.ndarray]:
        """The ids (n,) int32 of each normalized text."""
        text = np.frombuffer(BETWEEN.join([*texts, b""]), np.uint8)
        parts = [part for parts in document_parts(texts, self.seam) for part in parts]
        bounds = np.array(parts, np.int64).reshape(-1, 3)
        bounds[:, 2] = bounds[:, 1]  # no word goes on behind a seam
        out, counts = np.empty(len(text) + ROOM * (len(parts) + 1), np.int32), np.zeros(len(parts), np.int64)
        begins, goes_on, byte_ids, pairs, scores, classes, neighbours = self.tables
        _encode(text, bounds, self.rules, begins, goes_on, pairs, byte_ids, scores, classes, neighbours, self.words, out, counts)
        ids: list[list[np.ndarray]] = [[] for _ in texts]
        places = np.cumsum([0, *(len(text) + len(BETWEEN) for text in texts)])
        documents = np.searchsorted(places, bounds[:, 0], side="right") - 1
        for part, (document, n) in enumerate(zip(documents.tolist(), counts.tolist(), strict=True)):
            begin = bounds[part, 0] + ROOM * part
            ids[document].append(out[begin : begin + n])
        return [np.concatenate(own) if own else np.empty(0, np.int32) for own in ids]
