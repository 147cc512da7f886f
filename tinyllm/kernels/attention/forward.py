"""Scaled dot-product attention, forward and backward, for any strides, masks and lengths.

    out = softmax(scale · Q Kᵀ + mask) V       (Vaswani et al. 2017, eq. 1), for each head
Here is the way in: arrays become a job (operands.py), a job becomes tasks, the threads take one after the other:

    many queries   a task is one head's tile of 32 queries, which goes through all keys       softmax_tiles.py
    few queries    a task is a chunk of 96 keys for all heads at once, as generation wants    few_queries.py
    backward       a task is one key/value head, or a chunk of its keys if heads are few      gradient.py
What is cut up, and where, depends on the shapes alone, so that any number of threads gives the same bits. Sequences of different
lengths may lie end to end, without padding (`sequences`): each then comes out as it would alone, to the bit; therefore backward
never cuts their keys into chunks, and one long sequence with few heads does not keep many cores busy.
"""

from functools import cache

import numpy as np
from numpy import ndarray

from tinyllm.kernels.attention.few_queries import FEW_QUERIES, KEYS_PER_CHUNK
from tinyllm.kernels.attention.gradient import backward_task
from tinyllm.kernels.attention.operands import FEW, INVARIANT, TILES, check_operands, check_results, make_job, readable, run_job
from tinyllm.kernels.attention.softmax_tiles import forward_task
from tinyllm.kernels.attention.tiles import KEY_BLOCK, LOG2_E
from tinyllm.kernels.attention.visibility import Visibility
from tinyllm.kernels.invariance import batch_invariance
from tinyllm.kernels.pointers import vector_registers
from tinyllm.kernels.product.register_tile import make_symbol, prepare

ENOUGH_TASKS = 16  # with fewer key/value heads than this, backward cuts the keys into chunks
SMALLEST_CHUNK = 256  # keys; below, going through all queries once more costs more than another core brings


@cache
def prepare_attention(dtype: str) -> None:
    """Make the tasks known to the kernel that calls them; needed before the first call with this dtype."""
    prepare(dtype)
    make_symbol("tinyllm_attend", forward_task, "jmpsn", dtype)
    make_symbol("tinyllm_attend_back", backward_task, "jmpsn", dtype)


def tile_width(dtype: np.dtype) -> int:
    """Return how many queries a tile has: two vectors."""
    return 2 * vector_registers()[0] // dtype.itemsize


def attention_forward(
    query: ndarray, key: ndarray, value: ndarray, *, scale: float, visible: Visibility
) -> tuple[ndarray, ndarray]:
    """Return out (B, T, H, D) and log_normalizer (B, H, T), the log of each query's Σ exp(score).

    query (B, T, H, D); key, value (B, S, G, D), H % G == 0: head h reads key/value head h // (H // G). Any strides, the last
    axis contiguous. visible: who sees whom (visibility.py). A query that sees nothing gets zeros and -inf.
    """
    check_operands(query, key, value)
    places, (n_heads, width), dtype = visible.places(query, key), query.shape[2:], query.dtype
    sequences, n_queries, n_keys = places
    few = n_queries <= FEW_QUERIES and (visible.sequences is None or visible.cached) and not batch_invariance()
    n_chunks = max(1, -(-n_keys // KEYS_PER_CHUNK)) if few else 1
    chunk_size = -(-n_keys // n_chunks) if visible.sequences is None else KEYS_PER_CHUNK
    out = np.empty((n_chunks, *query.shape), dtype)
    log_normalizer = np.empty((n_chunks, len(query), n_heads, query.shape[1]), dtype)
    if log_normalizer.size:
        prepare_attention(dtype.name)
        query, key, value = readable(query), readable(key), readable(value)  # named, so that a copy lives until the end
        operands = query, key, value, out[0], log_normalizer[0].swapaxes(1, 2)
        way = FEW if few else INVARIANT if batch_invariance() else TILES
        job = make_job(operands, visible, places, chunks=(n_chunks, chunk_size), way=way)
        side = tile_width(dtype)
        tasks = len(sequences) * (n_chunks if few else n_heads * -(-n_queries // side))
        work = n_heads * chunk_size if few else width * side
        number, merge = dtype.type(scale * LOG2_E), n_chunks > 1
        run_job(job, visible.key_mask, number, tasks=tasks, work=work, most_keys=n_keys, backward=False, merge=merge)
    return out[0], log_normalizer[0]


def chunk_length(n_tasks: int, n_keys: int) -> int:
    """Return how many keys one task takes: all of them, or whole blocks if there are only few tasks (key/value heads)."""
    n_chunks = max(1, min(-(-ENOUGH_TASKS // n_tasks), n_keys // SMALLEST_CHUNK))
    return n_keys if n_chunks == 1 else -(-n_keys // (n_chunks * KEY_BLOCK)) * KEY_BLOCK


def attention_backward(
    dout: ndarray, query: ndarray, key: ndarray, value: ndarray, out: ndarray, log_normalizer: ndarray, *, scale: float,
    visible: Visibility, grads: tuple[ndarray, ndarray, ndarray] | None = None,
) -> tuple[ndarray, ndarray, ndarray]:  # fmt: skip
    """Return dquery (B, T, H, D), dkey and dvalue (B, S, G, D), given out and log_normalizer from the forward pass.

    grads: three arrays, or views with the last axis contiguous, that receive the gradients.
    """
    check_operands(query, key, value)
    if grads is None:
        grads = np.empty_like(query, order="C"), np.empty_like(key, order="C"), np.empty_like(value, order="C")
    if not log_normalizer.size or not key.size:
        for gradient in grads:
            gradient[...] = 0
        return grads
    check_results(query, key, like_query=(dout, out, grads[0]), like_key=grads[1:], log_normalizer=log_normalizer)
    prepare_attention(query.dtype.name)
    places, dtype, n_groups = visible.places(query, key), query.dtype, key.shape[2]
    n_batch, n_keys = len(places.sequences), places.n_keys
    chunk_size = n_keys if visible.sequences is not None else chunk_length(n_batch * n_groups, n_keys)  # alone or not: same bits
    n_chunks, normalizer = max(1, -(-n_keys // max(1, chunk_size))), np.array(log_normalizer, order="C").swapaxes(1, 2)
    if visible.sequences is not None and int(visible.sequences[:, 3].sum()) < key.shape[1]:  # keys of no sequence
        grads[1][...], grads[2][...] = 0, 0
    query, key, value, out, dout = (readable(x) for x in (query, key, value, out, dout))
    dqueries = grads[0][None] if n_chunks == 1 else np.empty((n_chunks, *query.shape), dtype)
    operands = (query, key, value, out, normalizer, dout, dqueries[0], *grads[1:])
    job = make_job(operands, visible, places, chunks=(n_chunks, chunk_size))
    tasks, work = n_chunks * n_batch * n_groups, 2 * tile_width(dtype) * query.shape[3]
    run_job(job, visible.key_mask, dtype.type(scale), tasks=tasks, work=work, most_keys=n_keys, backward=True, merge=False)
    if n_chunks > 1:
        np.sum(dqueries, axis=0, out=grads[0])
    return grads
