"""How query, key, value and their gradients travel from Python into an attention task: as one small array of integers.

Each array (B, T, H, D) may lie anywhere with any strides, e.g. as a slice of one packed (B, T, 3, H, D). Handing over the
arrays themselves would compile the kernel again for every combination of layouts, so it gets addresses and strides instead.
`make_job` packs them on the Python side, `read_job` unpacks them inside the task, `head_of` picks one head's matrix.
"""

from __future__ import annotations

import numpy as np
from numba import carray
from numpy import ndarray

from tinyllm.kernels.jit import inlined
from tinyllm.kernels.pointers import Matrix, load, move, pointer

NO_MASK = np.zeros((1, 1), dtype=np.uint8)


def readable(x: ndarray) -> ndarray:
    """Return x, or a copy if its last axis is not contiguous."""
    return x if x.strides[-1] == x.itemsize and x.flags.aligned else np.array(x, order="C")


def make_job(operands: tuple[ndarray, ...], causal: bool, masked: bool) -> ndarray:
    """Return all that a task needs to know as one array of integers; `read_job` is the other end.

    First the number of operands; a row for each operand (B, T, H, D) of address and strides (batch, position, head), in
    numbers; then B, T, S, whether there is a mask; then H, G, D, whether it is causal.
    """
    (n_batch, n_queries, n_heads, width), (_, n_keys, n_groups, _) = operands[0].shape, operands[1].shape
    size = operands[0].itemsize
    rows = [(x.__array_interface__["data"][0], *(stride // size for stride in x.strides[:3])) for x in operands]
    sizes = [(n_batch, n_queries, n_keys, masked), (n_heads, n_groups, width, causal)]
    return np.array([(len(rows), 0, 0, 0), *rows, *sizes], dtype=np.int64)


def mask_rows(key_mask: ndarray | None) -> ndarray:
    """Return the mask (B, S) in the one layout that the kernels are compiled for."""
    return NO_MASK if key_mask is None else np.array(key_mask, dtype=np.uint8, order="C")


@inlined
def read_job(job, mask):
    """Return what `make_job` packed: operands, mask (B, S), (B, T, S), (H, G, D, causal)."""
    n_operands = load(job, 0)
    operands = carray(move(job, 4), (n_operands, 4))
    sizes, heads = carray(move(job, 4 * n_operands + 4), (4,)), carray(move(job, 4 * n_operands + 8), (4,))
    masks = carray(mask, (sizes[0], sizes[2] if sizes[3] else 0))
    return operands, masks, (sizes[0], sizes[1], sizes[2]), (heads[0], heads[1], heads[2], heads[3])


@inlined
def head_of(operand, batch, position, head, like):
    """The matrix (positions, D) of one head, from `position` on. operand: address and strides (batch, position, head)."""
    address, row = operand[0], operand[2]
    return Matrix(move(pointer(address, like), batch * operand[1] + position * row + head * operand[3]), row, 1)
