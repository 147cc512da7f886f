"""The matrix product C = A·B, C[i, j] = Σₖ A[i, k] B[k, j], cut into blocks so that each number fetched is used many times.

Three plain loops do 2·M·N·K operations but fetch about as many numbers; memory is 50 times slower than arithmetic. Blocks
cure it, one size for each level of memory (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"):

                        columns of a task (256)                    registers   tile of C, 12 x 32 sums
                       ┌────────┐                                  L1 cache    12 rows of A (depth 384), read over and over
            depth  384 │ packed │  B, one panel of 32 columns      L2 cache    the packed slab of B, 384 x 256
                       │   B    │  after the other                 L3, memory  A and C, passed over once a slab
          ┌── 384 ──┐  └────────┘
     12 ▒▒│▒▒▒▒▒▒▒▒▒│  ┌────────┐                                  Every core works on its own block of C and packs its own
          │    A    │  │ ▒ C    │                                  slab, so there is one launch and no waiting in between.
          └─────────┘  └────────┘
The sum over k always runs in the same order, so the bits do not depend on the number of threads. Operands of any strides are
copied piece by piece into the order the tile wants, which turns a transposed one over on the way: transposing is free. The
tile is in register_tile.py, packing in packing.py, products of a few rows in matrix_vector.py.
"""

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils

from tinyllm.kernels.jit import inlined, intrinsic, jit, max_threads, prange
from tinyllm.kernels.pointers import Matrix, at, lanes, matrix_of, move, shifted, start, take_number, thread_count, tile_rows
from tinyllm.kernels.product.epilogue import ADD_TO, NOTHING, Epilogue, epilogue, finish_block
from tinyllm.kernels.product.matrix_vector import has_few_rows, multiply_few
from tinyllm.kernels.product.packing import gather_rows, pack_slab
from tinyllm.kernels.product.register_tile import call_symbol, make_symbol, multiply_panel, prepare

DEPTH_BLOCK = 384  # steps of k summed in the registers before C is touched; twice as many if B is narrow
PANELS = 8  # panels of two vectors in a packed slab: 8 x 32 columns x 384 x 4 bytes = 393 kB, under half of an L2 cache
STRIPE = 48  # rows gathered at a time where A's columns are contiguous, so that whole cache lines are used; else one tile's
DEEPEST_BLOCK = 2 * DEPTH_BLOCK
LINE = DEEPEST_BLOCK + 16  # numbers from one gathered row of A to the next
SLAB = DEPTH_BLOCK * PANELS * 2 * 64  # bytes of one thread's slab
GATHER = STRIPE * LINE * 8  # bytes of the gathered rows of A behind it
SMALL = 1 << 21  # multiplications below which waking other threads costs more than it saves


@inlined
def multiply_packed(a, b, c, size, slab, plan):
    """One task's block of C (rows × columns) = A·B: for every `steps` of the depth pack B, then run the tiles down the rows.

    plan: (steps; whether the slab already holds this B, packed for the worker's previous task; whether to add to C).
    """
    (rows, columns, depth), (steps, known, add_to) = size, plan
    width, stripe = 2 * lanes(slab), tile_rows(slab) if a.column == 1 else STRIPE
    gathered = move(slab, PANELS * width * DEPTH_BLOCK)
    for k in range(0, max(1, depth), steps):
        n = min(steps, depth - k)
        if not known or n < depth:
            pack_slab(at(b, k, 0), n, columns, slab, steps * width)
        for i in range(0, rows, stripe):
            few = min(stripe, rows - i)
            left = gather_rows(at(a, i, k), few, n, LINE, gathered)
            for j in range(0, columns, width):
                panel = Matrix(move(slab, j * steps), width, 1)
                multiply_panel(left, panel, at(c, i, j), (few, min(width, columns - j), n), k + add_to)


def block(a, a_row, a_column, b, b_row, b_column, c, c_row, rows, columns, depth, slab, steps, known, add_to):
    """One task, compiled once as the symbol tinyllm_block_f32 (or f64)."""
    size, plan = (rows, columns, depth), (steps, known, add_to)
    multiply_packed(Matrix(a, a_row, a_column), Matrix(b, b_row, b_column), Matrix(c, c_row, 1), size, slab, plan)


@intrinsic
def multiply_block(typing_context, a, b, c, size, slab, plan):
    """C = A·B for matrices a, b, c (c with contiguous rows), size = (rows, columns, depth), by the machine code of `block`."""
    numbers, three = slab.dtype, types.UniTuple(types.intp, 3)

    def codegen(context, builder, signature, args):
        (*a_parts,), (*b_parts,), (c_base, c_row, _), (*sizes,) = (cgutils.unpack_tuple(builder, value, 3) for value in args[:4])
        plan = cgutils.unpack_tuple(builder, args[5], 3)
        call_symbol(builder, "tinyllm_block", numbers, [*a_parts, *b_parts, c_base, c_row, *sizes, args[4], *plan])
        return context.get_dummy_value()

    return types.void(a, a, a, three, slab, three), codegen


# ---- sharing the blocks of C among the threads ----


@inlined
def chunks(n_batch, rows, columns, height, width, n_workers):
    """Return (rows, columns) of one task's block of C: big, but such that every worker gets about four tasks."""
    tall, wide = 16 * height, PANELS * width
    while n_workers > 1 and n_batch * -(-rows // tall) * -(-columns // wide) < 4 * n_workers:
        if tall >= wide and tall > 4 * height:
            tall //= 2
        elif wide > width:
            wide //= 2
        else:
            break
    n_tall, n_wide = -(-rows // tall), -(-columns // wide)  # then shared out evenly, in whole tiles
    return -(-rows // (n_tall * height)) * height, -(-columns // (n_wide * width)) * width


@inlined
def depth_block(columns, depth, width):
    """Return the steps of k summed before C is touched; a property of the whole product, so that threads change no bit."""
    n_panels = min(PANELS, -(-columns // width))
    n_blocks = max(1, -(-depth // min(DEEPEST_BLOCK, DEPTH_BLOCK * PANELS // n_panels)))
    return max(1, -(-depth // n_blocks))


@inlined
def multiply_tasks(counter, chunk, a, b, c, offsets, size, work, slab):
    """Compute blocks of C as long as there are any: every worker takes the next one, so that a slow core takes fewer."""
    (rows, columns, depth), (tall, wide) = size, chunk
    a, b, c = matrix_of(a, slab), matrix_of(b, slab), matrix_of(c, slab)
    n_tall, n_wide = -(-rows // tall), -(-columns // wide)
    n_tasks, steps = offsets.shape[0] * n_tall * n_wide, depth_block(columns, depth, 2 * lanes(slab))
    task, packed = take_number(counter), -1
    while task < n_tasks:
        i = task % n_tall * tall
        j = task // n_tall % n_wide * wide
        batch = task // (n_tall * n_wide)
        here_a, here_b = shifted(a, offsets[batch, 0] + i * a.row), shifted(b, offsets[batch, 1] + j * b.column)
        here_c = shifted(c, offsets[batch, 2] + i * c.row + j)
        n_rows, n_columns = min(tall, rows - i), min(wide, columns - j)
        plan = (steps, np.int64(task // n_tall == packed), np.int64(work[0] == ADD_TO))
        multiply_block(here_a, here_b, here_c, (n_rows, n_columns, depth), slab, plan)
        packed = task // n_tall
        if work[0] != NOTHING:
            finish_block(work, i, j, n_rows, n_columns)
        task = take_number(counter)


@jit(parallel=True)
def _multiply(workspace, offsets, a, b, c, size, work):
    """Run all tasks. a, b, c: (address, row stride, column stride); workspace (workers, slab) also tells the dtype."""
    rows, columns, depth = size
    n_batch, slabs = offsets.shape[0], start(workspace)
    small = n_batch * rows * columns * depth + 12 * columns * depth < SMALL  # 12: fetching B takes longest with few rows
    n_workers = 1 if small else thread_count()
    chunk = chunks(n_batch, rows, columns, tile_rows(slabs), 2 * lanes(slabs), n_workers)
    counter = np.empty(1, np.int64)  # np.zeros would be a parallel loop of its own to Numba: one more launch
    counter[0] = 0
    if n_workers == 1:
        multiply_tasks(counter, chunk, a, b, c, offsets, size, work, slabs)
    else:
        for worker in prange(n_workers):
            slab = move(start(workspace), np.int64(worker) * workspace.shape[1])
            multiply_tasks(counter, chunk, a, b, c, offsets, size, work, slab)


# ---- the door from Python ----

WORKSPACES: dict[np.dtype, np.ndarray] = {}
ONE_MATRIX = np.zeros((1, 3), dtype=np.int64)
PRODUCTS = (np.dtype(np.float32), np.dtype(np.float64))  # the dtypes there is code for


def workspace_for(dtype: np.dtype) -> np.ndarray:
    """Return one slab per thread, aligned to 64 bytes. It is shared by all calls: a kernel holds the GIL while it runs."""
    if dtype not in WORKSPACES:
        prepare(dtype.name)
        make_symbol("tinyllm_block", block, "pnnpnnpnnnnpnnn", dtype.name)
        n_threads, size = max_threads(), SLAB + GATHER
        raw = np.empty(n_threads * size + 64, dtype=np.uint8)
        first = -raw.__array_interface__["data"][0] % 64
        WORKSPACES[dtype] = raw[first : first + n_threads * size].view(dtype).reshape(n_threads, -1)
    return WORKSPACES[dtype]


def address(x: np.ndarray) -> int:
    """Return where the first number of x lies in memory."""
    return x.__array_interface__["data"][0]


@lru_cache(maxsize=256)
def batch_offsets(batch: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return where each matrix of the batch starts: (batch, operand), in the unit of the strides; a stride of 0 broadcasts."""
    offsets = np.zeros((math.prod(batch), len(strides)), dtype=np.int64)
    for column, steps in enumerate(strides):
        places = np.zeros(1, dtype=np.int64)
        for size, step in zip(batch, steps, strict=True):
            places = (places[:, None] + np.arange(size) * step).ravel()
        offsets[:, column] = places
    return offsets


def batch_strides(x: np.ndarray, batch: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of x, in numbers, along the leading dimensions of `batch` to which x is broadcast."""
    own = [step // x.itemsize if size > 1 else 0 for size, step in zip(x.shape[:-2], x.strides, strict=False)]
    return (0,) * (len(batch) - len(own)) + tuple(own)


@cache
def no_epilogue(dtype: np.dtype) -> Epilogue:
    """Return the Epilogue of a bare product."""
    return epilogue(NOTHING, np.empty((0, 0), dtype))


def operand_of(x: np.ndarray) -> tuple[int, int, int]:
    """Return (address, row stride, column stride), the strides in numbers."""
    return address(x), x.strides[-2] // x.itemsize, x.strides[-1] // x.itemsize


def check_product(a: np.ndarray, b: np.ndarray, out: np.ndarray | None) -> None:
    """ValueError unless a (..., M, K) and b (..., K, N) fit and `out`, if given, can take a @ b: the kernel sees only addresses.

    Leading dimensions that do not broadcast are found later.
    """
    if a.dtype == b.dtype and a.dtype in PRODUCTS and a.ndim > 1 < b.ndim and a.shape[-1] == b.shape[-2]:
        if out is None:
            return
        fits = out.dtype == a.dtype and out.flags.writeable and out.shape[-2:] == (a.shape[-2], b.shape[-1])
        if fits and not (np.may_share_memory(out, a) or np.may_share_memory(out, b)):
            return
    given = "" if out is None else f", out {out.dtype} {out.shape}"
    expected = "(..., M, K) @ (..., K, N), all float32 or all float64, expected; out (..., M, N) with memory of its own"
    raise ValueError(f"matmul: {a.dtype} {a.shape} @ {b.dtype} {b.shape}{given} came; {expected}")


def check_epilogue(work: Epilogue) -> None:
    """ValueError unless what is added or multiplied has the target's shape and dtype."""
    _, target, bias, first, second = work
    if not target.flags.c_contiguous:
        raise ValueError(f"matmul: out has strides {target.strides}, a C-contiguous array expected")
    shapes = ("bias", bias, (1, target.shape[1])), ("first", first, target.shape), ("second", second, target.shape)
    for name, array, shape in shapes:
        if array.size and array.shape != shape or array.dtype != target.dtype:
            raise ValueError(f"matmul: {name} {array.dtype} {array.shape} came, {target.dtype} {shape} expected")


def multiply_with(work: Epilogue, a: np.ndarray, b: np.ndarray) -> None:
    """Fill work.target (M, N) with a @ b, a (M, K) and b (K, N) of any strides, and finish it as `work` says."""
    check_product(a, b, work.target)
    check_epilogue(work)
    if work.target.size:
        a, b = (x if x.flags.aligned else x.copy() for x in (a, b))
        operands = [operand_of(x) for x in (a, b, work.target)]
        _multiply(workspace_for(a.dtype), ONE_MATRIX, *operands, (*work.target.shape, a.shape[1]), work)


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return a @ b for a (..., M, K) and b (..., K, N); leading dimensions broadcast; M, N, K may be 0.

    Transposed, reversed, strided and read-only operands need no copy beforehand. `out`, if given, receives the result and
    must not share memory with a or b. ValueError for operands that do not fit.
    """
    check_product(a, b, out)
    if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous and (out is None or out.flags.c_contiguous):
        out = np.empty((*a.shape[:-1], b.shape[-1]), dtype=a.dtype) if out is None else out
        n_rows = math.prod(a.shape[:-1])  # one tall product instead of many
        matmul(a.reshape(n_rows, a.shape[-1]), b, out.reshape(n_rows, out.shape[-1]))
        return out
    batch = () if a.ndim == b.ndim == 2 else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (rows, depth), columns = a.shape[-2:], b.shape[-1]
    if out is not None and out.shape != (*batch, rows, columns):
        raise ValueError(f"matmul: out {out.shape} came, {(*batch, rows, columns)} expected")
    direct = out is not None and out.flags.aligned and out.strides[-1] == out.itemsize
    target: Any = out if direct else np.empty((*batch, rows, columns), dtype=a.dtype)
    if target.size:
        a, b = (x if x.flags.aligned else x.copy() for x in (a, b))
    if target.size and a.ndim == b.ndim == 2 and has_few_rows(a, b):
        multiply_few(a, b, target)
    elif target.size:
        offsets = batch_offsets(batch, tuple(batch_strides(x, batch) for x in (a, b, target))) if batch else ONE_MATRIX
        operands = [operand_of(x) for x in (a, b, target)]
        _multiply(workspace_for(a.dtype), offsets, *operands, (rows, columns, depth), no_epilogue(a.dtype))
    if out is not None and target is not out:
        out[...] = target
        return out
    return target
