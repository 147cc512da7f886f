"""A whole network for one token a row, as one program: each thread takes some of the rows through all the layers.

Text is generated a token at a time, and between two tokens the rows of a batch have nothing to say to each other. Calling one
kernel after the other would cost a call from Python, a launch and a wait for the slowest thread every time, more than a small
network's arithmetic. So the calls are written down once, and each token is one launch, without any waiting in between:

    instruction  reads                 writes
    NORM         x                     layer norm or RMS norm of x
    LINEAR       x, residual or none   x Wᵀ + bias + residual, or gelu(x Wᵀ + bias)
    ATTEND       query, key, value     the mean of the cached values; key and value are added to the cache first
Weights are packed beforehand in the order of the register tile (see packing.py), and keys are kept on their side, (D, S), so that
the scores of a whole vector of keys come without adding up lanes. Each row has a length of its own: there is no padding. That a
recorded list of launches beats launching is the idea of CUDA graphs; rows that never meet need not even be launched apart.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types
from numpy import ndarray

from tinyllm.kernels.attention.few_queries import softmax_row
from tinyllm.kernels.attention.tiles import LOG2_E, multiply_wide
from tinyllm.kernels.elementwise import gelu_tanh
from tinyllm.kernels.jit import inlined, intrinsic, jit, max_threads, prange
from tinyllm.kernels.norm import layer_norm_row, rms_norm_row
from tinyllm.kernels.pointers import (
    Matrix,
    at,
    lanes,
    load,
    move,
    pointer,
    start,
    store,
    take_number,
    thread_count,
    vector_registers,
)
from tinyllm.kernels.product.register_tile import call_symbol, make_symbol, multiply_panel, prepare

LAYER_NORM, RMS_NORM, LINEAR, ATTEND = range(4)
HEAD = 3  # integers before the first instruction: the number of instructions, the addresses of slots and lengths
SIZE = 12  # integers in an instruction, the first of which is its kind
MOST_ROWS = 48  # rows of a task: their activations stay in the nearest caches
CACHE_LINE = 64  # bytes


# ---- the instructions: `code` points at the integers of one, behind that which says its kind ----


@inlined
def rows_at(code, i, row, like):
    """The rows from `row` on of the array whose address and row stride are integers i and i + 1 of its code."""
    step = load(code, i + 1)
    return Matrix(move(pointer(load(code, i), like), row * step), step, 1)


@inlined
def norm_rows(code, like, eps, rms, first, count):
    """out = norm(x). code: x, its row stride; out, its row stride; weight; bias or 0; width."""
    weight_address, bias_address, width = load(code, 4), load(code, 5), load(code, 6)
    weight, bias = carray(pointer(weight_address, like), (width,)), carray(pointer(bias_address, like), (width,))
    for row in range(first, first + count):
        x, out = carray(rows_at(code, 0, row, like).base, (width,)), carray(rows_at(code, 2, row, like).base, (width,))
        if rms:
            rms_norm_row(x, weight, eps, out)
        else:
            layer_norm_row(x, weight, bias[: width if bias_address else 0], eps, out)


@inlined
def finish_row(c, n, bias, residual, gelu):
    """n numbers of a product's row: c + bias + residual, then GELU if asked for. bias, residual: whether there is one, where."""
    if bias[0]:
        for j in range(n):
            store(c, j, load(c, j) + load(bias[1], j))
    if residual[0]:
        for j in range(n):
            store(c, j, load(c, j) + load(residual[1], j))
    if gelu:
        for j in range(n):
            store(c, j, gelu_tanh(load(c, j)))


@inlined
def linear_rows(code, like, first, count):
    """out = x Wᵀ + bias + residual, then GELU if asked for.

    code: x, its row stride; out, its row stride; residual or 0, its row stride; packed W; bias or 0; columns of x, of out; gelu.
    """
    weight, bias, depth, columns, gelu = load(code, 6), load(code, 7), load(code, 8), load(code, 9), load(code, 10)
    x, out, residual = rows_at(code, 0, first, like), rows_at(code, 2, first, like), rows_at(code, 4, first, like)
    side = 2 * lanes(like)
    for j in range(0, columns, side):
        n = min(side, columns - j)
        panel = Matrix(move(pointer(weight, like), j * depth), side, 1)
        multiply_panel(x, panel, at(out, 0, j), (count, n, depth), 0)
        for i in range(count):
            added = load(code, 4), at(residual, i, j).base
            finish_row(at(out, i, j).base, n, (bias, move(pointer(bias, like), j)), added, gelu)


@inlined
def attend_rows(code, places, scale, work, first, count):
    """Attention of one query a row to all its keys so far, its own included, which is added to the cache here.

    code: packed query-key-value, its row stride; out, its row stride; keys (slots, G, D, room); values (slots, G, room, D); H; G;
    D; room. places: the slot of each row in the cache, and the number of its keys before. The queries are scaled where they are.
    """
    keys_address, values_address = load(code, 4), load(code, 5)
    n_heads, n_groups, width, room = load(code, 6), load(code, 7), load(code, 8), load(code, 9)
    group = n_heads // n_groups
    for row in range(first, first + count):
        slot, length = load(places[0], row), load(places[1], row)
        query, out = rows_at(code, 0, row, work).base, rows_at(code, 2, row, work).base
        for d in range(n_heads * width):
            store(query, d, scale * load(query, d))
        for g in range(n_groups):
            shift = (slot * n_groups + g) * width * room
            keys, values = move(pointer(keys_address, work), shift), move(pointer(values_address, work), shift)
            key, value = move(query, (n_heads + g) * width), move(query, (n_heads + n_groups + g) * width)
            for d in range(width):
                store(keys, d * room + length, load(key, d))
                store(values, length * width + d, load(value, d))
            queries, scores = Matrix(move(query, g * group * width), width, 1), Matrix(work, room, 1)
            multiply_wide(queries, Matrix(keys, room, 1), scores, (group, length + 1, width), 0)
            for h in range(group):
                softmax_row(move(work, h * room), length + 1)
            mixed = Matrix(move(out, g * group * width), width, 1)
            multiply_wide(scores, Matrix(values, width, 1), mixed, (group, width, length + 1), 0)


def take_rows(job, numbers, work, first, count):
    """All instructions of a program for rows first .. first + count. Compiled once, as the symbol tinyllm_rows_f32 (or f64)."""
    places = pointer(load(job, 1), job), pointer(load(job, 2), job)
    for i in range(load(job, 0)):
        kind, code, number = load(job, HEAD + SIZE * i), move(job, HEAD + SIZE * i + 1), load(numbers, i)
        if kind == LINEAR:
            linear_rows(code, work, first, count)
        elif kind == ATTEND:
            attend_rows(code, places, number, work, first, count)
        else:
            norm_rows(code, work, number, kind == RMS_NORM, first, count)


# ---- sharing the rows among the threads ----


@intrinsic
def call_rows(typing_context, job, numbers, work, first, count):
    """Run `take_rows` by its machine code."""

    def codegen(context, builder, signature, args):
        call_symbol(builder, "tinyllm_rows", signature.args[1].dtype, args)
        return context.get_dummy_value()

    return types.void(job, numbers, work, types.intp, types.intp), codegen


@inlined
def take_shares(counter, job, numbers, work, n_rows, share):
    """Take the next rows until none are left."""
    first = take_number(counter) * share
    while first < n_rows:
        call_rows(start(job), start(numbers), start(work), first, min(share, n_rows - first))
        first = take_number(counter) * share


@jit(parallel=True)
def _run(job, numbers, work, n_rows):
    """One token of all rows. work: a line of room for each thread."""
    counter, n_workers = np.empty(1, np.int64), thread_count()
    counter[0] = 0
    share = min(MOST_ROWS, -(-n_rows // (4 * n_workers)) * 4)
    if n_rows <= share:
        take_shares(counter, job, numbers, work[0], n_rows, share)
    else:
        for worker in prange(n_workers):
            take_shares(counter, job, numbers, work[worker], n_rows, share)


# ---- writing a program ----


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> ndarray:
    """Return an array of zeros that begins a cache line."""
    dtype = np.dtype(dtype)
    raw = np.zeros(int(np.prod(shape)) * dtype.itemsize + CACHE_LINE, np.uint8)
    first = -raw.__array_interface__["data"][0] % CACHE_LINE
    return raw[first : first + raw.size - CACHE_LINE].view(dtype).reshape(shape)


def pack_weight(weight: ndarray) -> ndarray:
    """weight (out, in) -> (panels, in, columns of a tile): the order in which the tile of `x Wᵀ` reads it, zeros at the end."""
    side = 2 * vector_registers()[0] // weight.itemsize
    n_out, n_in = weight.shape
    padded = np.zeros((-(-n_out // side) * side, n_in), weight.dtype)
    padded[:n_out] = weight
    packed = aligned_zeros((len(padded) // side, n_in, side), weight.dtype)
    packed[...] = padded.reshape(-1, side, n_in).swapaxes(1, 2)
    return packed


@cache
def prepare_rows(dtype: str) -> None:
    """Make the machine code of a program known to the kernel that calls it; needed before the first run with this dtype."""
    prepare(dtype)
    make_symbol("tinyllm_rows", take_rows, "jppnn", dtype)


class RowProgram:
    """Instructions to be run again and again for up to `n_rows` rows.

    Write it with `norm`, `linear` and `attend`, which read and write arrays made by `array`, (n_rows, width); then fill the first
    one and `run`. Weights are copied when an instruction is written: later changes to them are not seen.
    """

    def __init__(self, n_rows: int, dtype: np.dtype):
        self.n_rows, self.dtype = n_rows, np.dtype(dtype)
        self.slots, self.lengths = np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64)
        self._instructions: list[list[int]] = []
        self._numbers: list[float] = []
        self._kept: list[ndarray] = [self.slots, self.lengths]  # the program holds addresses: these must live
        self._room = 1
        self._ready: tuple[ndarray, ndarray, ndarray] | None = None

    def array(self, width: int) -> ndarray:
        """Room for a value of `width` numbers a row."""
        return aligned_zeros((self.n_rows, width + CACHE_LINE // self.dtype.itemsize), self.dtype)[:, :width]

    def _address(self, array: ndarray | None) -> int:
        if array is None:
            return 0
        if array.dtype not in (self.dtype, np.int64):
            raise ValueError(f"an array of {array.dtype} came, {self.dtype} expected: the program reads memory as its own dtype")
        self._kept.append(array)
        return array.__array_interface__["data"][0]

    def _copies(self, *arrays: ndarray | None) -> list[int]:
        return [self._address(None if array is None else np.array(array, order="C")) for array in arrays]

    def _rows_of(self, *arrays: ndarray | None) -> list[int]:
        steps = [0 if array is None else array.strides[0] // array.itemsize for array in arrays]
        return [x for array, step in zip(arrays, steps, strict=True) for x in (self._address(array), step)]

    def _add(self, kind: int, *integers: int, number: float = 0.0) -> None:
        instruction = [kind, *integers]
        self._instructions.append(instruction + [0] * (SIZE - len(instruction)))
        self._numbers.append(number)
        self._ready = None

    def _check(self, instruction: str, *operands: tuple[ndarray | None, tuple[int, ...]]) -> None:
        """ValueError unless each array has the dtype and the shape beside it; of values (n_rows, width) the width is given."""
        for array, shape in operands:
            if array is None:
                continue
            whole = (self.n_rows, *shape) if array.ndim == 2 and len(shape) == 1 else shape
            if array.shape != whole or array.dtype != self.dtype or (array.ndim > 2 and not array.flags.c_contiguous):
                raise ValueError(f"{instruction}: an array {array.dtype} {array.shape} came, {self.dtype} {whole} expected")

    def norm(self, x: ndarray, weight: ndarray, bias: ndarray | None, out: ndarray, *, eps: float, rms: bool = False) -> None:
        """out = layer norm of x, or RMS norm (then without bias)."""
        self._check("norm", (x, x.shape[1:]), (out, x.shape[1:]), (weight, x.shape[1:]), (bias, x.shape[1:]))
        self._add(RMS_NORM if rms else LAYER_NORM, *self._rows_of(x, out), *self._copies(weight, bias), x.shape[1], number=eps)

    def linear(
        self, x: ndarray, weight: ndarray, bias: ndarray | None, out: ndarray, *, residual: ndarray | None = None,
        gelu: bool = False,
    ) -> None:  # fmt: skip
        """out = x Wᵀ + bias + residual, or gelu (tanh) of that. weight (out, in), bias (out,)."""
        shape = weight.shape[:1]
        self._check("linear", (x, weight.shape[1:]), (out, shape), (residual, shape), (weight, weight.shape), (bias, shape))
        places = self._address(pack_weight(weight)), *self._copies(bias)
        self._add(LINEAR, *self._rows_of(x, out, residual), *places, x.shape[1], len(weight), gelu)

    def attend(self, qkv: ndarray, keys: ndarray, values: ndarray, out: ndarray, *, n_heads: int, scale: float) -> None:
        """out (rows, H D) = attention of qkv (rows, (H + 2G) D) to its slot of keys (slots, G, D, S), values (slots, G, S, D).

        The row's own key and value are added there first. qkv is used up: nothing else may read it afterwards.
        """
        (n_slots, n_groups, width, room) = keys.shape
        queries, all_three = n_heads * width, (n_heads + 2 * n_groups) * width
        places = (n_slots, n_groups, room, width)
        self._check("attend", (qkv, (all_three,)), (out, (queries,)), (keys, keys.shape), (values, places))
        self._room = max(self._room, n_heads // n_groups * room)
        sizes = n_heads, n_groups, width, room
        self._add(ATTEND, *self._rows_of(qkv, out), self._address(keys), self._address(values), *sizes, number=scale * LOG2_E)

    def run(self, n_rows: int) -> None:
        """One token of the first n_rows rows, whose keys are at `slots`, `lengths` of them. A row needs room for one more."""
        if not 0 <= n_rows <= self.n_rows:
            raise ValueError(f"run: {n_rows} rows came, the program has room for {self.n_rows}")
        if self._ready is None:
            prepare_rows(self.dtype.name)
            head = [len(self._instructions), self._address(self.slots), self._address(self.lengths)]
            job = np.array(head + [x for instruction in self._instructions for x in instruction], np.int64)
            work = aligned_zeros((max_threads(), self._room + CACHE_LINE), self.dtype)
            self._ready = job, np.array(self._numbers, self.dtype), work
        _run(*self._ready, n_rows)
