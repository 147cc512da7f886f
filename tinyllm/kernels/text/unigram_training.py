"""The three passes over a corpus that learning a Unigram vocabulary repeats: expected counts, best cuts, second-best cuts.

Which pieces begin at each place of the corpus is written down once: `pieces[starts[i]:starts[i + 1]]`, so nothing is searched.
Sums of probabilities are kept relative to the best cut, e^(sum - best), so that they neither vanish nor overflow.
Twins: `expected_counts` and `prune` in tokenizers/unigram_train.py.
"""

import numpy as np

from tinyllm.kernels.jit import inlined, jit, prange

LONGEST_SPAN = 512  # symbols; longer words come in several spans
PARTS = 8  # of the corpus, each with sums of its own, however many threads there are


@jit
def list_pieces(places, ids, starts, pieces):
    """Sort occurrences (ids[k] begins at places[k]) by place. starts (N + 1,) int64 zeros, pieces like ids: filled."""
    for place in places:
        starts[place + 1] += 1
    for i in range(starts.size - 1):
        starts[i + 1] += starts[i]
    for k in range(places.size):
        pieces[starts[places[k]]] = ids[k]
        starts[places[k]] += 1
    for i in range(starts.size - 1, 0, -1):
        starts[i] = starts[i - 1]
    starts[0] = 0


@jit
def keep_pieces(starts, pieces, new_ids):
    """Leave out the pieces whose new id is -1 and rename the others, in place; returns how many occurrences are left."""
    n = np.int64(0)
    for i in range(starts.size - 1):
        begin, end = starts[i], starts[i + 1]
        starts[i] = n
        for k in range(begin, end):
            new = new_ids[pieces[k]]
            if new >= 0:
                pieces[n] = new
                n += 1
    starts[starts.size - 1] = n
    return n


@inlined
def best_sums(begin, end, starts, pieces, lengths, scores, whole, best, backs):
    """Of each place of a span the best sum of what stands before it, and the piece that ends there. whole: left out."""
    n = end - begin
    best[: n + 1], backs[: n + 1] = -np.inf, -1
    best[0] = 0.0
    for i in range(n):
        for k in range(starts[begin + i], starts[begin + i + 1]):
            piece = pieces[k]
            after = i + lengths[piece]
            if after <= n and piece != whole:
                total = best[i] + scores[piece]
                if total > best[after] or backs[after] < 0:
                    best[after], backs[after] = total, piece


@inlined
def add_expected(begin, end, weight, starts, pieces, lengths, scores, best, backs, sums, behind, counts):
    """Add how often each piece is expected in a span, over all its cuts; returns the span's log likelihood."""
    n = end - begin
    best_sums(begin, end, starts, pieces, lengths, scores, -1, best, backs)
    sums[: n + 1], behind[: n + 1] = 0.0, 0.0
    sums[0], behind[n] = 1.0, 1.0
    for i in range(n):
        for k in range(starts[begin + i], starts[begin + i + 1]):
            piece = pieces[k]
            after = i + lengths[piece]
            if after <= n:
                sums[after] += sums[i] * np.exp(best[i] + scores[piece] - best[after])
    scale = weight / sums[n]
    for i in range(n - 1, -1, -1):
        total = 0.0
        for k in range(starts[begin + i], starts[begin + i + 1]):
            piece = pieces[k]
            after = i + lengths[piece]
            if after <= n:
                part = np.exp(best[i] + scores[piece] - best[after]) * behind[after]
                total += part
                counts[piece] += scale * sums[i] * part
        behind[i] = total
    return weight * (best[n] + np.log(sums[n]))


@jit(parallel=True)
def expect(starts, pieces, lengths, scores, spans, weights, counts, likelihoods):
    """The E step: counts (PARTS, V) of the spans (W, 2) that occur weights (W,) times, and the log likelihood of each part."""
    for part in prange(PARTS):
        best, sums, behind = np.empty(LONGEST_SPAN + 1), np.empty(LONGEST_SPAN + 1), np.empty(LONGEST_SPAN + 1)
        backs = np.empty(LONGEST_SPAN + 1, np.int32)
        total = 0.0
        for w in range(spans.shape[0] * part // PARTS, spans.shape[0] * (part + 1) // PARTS):
            total += add_expected(
                spans[w, 0], spans[w, 1], weights[w], starts, pieces, lengths, scores, best, backs, sums, behind, counts[part]
            )
        likelihoods[part] = total


@jit(parallel=True)
def count_best(starts, pieces, lengths, scores, spans, weights, counts):
    """How often each piece stands in the best cuts: counts (PARTS, V)."""
    for part in prange(PARTS):
        best, backs = np.empty(LONGEST_SPAN + 1), np.empty(LONGEST_SPAN + 1, np.int32)
        for w in range(spans.shape[0] * part // PARTS, spans.shape[0] * (part + 1) // PARTS):
            best_sums(spans[w, 0], spans[w, 1], starts, pieces, lengths, scores, -1, best, backs)
            i = spans[w, 1] - spans[w, 0]
            while i > 0:
                counts[part, backs[i]] += weights[w]
                i -= lengths[backs[i]]


@jit(parallel=True)
def without(starts, pieces, lengths, scores, places, counts, sums, sizes, logs):
    """The best cut of each piece into others: sum, -inf if there is none; size; Σ log(count of each + count of the piece).

    places (V,): where each piece stands once.
    """
    for part in prange(PARTS):
        best, backs = np.empty(LONGEST_SPAN + 1), np.empty(LONGEST_SPAN + 1, np.int32)
        for piece in range(lengths.size * part // PARTS, lengths.size * (part + 1) // PARTS):
            n = lengths[piece]
            best_sums(places[piece], places[piece] + n, starts, pieces, lengths, scores, piece, best, backs)
            sums[piece], sizes[piece], logs[piece] = best[n], 0, 0.0
            while n > 0 and best[n] > -np.inf:
                sizes[piece] += 1
                logs[piece] += np.log(counts[backs[n]] + counts[piece])
                n -= lengths[backs[n]]
