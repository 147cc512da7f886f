"""Attention's forward pass in tiles of 32 queries by 96 keys: no T x S matrix is ever kept.

    out = softmax(scale · Q Kᵀ + mask) V       (Vaswani et al. 2017, eq. 1), for each head
Softmax needs the largest score and the sum of a whole row, yet keys can be taken a block at a time: keep the largest so far
m, the sum so far and the output so far; when a block brings a larger m', multiply sum and output by exp(m - m') (Milakov and
Gimelshein 2018, "Online normalizer calculation"; Dao et al. 2022, FlashAttention, algorithm 1). Unlike there, a tile of
scores stands on its side, keys down, queries across (drawn in tiles.py): K is the tile's left operand and V its
right one, both read where they lie; only Qᵀ is packed, once for all the keys. The backward pass: gradient.py.
"""

import numpy as np

from tinyllm.kernels.attention.few_queries import attend_row, merge_chunks
from tinyllm.kernels.attention.operands import (
    head_of,
    is_few,
    is_invariant,
    most_queries,
    operand,
    read_job,
    rows_of,
    sequence_of,
)
from tinyllm.kernels.attention.tiles import (
    KEY_BLOCK,
    LN_2,
    add_over_keys,
    clear,
    hide_scores,
    keys_seen,
    multiply_scores,
    next_block,
    number,
    on_stack,
    pack_queries,
    piece,
    seen_by_both,
    shifted_sight,
    sight_of,
)
from tinyllm.kernels.pointers import Matrix, at, lanes, load, shifted, store, zero
from tinyllm.kernels.simd_math import log, power_of_two


@piece
def absorb_scores(scores, n_keys, largest, shift, factor, total):
    """Turn a tile of scores into 2^(score - largest so far); `factor` is what everything older must be multiplied by."""
    side = 2 * lanes(scores)
    for j in range(side):
        store(factor, j, load(largest, j))
    for s in range(n_keys):
        for j in range(side):
            score, most = load(scores, s * side + j), load(largest, j)
            store(largest, j, score if score > most else most)
    for j in range(side):
        most = load(largest, j)
        store(shift, j, most if most > -np.inf else zero(scores))  # nothing seen yet: -inf - 0 is fine, -inf + inf is nan
    for j in range(side):
        store(factor, j, power_of_two(load(factor, j) - load(shift, j)))
    for j in range(side):
        store(total, j, load(total, j) * load(factor, j))
    for s in range(n_keys):
        for j in range(side):
            weight = power_of_two(load(scores, s * side + j) - load(shift, j))
            store(scores, s * side + j, weight)
            store(total, j, load(total, j) + weight)


@piece
def scale_rows(matrix, n_rows, width, factor):
    """Multiply row i of a matrix (n_rows, width) by factor[i]."""
    for i in range(n_rows):
        row, by = at(matrix, i, 0).base, load(factor, i)
        for d in range(width):
            store(row, d, by * load(row, d))


@piece
def attend_tile(queries, keys, values, sizes, sight, mask, scale, out, log_normalizer, work):
    """One head, up to two vectors of queries: fills out (queries, D) and log_normalizer (queries,).

    sizes: number of queries, of keys, D, and whether every block is made whole, so that sums over keys are taken in the same
    groups however many of its keys are seen (kernels/invariance.py); sight: what the queries see (tiles.py).
    """
    (n_queries, n_keys, width, whole), side = sizes, 2 * lanes(work)
    scores, largest, total = on_stack(work, KEY_BLOCK), on_stack(work, 1), on_stack(work, 1)
    shift, factor = on_stack(work, 1), on_stack(work, 1)
    tile, panel = Matrix(scores, side, 1), Matrix(work, side, 1)
    pack_queries(queries, n_queries, width, scale, work)
    for j in range(side):
        store(largest, j, number(work, -np.inf))
        store(total, j, zero(work))
    begin, n_keys = keys_seen(sight, n_queries, n_keys)
    begin = begin // KEY_BLOCK * KEY_BLOCK if whole else begin
    s = begin
    while s < n_keys:
        n, here = next_block(s, n_keys), shifted_sight(sight, s)
        both = seen_by_both(here, n, n_queries, work)
        multiply_scores(at(keys, s, 0), panel, tile, n, both, n_queries, width)
        if mask.size or n - 1 > here[1] or here[0] > 1 - side:
            hide_scores(scores, here, s, n, mask)
        if whole:
            for i in range(n * side, KEY_BLOCK * side):
                store(scores, i, number(work, -np.inf))
        absorb_scores(scores, KEY_BLOCK if whole else n, largest, shift, factor, total)
        if s > begin:
            scale_rows(out, n_queries, width, factor)
        add_over_keys(tile, at(values, s, 0), out, n, both, n_queries, width, s - begin)
        s += n
    for j in range(n_queries):
        sum_ = load(total, j)
        store(factor, j, 1 / sum_ if sum_ != 0 else zero(work))
        store(log_normalizer, j, load(largest, j) * number(work, LN_2) + log(sum_))
    if n_keys > begin:
        scale_rows(out, n_queries, width, factor)
    else:
        clear(out, n_queries, width)


@piece
def attend_few(job, mask, scale, work, task):
    """One chunk of keys of one sequence, for all heads of its few queries; after the last task, all chunks are merged."""
    operands, mask, (n_chunks, chunk_size, n_rows), n_batch, (n_heads, n_groups, width, causal, window) = read_job(job, mask)
    step, normalizer_step = n_rows * n_heads * width, n_rows * n_heads
    if task < n_batch * n_chunks:
        b, chunk = task // n_chunks, task % n_chunks
        first, heads = chunk * chunk_size, (n_heads, n_groups, width)
        first_query, n_queries, first_key, n_keys, prefix = sequence_of(job, b)
        for t in range(n_queries):
            sight = shifted_sight(sight_of(n_keys - n_queries + t, window, prefix, n_keys, causal), first)
            begin, end = keys_seen(sight, 1, min(chunk_size, n_keys - first))
            row, place = first_query + t, first_key + first + begin
            keys, values = rows_of(operand(operands, 1), b, place, work), rows_of(operand(operands, 2), b, place, work)
            query, out = rows_of(operand(operands, 0), b, row, work), rows_of(operand(operands, 3), b, row, work)
            normalizer, scores = rows_of(operand(operands, 4), b, row, work), Matrix(work, chunk_size, 1)
            out = shifted(out[0], chunk * step), out[1]
            normalizer = shifted(normalizer[0], chunk * normalizer_step), normalizer[1]
            seen = mask[b, first + begin :]
            attend_row(query, keys, values, max(0, end - begin), heads, seen, scale, out, normalizer, scores)
    else:
        for b in range(n_batch):
            first_query, n_queries, _, _, _ = sequence_of(job, b)
            for row in range(n_queries * n_heads):
                t, h = first_query + row // n_heads, row % n_heads
                whole, log_normalizer = head_of(operand(operands, 3), b, t, h, work), head_of(operand(operands, 4), b, t, h, work)
                merge_chunks(whole.base, log_normalizer.base, n_chunks, width, step, normalizer_step)


def forward_task(job, mask, work, scale, task):
    """One tile of queries of one head; the last, which see the most keys, come first. Few queries go another way.

    Operands: query, key, value, out, log_normalizer (B, T, H). Compiled once, as the symbol tinyllm_attend_f32.
    """
    if is_few(job):
        attend_few(job, mask, scale, work, task)
        return
    operands, masks, _, _, (n_heads, n_groups, width, causal, window) = read_job(job, mask)
    side = 2 * lanes(work)
    n_tiles = -(-most_queries(job) // side)
    t, h, b = (n_tiles - 1 - task % n_tiles) * side, task // n_tiles % n_heads, task // (n_tiles * n_heads)
    first, n_queries, first_key, n_keys, prefix = sequence_of(job, b)
    if t < n_queries:  # else the sequence ends before this tile
        g, sizes, row = h // (n_heads // n_groups), (min(side, n_queries - t), n_keys, width, is_invariant(job)), first + t
        queries, out = head_of(operand(operands, 0), b, row, h, work), head_of(operand(operands, 3), b, row, h, work)
        keys, values = head_of(operand(operands, 1), b, first_key, g, work), head_of(operand(operands, 2), b, first_key, g, work)
        normalizer = head_of(operand(operands, 4), b, row, h, work).base
        sight = sight_of(n_keys - n_queries + t, window, prefix, n_keys, causal)
        attend_tile(queries, keys, values, sizes, sight, masks[b], scale, out, normalizer, work)
