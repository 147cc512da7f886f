"""Packing: copying a slab of B into a small buffer in exactly the order in which the register tile will read it.

A panel holds `depth` rows of two vectors each, one after the other. Read once per 12 rows of A, it is walked in a straight
line and stays in the nearest cache, however far apart the rows of B lie in memory:

    B (depth × columns)                       panel 0        panel 1
    ┌ . . . . │ . . . . │ .  ┐                k=0 [ . . . . ]  k=0 [ . . . . ]
    │ . . . . │ . . . . │ .  │      →         k=1 [ . . . . ]  k=1 [ . . . . ]   ...
    └ . . . . │ . . . . │ .  ┘                k=2 [ . . . . ]  k=2 [ . . . . ]
A transposed B costs nothing extra: squares of 16 x 16 numbers are turned over inside registers on the way (log2(16) rounds
of swapping ever smaller blocks). Goto and van de Geijn (2008), section 4.2.1.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from tinyllm.kernels.jit import inlined, intrinsic
from tinyllm.kernels.pointers import INT32, constant, lanes, lanes_of, load, move, store


def transposed(builder: ir.IRBuilder, vectors: list) -> list:
    """Return the square of numbers in `vectors` turned over: in round s, blocks of s x s swap across the diagonal."""
    n = len(vectors)
    side = n // 2
    while side:
        keep = [lane if not lane & side else n + lane - side for lane in range(n)]
        swap = [lane + side if not lane & side else n + lane for lane in range(n)]
        masks = [ir.Constant(ir.VectorType(INT32, n), mask) for mask in (keep, swap)]
        turned = list(vectors)
        for i in (i for i in range(n) if not i & side):
            upper, lower = vectors[i], vectors[i + side]
            turned[i], turned[i + side] = (builder.shuffle_vector(upper, lower, mask) for mask in masks)
        vectors, side = turned, side // 2
    return vectors


@intrinsic
def transpose_square(typing_context, source, source_stride, target, target_stride):
    """Copy target[i, j] = source[j, i] for a square of `lanes` numbers a side; strides count numbers between rows."""
    width = lanes_of(source.dtype)
    align = source.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        number = args[0].type.pointee
        vector = ir.VectorType(number, width)

        def row(base, stride, i):
            return builder.bitcast(builder.gep(base, [builder.mul(stride, constant(i))]), vector.as_pointer())

        rows = [builder.load(row(args[0], args[1], i)) for i in range(width)]
        for value in rows:
            value.align = align
        for i, value in enumerate(transposed(builder, rows)):
            builder.store(value, row(args[2], args[3], i)).align = align
        return context.get_dummy_value()

    return types.void(source, types.intp, source, types.intp), codegen


@inlined
def pack_rows(b, depth, columns, panel):
    """Copy B (depth × columns), whose rows are contiguous, into one panel."""
    width = 2 * lanes(panel)
    for k in range(depth):
        row, target = move(b.base, k * b.row), move(panel, k * width)
        if columns == width:
            for j in range(width):
                store(target, j, load(row, j))
        else:
            for j in range(columns):
                store(target, j, load(row, j))


@inlined
def pack_columns(b, depth, columns, panel):
    """Copy B (depth × columns), whose columns are contiguous (a transposed matrix), into one panel, square by square."""
    side = lanes(panel)
    whole_depth, whole_columns = depth // side * side, columns // side * side
    for j in range(0, whole_columns, side):
        for k in range(0, whole_depth, side):
            transpose_square(move(b.base, j * b.column + k), b.column, move(panel, k * 2 * side + j), 2 * side)
    for j in range(columns):
        column = move(b.base, j * b.column)
        for k in range(whole_depth if j < whole_columns else 0, depth):
            store(panel, k * 2 * side + j, load(column, k))


@inlined
def pack_panel(b, depth, columns, panel):
    """Copy matrix B (depth × columns, columns <= 2 * lanes) so that B[k, j] comes to panel + k * 2 * lanes + j."""
    if b.column == 1:
        pack_rows(b, depth, columns, panel)
    elif b.row == 1:
        pack_columns(b, depth, columns, panel)
    else:
        for k in range(depth):
            for j in range(columns):
                store(panel, k * 2 * lanes(panel) + j, load(b.base, k * b.row + j * b.column))
