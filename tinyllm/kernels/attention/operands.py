"""How query, key, value and their gradients travel from Python into attention's tasks, and how the tasks are shared out.

Each array (B, T, H, D) may lie anywhere with any strides, e.g. as a slice of one packed (B, T, 3, H, D). Handing over the
arrays themselves would compile the kernel again for every combination of layouts, so it gets addresses and strides instead:
one small array of integers. `make_job` packs it on the Python side, `read_job` unpacks it inside the task, `head_of` picks one
head's matrix. Forward and backward tasks look alike from outside, so that one parallel kernel serves both.

A ragged batch has its sequences end to end, without padding, in arrays (1, N, H, D); the job then also says where each begins.
"""

from typing import Any

import numpy as np
from numba import carray, get_num_threads, types
from numpy import ndarray

from tinyllm.kernels.attention.visibility import Places, Visibility
from tinyllm.kernels.jit import inlined, intrinsic, jit, prange
from tinyllm.kernels.pointers import INT64, Matrix, constant, load, move, pointer, start, take_number
from tinyllm.kernels.product.register_tile import call_symbol

NO_MASK = np.zeros((1, 1), dtype=np.uint8)
SMALL = 1 << 17  # multiplications in a product below which waking other threads costs more than it saves
CACHE_LINE = 64  # bytes
TILES, FEW, INVARIANT = range(3)  # the ways: tiles of queries, chunks of keys for few queries, tiles of whole blocks


# ---- Python's side ----


def readable(x: ndarray) -> ndarray:
    """Return x, or a copy if its last axis is not contiguous."""
    return x if x.strides[-1] == x.itemsize and x.flags.aligned else np.array(x, order="C")


def check_operands(query: ndarray, key: ndarray, value: ndarray) -> None:
    """ValueError unless the arrays fit each other: the tasks follow addresses and see no array."""
    fits = query.ndim == key.ndim == 4 and query.dtype == key.dtype == value.dtype
    fits = fits and query.dtype in (np.float32, np.float64) and query.shape[0] == key.shape[0]
    fits = fits and key.shape == value.shape and query.shape[3] == key.shape[3] and query.shape[2] % max(key.shape[2], 1) == 0
    if not fits:
        came = ", ".join(f"{x.dtype} {x.shape}" for x in (query, key, value))
        raise ValueError(f"attention: {came} came; expected (B, T, H, D), (B, S, G, D) twice of one float dtype")


def check_results(
    query: ndarray, key: ndarray, *, like_query: tuple[ndarray, ...], like_key: tuple[ndarray, ...], log_normalizer: ndarray
) -> None:
    """ValueError unless what the forward pass gave, and what shall receive gradients (the last three), fit query and key."""
    B, T, H, _ = query.shape
    fits = all(x.shape == query.shape and x.dtype == query.dtype for x in like_query)
    fits = fits and all(x.shape == key.shape and x.dtype == query.dtype for x in like_key)
    received = (like_query[-1], *like_key)
    fits = fits and all(x.flags.writeable and (x.strides[3] == x.itemsize or x.shape[3] < 2) for x in received)
    if not fits or log_normalizer.shape != (B, H, T) or log_normalizer.dtype != query.dtype:
        came = ", ".join(f"{x.dtype} {x.shape}" for x in (*like_query, *like_key, log_normalizer))
        expected = f"{query.dtype} {query.shape} three times, {key.shape} twice, {(B, H, T)}; rows of gradients contiguous"
        raise ValueError(f"attention_backward: {came} came; {expected} expected")


def make_job(
    operands: tuple[ndarray, ...], visible: Visibility, places: Places, *, chunks: tuple[int, int], way: int = TILES
) -> ndarray:
    """Return all that a task needs to know as one array of integers; `read_job` is the other end.

    First the number of operands, the number of chunks of keys, the keys in each, which way; a row for each operand
    (B, T, H, D) or (B, T, H) of address and strides (batch, position, head), in numbers; B, keys in a row of the mask or 0, all
    queries, most queries of a sequence; H, G, D, causal; window or 0; then the sequences.
    """
    query, size, ragged = operands[0], operands[0].itemsize, visible.sequences is not None
    job = [len(operands), *chunks, way]
    for x in operands:
        batch, position, head = x.strides[:3]
        job += (x.__array_interface__["data"][0], 0 if ragged else batch // size, position // size, head // size)
    masked = 0 if visible.key_mask is None else operands[1].shape[1]
    (n_heads, width), n_groups = query.shape[2:], operands[1].shape[2]
    job += (len(places.sequences), masked, query.shape[0] * query.shape[1], places.n_queries)
    job += (n_heads, n_groups, width, visible.causal)
    return np.concatenate([np.array([*job, visible.window or 0], np.int64), places.sequences.ravel()])


def run_job(
    job: ndarray, mask: ndarray | None, scale: np.floating, *, tasks: int, work: int, most_keys: int, backward: bool, merge: bool
) -> None:
    """Run all tasks of a job, and with `merge` a last one alone. mask: (B, S) bool; work: numbers of room that a thread needs.

    most_keys: of one sequence; with `job`, how much there is to do.
    """
    _, _, n_rows, _, n_heads, _, width, _ = job[4 * (job[0] + 1) :][:8].tolist()
    alone = n_rows * n_heads * most_keys * width < SMALL
    masks = NO_MASK if mask is None else np.array(mask, dtype=np.uint8, order="C")  # the one layout that is compiled for
    room = np.empty((1 if alone else get_num_threads(), work + CACHE_LINE), scale.dtype)
    _run(job, masks, room, scale, tasks, backward, merge)


# ---- the kernel ----


def task_call(symbol: str) -> Any:
    """Return an intrinsic that calls the machine code `symbol`: (job, mask, work, scale, task number)."""

    @intrinsic
    def call(typing_context, job, mask, work, scale, task):
        def codegen(context, builder, signature, args):
            call_symbol(builder, symbol, signature.args[3], args)
            return context.get_dummy_value()

        return types.void(job, mask, work, scale, types.intp), codegen

    return call


forward_call, backward_call = task_call("tinyllm_attend"), task_call("tinyllm_attend_back")


@intrinsic
def aligned(typing_context, array):
    """aligned(array): a pointer to the first number of a contiguous array that begins a cache line."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.add(builder.ptrtoint(data, INT64), constant(CACHE_LINE - 1))
        return builder.inttoptr(builder.and_(address, constant(-CACHE_LINE)), data.type)

    return types.CPointer(array.dtype)(array), codegen


@inlined
def take_tasks(job, mask, work, scale, counter, n_tasks, backward):
    """Take tasks until none is left."""
    task = take_number(counter)
    while task < n_tasks:
        if backward:
            backward_call(start(job), start(mask), aligned(work), scale, task)
        else:
            forward_call(start(job), start(mask), aligned(work), scale, task)
        task = take_number(counter)


@jit(parallel=True)
def _run(job, mask, work, scale, n_tasks, backward, merge):
    """Every row of `work` is a thread that takes one task after the other; each task writes only its own rows."""
    counter = np.zeros(1, np.int64)
    if len(work) == 1:
        take_tasks(job, mask, work[0], scale, counter, n_tasks, backward)
    else:
        for worker in prange(len(work)):
            take_tasks(job, mask, work[worker], scale, counter, n_tasks, backward)
    if merge:
        counter[0] = n_tasks
        take_tasks(job, mask, work[0], scale, counter, n_tasks + 1, backward)


# ---- the task's side ----


@inlined
def read_job(job, mask):
    """Return what `make_job` packed: operands, mask (B, S), (chunks, keys in each, all queries), B, (H, G, D, causal, window)."""
    operands, n_operands = move(job, 4), load(job, 0)
    sizes, heads = move(operands, 4 * n_operands), move(operands, 4 * n_operands + 4)
    masks, chunks = carray(mask, (load(sizes, 0), load(sizes, 1))), (load(job, 1), load(job, 2), load(sizes, 2))
    return (
        operands,
        masks,
        chunks,
        load(sizes, 0),
        (load(heads, 0), load(heads, 1), load(heads, 2), load(heads, 3), load(heads, 4)),
    )


@inlined
def is_few(job):
    """Whether there are so few queries that the keys are shared out instead."""
    return load(job, 3) == FEW


@inlined
def is_invariant(job):
    """Whether a query's bits shall depend on the query and its keys alone."""
    return load(job, 3) == INVARIANT


@inlined
def most_queries(job):
    """The most queries of a sequence."""
    return load(job, 4 * (load(job, 0) + 1) + 3)


@inlined
def sequence_of(job, batch):
    """Where one sequence of the batch lies: its first query, its queries, its first key, its keys; and its prefix."""
    place = move(job, 4 * (load(job, 0) + 1) + 9 + 5 * batch)
    return load(place, 0), load(place, 1), load(place, 2), load(place, 3), load(place, 4)


@intrinsic
def operand(typing_context, operands, i):
    """operand(operands, i): the four integers of operand i. (As a number i would have each of its values compiled anew.)"""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [builder.mul(args[1], constant(4))])

    return operands(operands, types.intp), codegen


@inlined
def head_of(place, batch, position, head, like):
    """The matrix (positions, D) of one head of an operand, from `position` on."""
    row, shift = load(place, 2), batch * load(place, 1) + position * load(place, 2) + head * load(place, 3)
    return Matrix(move(pointer(load(place, 0), like), shift), row, 1)


@inlined
def rows_of(place, batch, position, like):
    """All heads of an operand, from `position` on: the first head's matrix, and the step from one head to the next."""
    return head_of(place, batch, position, 0, like), load(place, 3)
