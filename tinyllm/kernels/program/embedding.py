"""Embedding: the row of a table that belongs to the row's token, or to its position; from int8 times the row's scale."""

import numpy as np
from numba import types

from tinyllm.kernels.attention.tiles import number
from tinyllm.kernels.jit import inlined, intrinsic
from tinyllm.kernels.pointers import BYTE, load, move, pointer, store
from tinyllm.kernels.program.instructions import POSITION, Embedding, Int8Embedding
from tinyllm.kernels.program.packing import Packer, rows_at


def pack(packer: Packer, embedding: Embedding) -> tuple[list[int], float]:
    """out, its row stride; table; width; whether by position."""
    table = embedding.table
    if table.ndim != 2 or table.dtype != packer.dtype:
        raise ValueError(f"embedding: a table {table.dtype} {table.shape} came, {packer.dtype} (V, width) expected")
    packer.check("embedding", (embedding.out, table.shape[1:]))
    return [*packer.values(embedding.out), packer.in_order(table), table.shape[1], embedding.by == POSITION], 0.0


def pack_int8(packer: Packer, embedding: Int8Embedding) -> tuple[list[int], float]:
    """out, its row stride; table; width; whether by position; scale."""
    table, scale = embedding.table, embedding.scale
    packer.check("int8 embedding", (embedding.out, table.shape[1:]), (scale, (len(table),)))
    if table.ndim != 2 or table.dtype != np.int8:
        raise ValueError(f"int8 embedding: a table {table.dtype} {table.shape} came, int8 (V, width) expected")
    places = [*packer.values(embedding.out), packer.in_order(table), table.shape[1], embedding.by == POSITION]
    return [*places, packer.in_order(scale)], 0.0


@intrinsic
def signed_byte(typing_context, address, n):
    """signed_byte(address, n): the int8 n places after an address."""

    def codegen(context, builder, signature, args):
        place = builder.gep(builder.inttoptr(args[0], BYTE.as_pointer()), [args[1]])
        return builder.sext(builder.load(place), context.get_value_type(types.intp))

    return types.intp(types.intp, types.intp), codegen


@inlined
def embedding_rows(code, ids, like, first, count):
    """The rows from `first` on. ids: tokens, positions."""
    width = load(code, 3)
    for row in range(first, first + count):
        place = load(ids[1], row) if load(code, 4) else load(ids[0], row)
        table, out = move(pointer(load(code, 2), like), place * width), rows_at(code, 0, row, like).base
        for i in range(width):
            store(out, i, load(table, i))


@inlined
def int8_embedding_rows(code, ids, like, first, count):
    """The rows from `first` on. ids: tokens, positions."""
    width = load(code, 3)
    for row in range(first, first + count):
        place = load(ids[1], row) if load(code, 4) else load(ids[0], row)
        scale, out = load(pointer(load(code, 5), like), place), rows_at(code, 0, row, like).base
        for i in range(width):
            store(out, i, scale * number(like, float(signed_byte(load(code, 2), place * width + i))))
