"""The gradients of attention, in the same tiles as the forward pass (softmax_tiles.py), from the log Σ exp that it kept.

    P = exp(scale · Q Kᵀ - log Σ exp)    dV = Pᵀ dout    dP = dout Vᵀ    dS = P ∘ (dP - rowsum(dout ∘ out))
    dQ = scale · dS K                    dK = scale · dSᵀ Q              (Dao et al. 2022, FlashAttention, appendix B.2)
A task owns dK and dV of one key/value head and goes through the query tiles; a query tile owns its rows of dQ. With fewer
heads than it takes to keep all cores busy, the keys are cut into chunks, each a task with a dQ of its own, added up at the
end: how many depends on the shapes alone, so that any number of threads gives the same bits. FlashAttention adds to one dQ
in whatever order the threads come.
"""

import numpy as np

from tinyllm.kernels.attention.operands import head_of, operand, read_job, sequence_of
from tinyllm.kernels.attention.tiles import (
    KEY_BLOCK,
    LOG2_E,
    add_over_keys,
    add_over_queries,
    clear,
    hide_scores,
    keys_seen,
    multiply_scores,
    number,
    on_stack,
    pack_queries,
    piece,
    seen_by_both,
    shifted_sight,
    sight_of,
)
from tinyllm.kernels.pointers import Matrix, at, lanes, load, move, shifted, store, zero
from tinyllm.kernels.simd_math import power_of_two


@piece
def score_gradients(scores, dscores, n_keys, shift, along):
    """Turn scores into probabilities P, and dP into dS = P (dP - Σ dout · out), in place."""
    side = 2 * lanes(scores)
    for s in range(n_keys):
        for j in range(side):
            probability = power_of_two(load(scores, s * side + j) - load(shift, j))
            store(scores, s * side + j, probability)
            store(dscores, s * side + j, probability * (load(dscores, s * side + j) - load(along, j)))


@piece
def dot_rows(a, b, n_rows, width, factor, result):
    """result[i] = factor · Σ a[i] · b[i]; 0 beyond the last row."""
    for i in range(2 * lanes(result)):
        store(result, i, zero(result))
    for i in range(n_rows):
        left, right, total = at(a, i, 0).base, at(b, i, 0).base, zero(a.base)
        for d in range(width):
            total += load(left, d) * load(right, d)
        store(result, i, factor * total)


@piece
def backward_tile(operands, gradients, sizes, sight, mask, scale, log_normalizer, work, accumulate):
    """One head, up to two vectors of queries: writes dquery (their rows), writes or adds to dkey and dvalue.

    operands: query, key, value, dout, out; gradients: dquery, dkey, dvalue; sizes: number of queries, of keys, D.
    """
    (queries, keys, values, douts, outs), (dqueries, dkeys, dvalues) = operands, gradients
    (n_queries, n_all, width), side = sizes, 2 * lanes(work)
    begin, n_all = keys_seen(sight, n_queries, n_all)
    if n_all <= begin:
        clear(dqueries, n_queries, width)
        return
    scores, dscores = on_stack(work, KEY_BLOCK), on_stack(work, KEY_BLOCK)
    shift, along = on_stack(work, 1), on_stack(work, 1)
    tile, dtile = Matrix(scores, side, 1), Matrix(dscores, side, 1)
    panel, dpanel = Matrix(work, side, 1), Matrix(move(work, width * side), side, 1)
    pack_queries(queries, n_queries, width, scale * number(work, LOG2_E), panel.base)
    pack_queries(douts, n_queries, width, scale, dpanel.base)
    dot_rows(douts, outs, n_queries, width, scale, along)
    for j in range(side):
        normalizer = load(log_normalizer, j) if j < n_queries else zero(work)
        store(shift, j, normalizer * number(work, LOG2_E) if normalizer > -np.inf else zero(work))
    s = begin
    while s < n_all:
        n, here = min(KEY_BLOCK, n_all - s), shifted_sight(sight, s)
        both = seen_by_both(here, n, n_queries, work)
        multiply_scores(at(keys, s, 0), panel, tile, n, both, n_queries, width)
        multiply_scores(at(values, s, 0), dpanel, dtile, n, both, n_queries, width)
        if mask.size or n - 1 > here[1] or here[0] > 1 - side:
            hide_scores(scores, here, s, n, mask)
        score_gradients(scores, dscores, n, shift, along)
        add_over_queries(tile, douts, at(dvalues, s, 0), n, both, n_queries, width, accumulate)
        add_over_queries(dtile, queries, at(dkeys, s, 0), n, both, n_queries, width, accumulate)
        add_over_keys(dtile, at(keys, s, 0), dqueries, n, both, n_queries, width, s - begin)
        s += n


def backward_task(job, mask, work, scale, task):
    """One chunk of one key/value head, and all the query heads that read it, so that each gradient has one writer.

    Operands: query, key, value, out, log_normalizer (B, T, H), dout, dquery, dkey, dvalue; the dquery of chunk i lies i times
    its size further on. The last queries come first: they see every key, so that all of dkey and dvalue is written before
    anything is added; with a window they do not, and both begin at 0. Compiled once, as the symbol tinyllm_attend_back_f32.
    """
    operands, mask, (_, chunk_size, n_rows), n_batch, (n_heads, n_groups, width, causal, window) = read_job(job, mask)
    chunk, b, g = task // (n_batch * n_groups), task // n_groups % n_batch, task % n_groups
    first_query, n_queries, first_key, n_keys, prefix = sequence_of(job, b)
    side, n_tiles = 2 * lanes(work), -(-n_queries // (2 * lanes(work)))
    first, step = chunk * chunk_size, chunk * n_rows * n_heads * width
    place, n_here = first_key + first, min(chunk_size, n_keys - first)
    keys, values = head_of(operand(operands, 1), b, place, g, work), head_of(operand(operands, 2), b, place, g, work)
    dkeys, dvalues = head_of(operand(operands, 7), b, place, g, work), head_of(operand(operands, 8), b, place, g, work)
    if n_queries == 0 or window:
        clear(dkeys, n_here, width)
        clear(dvalues, n_here, width)
    for tile in range(n_heads // n_groups * n_tiles):
        h, t = g * (n_heads // n_groups) + tile // n_tiles, (n_tiles - 1 - tile % n_tiles) * side
        row = first_query + t
        queries, douts = head_of(operand(operands, 0), b, row, h, work), head_of(operand(operands, 5), b, row, h, work)
        outs, dqueries = head_of(operand(operands, 3), b, row, h, work), head_of(operand(operands, 6), b, row, h, work)
        dqueries = shifted(dqueries, step)
        sight = shifted_sight(sight_of(n_keys - n_queries + t, window, prefix, n_keys, causal), first)
        sizes = (min(side, n_queries - t), n_here, width)
        matrices, gradients = (queries, keys, values, douts, outs), (dqueries, dkeys, dvalues)
        normalizer = head_of(operand(operands, 4), b, row, h, work).base
        backward_tile(matrices, gradients, sizes, sight, mask[b, first:], scale, normalizer, work, tile + window)
