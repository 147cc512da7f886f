"""Packing: copying a slab of B into a small buffer in exactly the order in which the register tile will read it.

A panel holds `depth` rows of two vectors each, one after the other. Read once per 12 rows of A, it is walked in a straight
line and stays in the nearest cache, however far apart the rows of B lie in memory:

    B (depth × columns)                       panel 0        panel 1
    ┌ . . . . │ . . . . │ .  ┐                k=0 [ . . . . ]  k=0 [ . . . . ]
    │ . . . . │ . . . . │ .  │      →         k=1 [ . . . . ]  k=1 [ . . . . ]   ...
    └ . . . . │ . . . . │ .  ┘                k=2 [ . . . . ]  k=2 [ . . . . ]
A transposed B costs nothing extra: squares of 16 x 16 numbers are turned over inside registers on the way (log2(16) rounds
of swapping ever smaller blocks). The few rows of A that a tile is about to read are gathered, too (`gather_rows`). What comes
next is asked for ahead of time (`fetch`). Goto and van de Geijn (2008), section 4.2.1.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from tinyllm.kernels.jit import inlined, intrinsic
from tinyllm.kernels.pointers import INT32, INT64, Matrix, at, constant, fetch, lanes, lanes_of, load, move, store

GATHERED = 48  # numbers from one column of a gathered A to the next


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


@intrinsic
def copy_vector(typing_context, source, target):
    """Copy one register's worth of numbers."""
    width, align = lanes_of(source.dtype), source.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        where = [builder.bitcast(base, ir.VectorType(base.type.pointee, width).as_pointer()) for base in args]
        value = builder.load(where[0])
        value.align = align
        builder.store(value, where[1]).align = align
        return context.get_dummy_value()

    return types.void(source, source), codegen


@intrinsic
def copy_part(typing_context, source, target, n):
    """Copy n numbers, at most a register's worth, and fill the rest of that register of `target` with zeros."""
    width, align = lanes_of(source.dtype), source.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(args[0].type.pointee, width)
        flags, places = ir.VectorType(ir.IntType(1), width), ir.VectorType(INT64, width)
        kind = ir.FunctionType(vector, [vector.as_pointer(), INT32, flags, vector])
        name = f"llvm.masked.load.v{width}f{source.dtype.bitwidth}.p0"
        masked_load = cgutils.get_or_insert_function(builder.module, kind, name)
        limit = builder.insert_element(ir.Constant(places, ir.Undefined), args[2], ir.Constant(INT32, 0))
        limit = builder.shuffle_vector(limit, limit, ir.Constant(ir.VectorType(INT32, width), [0] * width))
        mask = builder.icmp_signed("<", ir.Constant(places, list(range(width))), limit)
        where = [builder.bitcast(base, vector.as_pointer()) for base in args[:2]]
        value = builder.call(masked_load, [where[0], ir.Constant(INT32, align), mask, ir.Constant(vector, [0.0] * width)])
        builder.store(value, where[1]).align = align
        return context.get_dummy_value()

    return types.void(source, source, types.intp), codegen


@inlined
def copy_line(source, n, target):
    """Copy n numbers, a register at a time."""
    side = lanes(source)
    whole = n // side * side
    for j in range(0, whole, side):
        copy_vector(move(source, j), move(target, j))
    for j in range(whole, n):
        store(target, j, load(source, j))


@inlined
def pack_rows(b, depth, columns, panel):
    """Copy B (depth × columns), whose rows are contiguous, into one panel."""
    width = 2 * lanes(panel)
    for k in range(depth):
        copy_line(move(b.base, k * b.row), columns, move(panel, k * width))


@inlined
def pack_columns(b, depth, columns, panel):
    """Copy B (depth × columns), whose columns are contiguous (a transposed matrix), into one panel, square by square."""
    side = lanes(panel)
    whole_depth, whole_columns = depth // side * side, columns // side * side
    for j in range(0, whole_columns, side):
        for k in range(0, whole_depth, side):
            for i in range(side):
                fetch(move(b.base, (j + i) * b.column + k + 2 * side))
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


@inlined
def pack_slab(b, depth, columns, slab, panel_size):
    """Copy B (depth × columns) into panels, `panel_size` numbers apart; rows that are contiguous are read from end to end."""
    width = 2 * lanes(slab)
    if b.column == 1:
        for k in range(depth):
            row, line = move(b.base, k * b.row), move(slab, k * width)
            for panel in range(columns // width):
                source, target = move(row, panel * width), move(line, panel * panel_size)
                fetch(move(source, 4 * b.row))
                fetch(move(source, 4 * b.row + width // 2))
                copy_vector(source, target)
                copy_vector(move(source, width // 2), move(target, width // 2))
        whole = columns // width
        if whole * width < columns:
            pack_panel(at(b, 0, whole * width), depth, columns - whole * width, move(slab, whole * panel_size))
    else:
        for panel in range(-(-columns // width)):
            n = min(width, columns - panel * width)
            pack_panel(at(b, 0, panel * width), depth, n, move(slab, panel * panel_size))


@inlined
def gather_rows(a, rows, depth, line_size, copy):
    """Return a copy of A (rows × depth) whose numbers lie close together; rows that are contiguous stay so.

    Read where they lie, 12 rows 8 kB apart would all fall into the same few lines of the L1 cache and push each other out. The
    next rows are asked for on the way: by the time this tile is done they will have come.
    """
    if a.column == 1:
        for i in range(rows):
            line = move(a.base, i * a.row)
            for k in range(0, depth, lanes(copy)):
                fetch(move(line, rows * a.row + k))
            copy_line(line, depth, move(copy, i * line_size))
        return Matrix(copy, line_size, 1)
    for k in range(depth):
        column, target = move(a.base, k * a.column), move(copy, k * GATHERED)
        if a.row == 1:
            for i in range(0, rows, lanes(copy)):
                fetch(move(column, 8 * a.column + i))
                copy_part(move(column, i), move(target, i), rows - i)
        else:
            for i in range(rows):
                store(target, i, load(column, i * a.row))
    return Matrix(copy, 1, GATHERED)
