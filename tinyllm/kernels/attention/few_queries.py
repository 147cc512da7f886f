"""Attention of one or a few queries to many keys, as in generation: all the time goes into reading the keys and values.

A cache (S, G, D) is read fastest from end to end. One head after the other would jump from one short piece to the next,
which the memory cannot foresee: measured, a third of the speed. So a task takes a chunk of keys for all the heads at once:

    scores of chunk c:   for each key, for each head:   q · k           each chunk is a whole attention over its own keys:
    output of chunk c:   for each key, for each head:   out += P v      outᶜ, and logᶜ = log Σ exp over the chunk
    at the end           out = Σ exp(logᶜ - log) outᶜ                   log = log Σ exp(logᶜ)
The chunks depend on the number of keys alone, so any number of threads gives the same bits. The idea of cutting up the keys
is Flash-Decoding's (Dao, Haziza, Massa and Sizov 2023).
"""

import numpy as np

from tinyllm.kernels.attention.tiles import LN_2, clear, number
from tinyllm.kernels.jit import inlined
from tinyllm.kernels.pointers import Matrix, at, load, move, store, zero
from tinyllm.kernels.simd_math import exp, log, power_of_two

FEW_QUERIES = 4  # up to here one query at a time is faster than a tile with most lanes empty
KEYS_PER_CHUNK = 96


@inlined
def score_row(query, keys, n_keys, n_heads, mask, scale, scores):
    """scores[h, s] = scale · q[h] · K[s, g] of every head, key by key."""
    (queries, query_step), (rows, key_step), n_groups, width = query, keys, n_heads[1], n_heads[2]
    group = n_heads[0] // n_groups
    for s in range(n_keys):
        for h in range(n_heads[0]):
            q, k = move(queries.base, h * query_step), move(at(rows, s, 0).base, h // group * key_step)
            score = zero(scores.base)
            for d in range(width):
                score += load(q, d) * load(k, d)
            seen = mask.size == 0 or mask[s]
            store(scores.base, h * scores.row + s, score * scale if seen else number(scores.base, -np.inf))


@inlined
def softmax_row(scores, n_keys):
    """Turn n_keys scores (in units of log 2) into probabilities, all 0 if nothing is seen; returns log Σ exp."""
    largest, total = number(scores, -np.inf), zero(scores)
    for s in range(n_keys):
        largest = load(scores, s) if load(scores, s) > largest else largest
    shift = largest if largest > -np.inf else zero(scores)
    for s in range(n_keys):
        weight = power_of_two(load(scores, s) - shift)
        store(scores, s, weight)
        total += weight
    inverse = 1 / total if total != 0 else zero(scores)
    for s in range(n_keys):
        store(scores, s, inverse * load(scores, s))
    return largest * number(scores, LN_2) + log(total)


@inlined
def attend_row(query, keys, values, n_keys, n_heads, mask, scale, out, log_normalizer, scores):
    """All heads of one query over one chunk of keys: fills out (H, D) and log_normalizer (H,).

    All but mask, a matrix (positions, D) of the first head and the step from head to head; n_heads: H, G, D; scores: (H, keys).
    """
    score_row(query, keys, n_keys, n_heads, mask, scale, scores)
    (result, step), (normalizer, normalizer_step), group = out, log_normalizer, n_heads[0] // n_heads[1]
    for h in range(n_heads[0]):
        store(normalizer.base, h * normalizer_step, softmax_row(at(scores, h, 0).base, n_keys))
        clear(Matrix(move(result.base, h * step), 0, 1), 1, n_heads[2])
    for s in range(n_keys):
        for h in range(n_heads[0]):
            value, sums = move(at(values[0], s, 0).base, h // group * values[1]), move(result.base, h * step)
            weight = load(scores.base, h * scores.row + s)
            for d in range(n_heads[2]):
                store(sums, d, load(sums, d) + weight * load(value, d))


@inlined
def merge_chunks(out, log_normalizer, n_chunks, width, step, normalizer_step):
    """One query of one head: turn the first of its chunks into the whole. step: from one chunk's numbers to the next's."""
    largest, total = number(out, -np.inf), zero(out)
    for chunk in range(n_chunks):
        normalizer = load(log_normalizer, chunk * normalizer_step)
        largest = normalizer if normalizer > largest else largest
    shift = largest if largest > -np.inf else zero(out)
    for chunk in range(n_chunks):
        weight, part = exp(load(log_normalizer, chunk * normalizer_step) - shift), move(out, chunk * step)
        total += weight
        for d in range(width):
            store(out, d, weight * load(part, d) + (load(out, d) if chunk else zero(out)))
    inverse = 1 / total if total != 0 else zero(out)
    for d in range(width):
        store(out, d, inverse * load(out, d))
    store(log_normalizer, 0, shift + log(total))
