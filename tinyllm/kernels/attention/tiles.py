"""The tile of scores that attention works on: keys down, up to two vectors of queries across, one query to a lane.

The largest, the sum and the power of each query run down its own lane, so nothing is ever added up across a vector. Under
a causal mask the last keys of a tile are seen only by its second vector of queries, and that corner is not computed:

                 first      second vector
              ┌───────────┬───────────┐  ┐
              │  score of │ key s     │  │ both: keys that the first vector sees as well
              │  . for  . │ query t   │  ┘
       keys   └───────────┼───────────┤  ┐
                never read │           │  │ the rest
                           └───────────┘  ┘
What a tile's queries see is `sight` = (first key that query 0 sees, last one, end of the prefix): query j sees the keys from
first + j (if there is a window) up to last + j, and the whole prefix.
Scores are kept in units of log 2: softmax is 2^(score - largest) / Σ, and 2ˣ is cheaper than exp(x).
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

from tinyllm.kernels.jit import OPTIONS, inlined, intrinsic
from tinyllm.kernels.pointers import at, lanes, lanes_of, load, store, turned, zero
from tinyllm.kernels.product.packing import pack_panel
from tinyllm.kernels.product.register_tile import multiply_panel

KEY_BLOCK = 96  # keys in a tile: eight times the 12 rows of the register tile; 96 x 32 scores are 12 kB
NO_WINDOW = -(1 << 40)  # where the first key would be that is seen
LOG2_E, LN_2 = 1 / math.log(2), math.log(2)

# The pieces must melt into the task: only there does the compiler know that the arrays on its stack do not overlap.
piece = njit(forceinline=True, **OPTIONS)


@intrinsic(prefer_literal=True)
def on_stack(typing_context, like, rows):
    """on_stack(like, rows): room for `rows` x two vectors of numbers, until the task calling this ends. rows: a constant."""
    if not isinstance(rows, types.IntegerLiteral):
        return None
    count = rows.literal_value * 2 * lanes_of(like.dtype)

    def codegen(context, builder, signature, args):
        number = context.get_value_type(signature.return_type).pointee
        room = cgutils.alloca_once(builder, ir.ArrayType(number, count))
        room.align = 64
        return builder.bitcast(room, number.as_pointer())

    return types.CPointer(like.dtype)(like, rows), codegen


@intrinsic
def number(typing_context, like, value):
    """number(like, value): `value` in the dtype that `like` points to."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], types.float64, signature.return_type)

    return like.dtype(like, types.float64), codegen


@inlined
def pack_queries(queries, n_queries, width, scale, panel):
    """panel (D x lanes) = scale · Qᵀ for up to two vectors of queries; lanes without a query are 0."""
    size = width * 2 * lanes(panel)
    if n_queries < 2 * lanes(panel):
        for i in range(size):
            store(panel, i, zero(panel))
    pack_panel(turned(queries), width, n_queries, panel)
    for i in range(size):
        store(panel, i, scale * load(panel, i))


@inlined
def sight_of(position, window, prefix, n_keys, causal):
    """What the queries from `position` on see, of n_keys keys; without a window the first key is beyond all counting."""
    if not causal:
        return NO_WINDOW, n_keys, prefix
    return position - window + 1 if window else NO_WINDOW, position, prefix


@inlined
def shifted_sight(sight, n):
    """The same for keys that begin n later."""
    return sight[0] - n, sight[1] - n, sight[2] - n


@piece
def keys_seen(sight, n_queries, n_keys):
    """From which key on, and up to which, some query of the tile sees something."""
    return max(0, sight[0]), min(n_keys, max(sight[1] + n_queries, sight[2]))


@piece
def next_block(s, n_keys):
    """How many keys from s on are taken at once: up to a multiple of KEY_BLOCK, so that no sum depends on where one begins."""
    return min(KEY_BLOCK - s % KEY_BLOCK, n_keys - s)


@piece
def seen_by_both(sight, n_keys, n_queries, numbers):
    """How many of a tile's keys its first vector of queries sees; `sight` counts from its first key."""
    half = lanes(numbers)
    return max(0, min(n_keys, max(sight[1] + half, sight[2]))) if n_queries > half else n_keys


@piece
def multiply_scores(keys, panel, tile, n_keys, both, n_queries, width):
    """tile[s, j] = K[s] · panel[:, j], without the corner that is not seen."""
    side, half = 2 * lanes(keys.base), lanes(keys.base)
    multiply_panel(keys, panel, tile, (both, side if n_queries > half else half, width), 0)
    if both < n_keys:
        multiply_panel(at(keys, both, 0), at(panel, 0, half), at(tile, both, half), (n_keys - both, half, width), 0)


@piece
def multiply_wide(a, b, c, size, accumulate):
    """C (+)= A·B for any number of columns, two vectors at a time. size: rows, columns, depth."""
    side = 2 * lanes(a.base)
    for j in range(0, size[1], side):
        multiply_panel(a, at(b, 0, j), at(c, 0, j), (size[0], min(side, size[1] - j), size[2]), accumulate)


@piece
def add_over_keys(tile, keys, sums, n_keys, both, n_queries, width, accumulate):
    """sums[j] (+)= Σ tile[s, j] · keys[s] over the keys s of the tile that query j sees."""
    half = lanes(keys.base)
    if both == n_keys:
        multiply_wide(turned(tile), keys, sums, (n_queries, width, n_keys), accumulate)
    else:
        multiply_wide(turned(tile), keys, sums, (half, width, both), accumulate)
        multiply_wide(turned(at(tile, 0, half)), keys, at(sums, half, 0), (n_queries - half, width, n_keys), accumulate)


@piece
def add_over_queries(tile, queries, sums, n_keys, both, n_queries, width, accumulate):
    """sums[s] (+)= Σ tile[s, j] · queries[j] over the queries j that see key s."""
    half = lanes(queries.base)
    multiply_wide(tile, queries, sums, (both, width, n_queries), accumulate)
    if both < n_keys:
        size = (n_keys - both, width, n_queries - half)
        multiply_wide(at(tile, both, half), at(queries, half, 0), at(sums, both, 0), size, accumulate)


@piece
def hide_scores(scores, sight, first_key, n_keys, mask):
    """Set to -inf the scores of keys that lane j may not see. `sight` counts from the first of the tile's n_keys keys."""
    side, hidden = 2 * lanes(scores), number(scores, -np.inf)
    for s in range(max(0, sight[1] + 1, sight[2]), n_keys):
        n_hidden = np.int32(s - sight[1])
        for j in range(side):
            store(scores, s * side + j, hidden if np.int32(j) < n_hidden else load(scores, s * side + j))
    for s in range(min(n_keys, sight[0] + side - 1)):
        n_seen = np.int32(s - sight[0] + 1)
        for j in range(side):
            store(scores, s * side + j, hidden if np.int32(j) >= n_seen else load(scores, s * side + j))
    if mask.size:
        for s in range(n_keys):
            if not mask[first_key + s]:
                for j in range(side):
                    store(scores, s * side + j, hidden)


@piece
def clear(matrix, n_rows, width):
    """Write zeros into a matrix (n_rows, width)."""
    for i in range(n_rows):
        row = at(matrix, i, 0).base
        for d in range(width):
            store(row, d, zero(row))
