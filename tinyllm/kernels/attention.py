"""Scaled dot-product attention, forward and backward, in tiles: no T x S matrix is ever kept.

    out = softmax(scale · Q Kᵀ + mask) V       (Vaswani et al. 2017, eq. 1), for each head
Softmax needs the largest score and the sum of a whole row, yet keys can be taken a block at a time: keep the largest so far
m, the sum so far and the output so far; when a block brings a larger m', multiply sum and output by exp(m - m') (Milakov and
Gimelshein 2018, "Online normalizer calculation"; Dao et al. 2022, FlashAttention, algorithm 1). The backward pass computes the
scores again from log Σ exp, the only thing kept. Unlike there, a tile of scores stands on its side, keys down, queries across:

                    32 queries (two vectors)
           ┌──────────────────────────────────┐      the largest, the sum and exp of each query run down its own lane;
   96 keys │ score of key s for query t       │      K is the tile's left operand and V its right one, both read where
           └──────────────────────────────────┘      they lie; only Qᵀ (and dOutᵀ) is packed, once a tile
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray, types
from numpy import ndarray

from tinyllm.kernels.attention_operands import head_of, make_job, mask_rows, read_job, readable
from tinyllm.kernels.jit import inlined, intrinsic, jit, prange
from tinyllm.kernels.packing import pack_panel
from tinyllm.kernels.pointers import Matrix, at, lanes, load, move, start, store, take_number, thread_count, turned, zero
from tinyllm.kernels.register_tile import call_symbol, make_symbol, multiply_panel, prepare
from tinyllm.kernels.simd_math import exp, log

KEY_BLOCK = 96  # keys in a tile: eight times the 12 rows of the register tile; 96 x 32 scores are 12 kB
FEW_QUERIES = 8  # up to here one query at a time is faster than a tile with most lanes empty
SMALL = 1 << 19  # multiplications below which waking other threads costs more than it saves


# ---- pieces ----


@inlined
def tile_width(n_queries, numbers):
    """How many queries go into one task."""
    return 1 if n_queries <= FEW_QUERIES else 2 * lanes(numbers)


@inlined
def pack_queries(queries, n_queries, width, scale, panel):
    """panel (D x lanes) = scale · Qᵀ for up to two vectors of queries; lanes without a query are 0."""
    if n_queries < 2 * lanes(queries.base):
        panel[:] = 0
    pack_panel(turned(queries), width, n_queries, start(panel))
    for i in range(panel.size):
        panel[i] *= scale


@inlined
def hide_scores(scores, first_key, n_keys, last_seen, mask):
    """Set to -inf the scores of keys that may not be seen: lane j sees key s if s <= last_seen + j and mask[s]."""
    side = scores.size // KEY_BLOCK
    hidden = scores.dtype.type(-np.inf)
    for s in range(n_keys):
        n_hidden = min(side, first_key + s - last_seen)
        if mask.size and not mask[first_key + s]:
            n_hidden = side
        for j in range(n_hidden):
            scores[s * side + j] = hidden


@inlined
def multiply_wide(a, b, c, size):
    """C += A·B for any number of columns, two vectors at a time. size: rows, columns, depth."""
    side = 2 * lanes(a.base)
    for j in range(0, size[1], side):
        multiply_panel(a, at(b, 0, j), at(c, 0, j), (size[0], min(side, size[1] - j), size[2]), 1)


# ---- forward ----


@inlined
def absorb_scores(scores, n_keys, largest, shift, factor, total):
    """Turn a tile of scores into exp(score - largest so far); `factor` is what everything older must be multiplied by."""
    side = largest.size
    for j in range(side):
        factor[j] = largest[j]
    for s in range(n_keys):
        for j in range(side):
            score = scores[s * side + j]
            largest[j] = score if score > largest[j] else largest[j]
    for j in range(side):
        shift[j] = largest[j] if largest[j] > -np.inf else 0  # nothing seen yet: -inf - 0 is fine, -inf + inf is nan
        factor[j] = exp(factor[j] - shift[j])
        total[j] *= factor[j]
    for s in range(n_keys):
        for j in range(side):
            weight = exp(scores[s * side + j] - shift[j])
            scores[s * side + j] = weight
            total[j] += weight


@inlined
def shrink_rows(sums, n_queries, factor):
    """Multiply row j of the output so far by factor[j]."""
    for j in range(n_queries):
        if factor[j] != 1:
            row = sums[j]
            for d in range(row.size):
                row[d] *= factor[j]


@inlined
def attend_tile(queries, keys, values, n_keys, last_seen, mask, scale, out, log_normalizer):
    """One head, up to two vectors of queries: fills out (queries, D; a view) and log_normalizer (queries,).

    Query j sees the keys up to last_seen + j, of n_keys.
    """
    (n_queries, width), side, dtype = out.shape, 2 * lanes(queries.base), out.dtype
    panel, scores, sums = np.empty(width * side, dtype), np.empty(KEY_BLOCK * side, dtype), np.zeros((side, width), dtype)
    largest, total = np.full(side, -np.inf, dtype), np.zeros(side, dtype)
    shift, factor = np.empty(side, dtype), np.empty(side, dtype)
    score_tile, out_tile = Matrix(start(scores), side, 1), Matrix(start(sums), width, 1)
    pack_queries(queries, n_queries, width, scale, panel)
    n_keys = min(n_keys, last_seen + n_queries)
    for s in range(0, n_keys, KEY_BLOCK):
        n = min(KEY_BLOCK, n_keys - s)
        multiply_panel(at(keys, s, 0), Matrix(start(panel), side, 1), score_tile, (n, side, width), 0)
        if mask.size or s + n - 1 > last_seen:
            hide_scores(scores, s, n, last_seen, mask)
        absorb_scores(scores, n, largest, shift, factor, total)
        shrink_rows(sums, n_queries, factor)
        multiply_wide(turned(score_tile), at(values, s, 0), out_tile, (n_queries, width, n))
    for j in range(n_queries):
        inverse = 1 / total[j] if total[j] != 0 else zero(queries.base)
        for d in range(width):
            out[j, d] = sums[j, d] * inverse
        log_normalizer[j] = largest[j] + log(total[j])


@inlined
def attend_query(query, keys, values, n_keys, mask, scale, out):
    """One head, one query, as in generation: fills out (D,) and returns log Σ exp."""
    hidden = out.dtype.type(-np.inf)
    scores = np.empty(n_keys, out.dtype)
    largest, total = hidden, zero(query.base)
    for s in range(n_keys):
        key, score = move(keys.base, s * keys.row), zero(query.base)
        for d in range(out.size):
            score += load(query.base, d) * load(key, d)
        scores[s] = score * scale if mask.size == 0 or mask[s] else hidden
        largest = scores[s] if scores[s] > largest else largest
    shift = largest if largest > -np.inf else zero(query.base)
    for s in range(n_keys):
        scores[s] = exp(scores[s] - shift)
        total += scores[s]
    row = Matrix(start(out), 0, 1)
    out[:] = 0
    multiply_wide(Matrix(start(scores), 0, 1), values, row, (1, out.size, n_keys))
    inverse = 1 / total if total != 0 else zero(query.base)
    for d in range(out.size):
        out[d] *= inverse
    return largest + log(total)


def forward_task(job, mask, out, log_normalizer, scale, task):
    """One head and one tile of queries, or one query if there are few. Compiled once, as the symbol tinyllm_attend_f32."""
    operands, mask, (n_batch, n_queries, n_keys), (n_heads, n_groups, width, causal) = read_job(job, mask)
    out = carray(out, (n_batch, n_queries, n_heads, width))
    log_normalizer = carray(log_normalizer, (n_batch, n_heads, n_queries))
    step = tile_width(n_queries, start(out))
    n_tiles = -(-n_queries // step)
    t, h, b = task % n_tiles * step, task // n_tiles % n_heads, task // (n_tiles * n_heads)
    group = h // (n_heads // n_groups)
    queries, keys = head_of(operands[0], b, t, h, out), head_of(operands[1], b, 0, group, out)
    values = head_of(operands[2], b, 0, group, out)
    last_seen = n_keys - n_queries + t if causal else n_keys
    if step == 1:
        n_keys = max(0, min(n_keys, last_seen + 1))
        log_normalizer[b, h, t] = attend_query(queries, keys, values, n_keys, mask[b], scale, out[b, t, h])
    else:
        tile, normalizer = out[b, t : t + step, h], log_normalizer[b, h, t : t + step]
        attend_tile(queries, keys, values, n_keys, last_seen, mask[b], scale, tile, normalizer)


@intrinsic
def attend(typing_context, job, mask, out, log_normalizer, scale, task):
    """Call `forward_task` by its symbol."""

    def codegen(context, builder, signature, args):
        call_symbol(builder, "tinyllm_attend", signature.args[4], args)
        return context.get_dummy_value()

    return types.void(job, mask, out, log_normalizer, out.dtype, types.intp), codegen


@jit(parallel=True)
def _forward(job, mask, out, log_normalizer, scale):
    """Every tile of queries of every head is a task; each writes only its own rows."""
    (n_batch, n_queries, n_heads, _), factor = out.shape, out.dtype.type(scale)
    n_tasks = n_batch * n_heads * -(-n_queries // tile_width(n_queries, start(out)))
    if out.size * job[-2, 2] < SMALL:
        for task in range(n_tasks):
            attend(start(job), start(mask), start(out), start(log_normalizer), factor, task)
    else:
        counter = np.zeros(1, np.int64)
        for _ in prange(thread_count()):
            task = take_number(counter)
            while task < n_tasks:
                attend(start(job), start(mask), start(out), start(log_normalizer), factor, task)
                task = take_number(counter)


def attention_forward(
    query: ndarray,
    key: ndarray,
    value: ndarray,
    *,
    scale: float,
    causal: bool,
    key_mask: ndarray | None = None,
) -> tuple[ndarray, ndarray]:
    """Return out (B, T, H, D) and log_normalizer (B, H, T), the log of each query's Σ exp(score).

    query (B, T, H, D); key, value (B, S, G, D), H % G == 0: head h reads key/value head h // (H // G). Any strides, the last
    axis contiguous. key_mask (B, S): True = may be seen. causal: query t sees keys s <= t + (S - T). A query that sees nothing
    gets zeros and -inf.
    """
    n_batch, n_queries, n_heads, _ = query.shape
    out = np.empty(query.shape, dtype=query.dtype)
    log_normalizer = np.empty((n_batch, n_heads, n_queries), dtype=query.dtype)
    if log_normalizer.size:
        prepare_attention(query.dtype.name)
        query, key, value = readable(query), readable(key), readable(value)  # named, so that a copy lives until the end
        job = make_job((query, key, value), causal, key_mask is not None)
        _forward(job, mask_rows(key_mask), out, log_normalizer, scale)
    return out, log_normalizer


# ---- backward ----


@inlined
def score_gradients(scores, dscores, n_keys, log_normalizer, along, scale):
    """Turn scores into probabilities P, and dP into dS = scale · P (dP - Σ dout · out), in place."""
    side = along.size
    for s in range(n_keys):
        for j in range(side):
            probability = exp(scores[s * side + j] - log_normalizer[j])
            scores[s * side + j] = probability
            dscores[s * side + j] = scale * probability * (dscores[s * side + j] - along[j])


@inlined
def backward_tile(operands, gradients, n_keys, last_seen, mask, scale, shift, along):
    """One head, up to two vectors of queries: adds to dquery (their rows), dkey and dvalue (rows of the keys they see).

    operands: queries, keys, values, douts; gradients: dqueries, dkeys, dvalues; n_keys: S, number of queries here, D.
    """
    (queries, keys, values, douts), (dqueries, dkeys, dvalues) = operands, gradients
    (n_all, n_queries, width), side, dtype = n_keys, along.size, along.dtype
    panel, dpanel = np.empty(width * side, dtype), np.empty(width * side, dtype)
    scores, dscores = np.empty(KEY_BLOCK * side, dtype), np.empty(KEY_BLOCK * side, dtype)
    score_tile, dscore_tile = Matrix(start(scores), side, 1), Matrix(start(dscores), side, 1)
    pack_queries(queries, n_queries, width, scale, panel)
    pack_queries(douts, n_queries, width, dtype.type(1), dpanel)
    n_all = min(n_all, last_seen + n_queries)
    for s in range(0, n_all, KEY_BLOCK):
        n = min(KEY_BLOCK, n_all - s)
        multiply_panel(at(keys, s, 0), Matrix(start(panel), side, 1), score_tile, (n, side, width), 0)
        multiply_panel(at(values, s, 0), Matrix(start(dpanel), side, 1), dscore_tile, (n, side, width), 0)
        if mask.size or s + n - 1 > last_seen:
            hide_scores(scores, s, n, last_seen, mask)
        score_gradients(scores, dscores, n, shift, along, scale)
        multiply_wide(score_tile, douts, at(dvalues, s, 0), (n, width, n_queries))
        multiply_wide(dscore_tile, queries, at(dkeys, s, 0), (n, width, n_queries))
        multiply_wide(turned(dscore_tile), at(keys, s, 0), dqueries, (n_queries, width, n))


@inlined
def clear(matrix, n_rows, width):
    """Write zeros into a matrix (n_rows, width)."""
    for i in range(n_rows):
        row = at(matrix, i, 0).base
        for d in range(width):
            store(row, d, zero(row))


@inlined
def dot_rows(a, b, n_rows, width, result):
    """result[i] = Σ a[i] · b[i]; 0 beyond the last row."""
    result[:] = 0
    for i in range(n_rows):
        left, right, total = at(a, i, 0).base, at(b, i, 0).base, zero(a.base)
        for d in range(width):
            total += load(left, d) * load(right, d)
        result[i] = total


def backward_task(job, mask, log_normalizer, scale, task):
    """One key/value head and all the query heads that read it, so that each gradient has one writer.

    Operands: query, key, value, dout, out, dquery, dkey, dvalue. Compiled once, as the symbol tinyllm_attend_back_f32.
    """
    operands, mask, (n_batch, n_queries, n_keys), (n_heads, n_groups, width, causal) = read_job(job, mask)
    like = carray(log_normalizer, (n_batch, n_heads, n_queries))
    side, group, b, g = 2 * lanes(log_normalizer), n_heads // n_groups, task // n_groups, task % n_groups
    shift, along = np.empty(side, like.dtype), np.empty(side, like.dtype)
    keys, values = head_of(operands[1], b, 0, g, like), head_of(operands[2], b, 0, g, like)
    dkeys, dvalues = head_of(operands[6], b, 0, g, like), head_of(operands[7], b, 0, g, like)
    clear(dkeys, n_keys, width)
    clear(dvalues, n_keys, width)
    for tile in range(group * -(-n_queries // side)):
        h, t = g * group + tile % group, tile // group * side
        n = min(side, n_queries - t)
        queries, douts = head_of(operands[0], b, t, h, like), head_of(operands[3], b, t, h, like)
        dqueries = head_of(operands[5], b, t, h, like)
        clear(dqueries, n, width)
        dot_rows(douts, head_of(operands[4], b, t, h, like), n, width, along)
        shift[:] = 0
        for j in range(n):
            shift[j] = like[b, h, t + j] if like[b, h, t + j] > -np.inf else 0
        last_seen = n_keys - n_queries + t if causal else n_keys
        matrices, gradients = (queries, keys, values, douts), (dqueries, dkeys, dvalues)
        backward_tile(matrices, gradients, (n_keys, n, width), last_seen, mask[b], scale, shift, along)


@intrinsic
def attend_back(typing_context, job, mask, log_normalizer, scale, task):
    """Call `backward_task` by its symbol."""

    def codegen(context, builder, signature, args):
        call_symbol(builder, "tinyllm_attend_back", signature.args[3], args)
        return context.get_dummy_value()

    return types.void(job, mask, log_normalizer, log_normalizer.dtype, types.intp), codegen


@jit(parallel=True)
def _backward(job, mask, log_normalizer, scale, n_tasks):
    """Every key/value head is a task."""
    factor = log_normalizer.dtype.type(scale)
    if log_normalizer.size * job[-2, 2] * job[-1, 2] < SMALL:
        for task in range(n_tasks):
            attend_back(start(job), start(mask), start(log_normalizer), factor, task)
    else:
        counter = np.zeros(1, np.int64)
        for _ in prange(thread_count()):
            task = take_number(counter)
            while task < n_tasks:
                attend_back(start(job), start(mask), start(log_normalizer), factor, task)
                task = take_number(counter)


@cache
def prepare_attention(dtype: str) -> None:
    """Make the tasks known to the kernels that call them; needed before the first call with this dtype."""
    prepare(dtype)
    make_symbol("tinyllm_attend", forward_task, "jmppsn", dtype)
    make_symbol("tinyllm_attend_back", backward_task, "jmpsn", dtype)


def attention_backward(
    dout: ndarray,
    query: ndarray,
    key: ndarray,
    value: ndarray,
    out: ndarray,
    log_normalizer: ndarray,
    *,
    scale: float,
    causal: bool,
    key_mask: ndarray | None = None,
    grads: tuple[ndarray, ndarray, ndarray] | None = None,
) -> tuple[ndarray, ndarray, ndarray]:
    """Return dquery (B, T, H, D), dkey and dvalue (B, S, G, D), given out and log_normalizer from the forward pass.

    grads: three arrays, or views with the last axis contiguous, that receive the gradients.
    """
    if grads is None:
        grads = np.empty_like(query, order="C"), np.empty_like(key, order="C"), np.empty_like(value, order="C")
    if log_normalizer.size and key.size:
        prepare_attention(query.dtype.name)
        inputs = [readable(x) for x in (query, key, value, dout, out)]  # named, so that a copy lives until the end
        job, normalizer = make_job((*inputs, *grads), causal, key_mask is not None), np.array(log_normalizer, order="C")
        _backward(job, mask_rows(key_mask), normalizer, scale, key.shape[0] * key.shape[2])
    else:
        for gradient in grads:
            gradient[...] = 0
    return grads
