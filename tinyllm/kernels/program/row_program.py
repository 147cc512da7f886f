"""A whole network for one token a row, as one program: each thread takes some of the rows through all the layers.

Text is generated a token at a time, and between two tokens the rows of a batch have nothing to say to each other. Calling one
kernel after the other would cost a call from Python, a launch and a wait for the slowest thread every time, more than a small
network's arithmetic. So the calls are written down once (`instructions.py`), and each token is one launch, without any waiting in
between. That a recorded list of launches beats launching is the idea of CUDA graphs; rows that never meet need not even be
launched apart.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import types
from numpy import ndarray

from tinyllm.kernels.jit import inlined, intrinsic, jit, max_threads, prange
from tinyllm.kernels.pointers import load, move, pointer, start, take_number, thread_count
from tinyllm.kernels.product.matrix_vector import share_of_dots
from tinyllm.kernels.product.register_tile import call_symbol, make_symbol, prepare
from tinyllm.kernels.program import attention, elementwise, embedding, linear, norm, rotary
from tinyllm.kernels.program.attention import attend_rows
from tinyllm.kernels.program.elementwise import elementwise_rows
from tinyllm.kernels.program.embedding import embedding_rows, int8_embedding_rows
from tinyllm.kernels.program.instructions import (
    Attend,
    Elementwise,
    Embedding,
    Instruction,
    Int8Embedding,
    Int8Linear,
    Linear,
    Norm,
    Rotary,
)
from tinyllm.kernels.program.linear import int8_linear_rows, linear_rows
from tinyllm.kernels.program.norm import norm_rows
from tinyllm.kernels.program.packing import CACHE_LINE, Packer, aligned_zeros
from tinyllm.kernels.program.rotary import rotary_rows

NORM, LINEAR, INT8_LINEAR, ELEMENTWISE, ROTARY, EMBEDDING, INT8_EMBEDDING, ATTEND = range(8)
PACKERS: dict[type, tuple[int, Any]] = {
    Norm: (NORM, norm.pack),
    Linear: (LINEAR, linear.pack),
    Int8Linear: (INT8_LINEAR, linear.pack_int8),
    Elementwise: (ELEMENTWISE, elementwise.pack),
    Rotary: (ROTARY, rotary.pack),
    Embedding: (EMBEDDING, embedding.pack),
    Int8Embedding: (INT8_EMBEDDING, embedding.pack_int8),
    Attend: (ATTEND, attention.pack),
}
HEAD = 4  # integers before the first instruction: the number of instructions, the addresses of slots, lengths and tokens
SIZE = 16  # integers in an instruction, the first of which is its kind
MOST_ROWS = 48  # rows of a task: their activations stay in the nearest caches


def take_rows(job, numbers, work, first, count):
    """All instructions of a program for rows first .. first + count. Compiled once, as the symbol tinyllm_rows_f32 (or f64)."""
    places, ids = (
        (pointer(load(job, 1), job), pointer(load(job, 2), job)),
        (pointer(load(job, 3), job), pointer(load(job, 2), job)),
    )
    for i in range(load(job, 0)):
        kind, code, number = load(job, HEAD + SIZE * i), move(job, HEAD + SIZE * i + 1), load(numbers, i)
        if kind == LINEAR:
            linear_rows(code, work, first, count)
        elif kind == ATTEND:
            attend_rows(code, places, number, work, first, count)
        elif kind == NORM:
            norm_rows(code, work, number, first, count)
        elif kind == ROTARY:
            rotary_rows(code, places[1], work, number, first, count)
        elif kind == ELEMENTWISE:
            elementwise_rows(code, work, number, first, count)
        elif kind == INT8_LINEAR:
            int8_linear_rows(code, work, first, count)
        elif kind == EMBEDDING:
            embedding_rows(code, ids, work, first, count)
        else:
            int8_embedding_rows(code, ids, work, first, count)


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


@cache
def prepare_rows(dtype: str) -> None:
    """Make the machine code of a program known to the kernel that calls it; needed before the first run with this dtype."""
    prepare(dtype)
    make_symbol("tinyllm_few_int8", share_of_dots, "pnmnnpnnnn", dtype)
    make_symbol("tinyllm_rows", take_rows, "jppnn", dtype)


class RowProgram:
    """Instructions to be run again and again for up to `n_rows` rows.

    `add` them, which read and write arrays made by `array`, (n_rows, width); then fill tokens, slots and lengths, and `run`.
    Weights are copied when an instruction is added, but for tables: later changes to them are not seen.
    """

    def __init__(self, n_rows: int, dtype: np.dtype):
        self.n_rows, self.dtype = n_rows, np.dtype(dtype)
        self.tokens, self.slots, self.lengths = (np.zeros(n_rows, np.int64) for _ in range(3))
        self._packer = Packer(n_rows, self.dtype)
        self._instructions: list[list[int]] = []
        self._numbers: list[float] = []
        self._ready: tuple[ndarray, ndarray, ndarray] | None = None

    def array(self, width: int) -> ndarray:
        """Room for a value of `width` numbers a row."""
        return aligned_zeros((self.n_rows, width + CACHE_LINE // self.dtype.itemsize), self.dtype)[:, :width]

    def add(self, instruction: Instruction) -> None:
        """Append an instruction. ValueError for arrays that it would misread."""
        kind, pack = PACKERS[type(instruction)]
        integers, number = pack(self._packer, instruction)
        self._instructions.append([kind, *map(int, integers), *[0] * (SIZE - 1 - len(integers))])
        self._numbers.append(number)
        self._ready = None

    def run(self, n_rows: int) -> None:
        """One token of the first n_rows rows, whose keys are at `slots`, `lengths` of them. A row needs room for one more."""
        if not 0 <= n_rows <= self.n_rows:
            raise ValueError(f"run: {n_rows} rows came, the program has room for {self.n_rows}")
        if self._ready is None:
            prepare_rows(self.dtype.name)
            own = self.slots, self.lengths, self.tokens
            head = [len(self._instructions), *(x.__array_interface__["data"][0] for x in own)]
            job = np.array(head + [x for instruction in self._instructions for x in instruction], np.int64)
            work = aligned_zeros((max_threads(), self._packer.room + CACHE_LINE), self.dtype)
            self._ready = job, np.array(self._numbers, self.dtype), work
        _run(*self._ready, n_rows)
