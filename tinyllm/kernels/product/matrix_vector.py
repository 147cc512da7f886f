"""Products with a few rows, C = A·B with 1 to 32 rows of A: what generating text consists of, one token a row at a time.

A weight is then used once for each row, so nothing but its way from memory counts: B is read exactly once, straight through,
without packing, and every product and sum is done while its numbers are in registers. How B lies decides which way:

    dots: Bᵀ's rows contiguous, as in a weight (out, in)      sweeps: B's rows contiguous

    row j           b b b b → ┐  4 rows far apart, so that    8 rows of B   b b b b │ b b b b │ →   C's 64 sums stay in
    row j +  N/4    b b b b → │  each pointer walks through   side by       b b b b │ b b b b │     registers for the
    row j + 2N/4    b b b b → │  memory in a straight line;   side, 64      . . . . │ . . . . │     8 rows, and in the
    row j + 3N/4    b b b b → ┘  lanes are added at the end   columns each  b b b b │ b b b b │     nearest cache after
    row of A        a a a a →
Weights may also be int8 (see `quantized.py`): they become float32 in the registers, 16 at a time, and memory moves a quarter.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils

from tinyllm.kernels.invariance import batch_invariance
from tinyllm.kernels.jit import inlined, intrinsic, jit, prange
from tinyllm.kernels.pointers import (
    INT32,
    INT64,
    Matrix,
    at,
    constant,
    lanes,
    lanes_of,
    load,
    matrix_of,
    move,
    start,
    store,
    take_number,
    thread_count,
)
from tinyllm.kernels.product.register_tile import TileWriter, call_symbol, make_symbol, multiply_panel, prepare

SIDE = 4  # rows of Bᵀ read side by side
FEW_ROWS, DOT_ROWS = 12, 32  # with more rows (sweeps, dots) packing B pays: each number is then used often enough
SMALL = 1 << 17  # numbers of B below which waking other threads costs more than it saves
CACHED = 1 << 16  # numbers of A that stay in the L2 cache (256 kB)
SHARE = 64  # a task takes a multiple of so many columns
SPAN = 4  # vectors of a row of B in one tile of a sweep
SWEEP_DEPTH = 8  # rows of B side by side


# ---- dot products ----


class DotWriter:
    """Writes `n_rows` x SIDE dot products along the depth, with one vector register of partial sums each."""

    def __init__(self, builder: ir.IRBuilder, number: Any, n_rows: int) -> None:
        self.builder, self.n_rows, self.width = builder, n_rows, lanes_of(number)
        self.real = ir.FloatType() if number.bitwidth == 32 else ir.DoubleType()
        self.vector = ir.VectorType(self.real, self.width)
        self.name = f"v{self.width}f{number.bitwidth}"
        self.sums = [cgutils.alloca_once_value(builder, ir.Constant(self.vector, None)) for _ in range(n_rows * SIDE)]

    def llvm(self, name: str, result: Any, parameters: list) -> ir.Function:
        """Return LLVM's own function `name`."""
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, parameters), name)

    def load(self, base: Any, place: Any, mask: Any) -> Any:
        """Load the vector `place` numbers after `base`; 0 in the lanes that `mask` leaves out; int8 comes out as floats."""
        builder, number = self.builder, base.type.pointee
        small = isinstance(number, ir.IntType)
        kind = ir.VectorType(number, self.width)
        where = builder.bitcast(builder.gep(base, [place]), kind.as_pointer())
        n_bytes = 1 if small else int(self.name[-2:]) // 8
        if mask is None:
            value = builder.load(where)
            value.align = n_bytes
        else:
            name = f"llvm.masked.load.{f'v{self.width}i8' if small else self.name}.p0"
            function = self.llvm(name, kind, [where.type, INT32, mask.type, kind])
            value = builder.call(function, [where, ir.Constant(INT32, n_bytes), mask, ir.Constant(kind, None)])
        return builder.sitofp(builder.sext(value, ir.VectorType(INT32, self.width)), self.vector) if small else value

    def step(self, a: list, b: list, place: Any, mask: Any = None) -> None:
        """sums[i, j] += a[i] · b[j], lane by lane, for the vectors at `place`."""
        builder, fused = self.builder, self.llvm(f"llvm.fmuladd.{self.name}", self.vector, [self.vector] * 3)
        lines = [self.load(base, place, mask) for base in b]
        for i, base in enumerate(a):
            row = self.load(base, place, mask)
            for j, line in enumerate(lines):
                total = self.sums[i * SIDE + j]
                builder.store(builder.call(fused, [row, line, builder.load(total)]), total)

    def mask_of(self, n: Any) -> Any:
        """Return which lanes come before lane `n`."""
        flags = ir.VectorType(INT64, self.width)
        single = self.builder.insert_element(ir.Constant(flags, ir.Undefined), n, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, self.width), [0] * self.width)
        spread = self.builder.shuffle_vector(single, ir.Constant(flags, ir.Undefined), zeros)
        return self.builder.icmp_signed("<", ir.Constant(flags, list(range(self.width))), spread)

    def finish(self, target: Any) -> None:
        """Add up the lanes and store sum (i, j) at target + i * SIDE + j."""
        builder, across = self.builder, self.llvm(f"llvm.vector.reduce.fadd.{self.name}", self.real, [self.real, self.vector])
        for place, total in enumerate(self.sums):
            arguments = [ir.Constant(self.real, 0.0), builder.load(total)]
            value = builder.call(across, arguments, "", None, None, ("reassoc",))  # in pairs, not one lane after the other
            builder.store(value, builder.gep(target, [constant(place)]))


@intrinsic(prefer_literal=True)
def dot_products(typing_context, n_rows, a, a_row, b, depth, sums):
    """sums[i, j] = Σₖ a[i, k] · b[j][k] for i < n_rows, a constant, and SIDE pointers b, to floats or to int8."""
    count, number = n_rows.literal_value, a.dtype

    def codegen(context, builder, signature, args):
        _, a, a_row, b, depth, sums = args
        writer = DotWriter(builder, number, count)
        rows = [builder.gep(a, [builder.mul(a_row, constant(i))]) for i in range(count)]
        lines, width = cgutils.unpack_tuple(builder, b, SIDE), constant(writer.width)
        whole = builder.sdiv(depth, width)
        with cgutils.for_range(builder, whole) as loop:
            writer.step(rows, lines, builder.mul(loop.index, width))
        done = builder.mul(whole, width)
        with builder.if_then(builder.icmp_signed("<", done, depth)):
            writer.step(rows, lines, done, writer.mask_of(builder.sub(depth, done)))
        writer.finish(sums)
        return context.get_dummy_value()

    return types.void(n_rows, a, types.intp, b, types.intp, a), codegen


@inlined
def store_sums(sums, n_rows, places, c):
    """C[i, places[j]] = sum (i, j) of one tile."""
    for i in range(n_rows):
        for j in range(SIDE):
            store(c.base, i * c.row + places[j], load(sums, i * SIDE + j))


@inlined
def multiply_by_dots(a, b, c, size, sums):
    """C = A·B for an A with contiguous rows and a B with contiguous columns; `sums`: room for 4 x SIDE numbers.

    Every sum is made in the same order, however many rows A has. Beyond the last column the last one is taken again.
    """
    rows, columns, depth = size
    length, last = -(-columns // SIDE), columns - 1
    for j in range(length):
        places = (j, min(j + length, last), min(j + 2 * length, last), min(j + 3 * length, last))
        lines = (
            move(b.base, places[0] * b.column),
            move(b.base, places[1] * b.column),
            move(b.base, places[2] * b.column),
            move(b.base, places[3] * b.column),
        )
        i = 0
        while rows - i >= 4:
            dot_products(4, at(a, i, 0).base, a.row, lines, depth, sums)
            store_sums(sums, 4, places, at(c, i, 0))
            i += 4
        if rows - i >= 2:
            dot_products(2, at(a, i, 0).base, a.row, lines, depth, sums)
            store_sums(sums, 2, places, at(c, i, 0))
            i += 2
        if rows > i:
            dot_products(1, at(a, i, 0).base, a.row, lines, depth, sums)
            store_sums(sums, 1, places, at(c, i, 0))


# ---- sweeps ----


@intrinsic(prefer_literal=True)
def sweep(typing_context, n_rows, n_vectors, a, b, c, depth, accumulate):
    """C[i, j] = (C[i, j] if accumulate) + Σₖ A[i, k] · B[k, j] for i < n_rows and j < n_vectors · lanes, both constants."""
    shape = {"rows": n_rows.literal_value, "vectors": n_vectors.literal_value}
    number = a[0].dtype

    def codegen(context, builder, signature, args):
        (a_base, a_row, a_step), (b_base, b_step, _), (c_base, c_row, _) = (
            cgutils.unpack_tuple(builder, value, 3) for value in args[2:5]
        )
        n_bytes = constant(number.bitwidth // 8)
        a_row, a_step, b_step, c_row = (builder.mul(stride, n_bytes) for stride in (a_row, a_step, b_step, c_row))
        tile = TileWriter(builder.module, number, **shape, masked=False)
        columns = constant(shape["vectors"] * tile.lanes)
        builder.call(tile.function, [a_base, a_row, a_step, b_base, b_step, c_base, c_row, args[5], columns, args[6]])
        return context.get_dummy_value()

    return types.void(n_rows, n_vectors, a, a, a, types.intp, types.intp), codegen


@inlined
def sweep_span(a, b, c, size, accumulate):
    """C (+)= A·B for a span of columns and a few rows of B, which come from memory once and then from the nearest cache."""
    rows, depth = size
    i = 0
    while rows - i >= 4:
        sweep(4, SPAN, at(a, i, 0), b, at(c, i, 0), depth, accumulate)
        i += 4
    if rows - i >= 2:
        sweep(2, SPAN, at(a, i, 0), b, at(c, i, 0), depth, accumulate)
        i += 2
    if rows > i:
        sweep(1, SPAN, at(a, i, 0), b, at(c, i, 0), depth, accumulate)


@inlined
def multiply_by_sweeps(a, b, c, size):
    """C = A·B for a B with contiguous rows."""
    rows, columns, depth = size
    width = 2 * lanes(a.base)
    span = SPAN * lanes(a.base)
    for k in range(0, max(1, depth), SWEEP_DEPTH):
        n, whole = min(SWEEP_DEPTH, depth - k), columns // span * span
        for j in range(0, whole, span):
            sweep_span(at(a, 0, k), at(b, k, j), at(c, 0, j), (rows, n), k)
        for j in range(whole, columns, width):
            multiply_panel(at(a, 0, k), at(b, k, j), at(c, 0, j), (rows, min(width, columns - j), n), k)


# ---- sharing the columns of C among the threads ----


def share_of_dots(a, a_row, b, b_row, b_column, c, c_row, rows, columns, depth):
    """A share of C by dots; so many rows of A at a time that they stay in the cache while B passes by.

    Compiled once, as the symbol tinyllm_few_int8_f32 for an int8 B, and as a part of the one below.
    """
    sums = np.empty(4 * SIDE, carray(a, (1,)).dtype)
    step = max(4, CACHED // max(1, depth) // 4 * 4)
    for i in range(0, rows, step):
        left, target = Matrix(move(a, i * a_row), a_row, 1), Matrix(move(c, i * c_row), c_row, 1)
        size = (min(step, rows - i), columns, depth)
        multiply_by_dots(left, Matrix(b, b_row, b_column), target, size, start(sums))


def share_of_either(a, a_row, b, b_row, b_column, c, c_row, rows, columns, depth):
    """A share of C by dots or by sweeps, as B lies. Compiled once, as the symbol tinyllm_few_f32."""
    if b_row == 1:
        dots_of_share(a, a_row, b, b_row, b_column, c, c_row, rows, columns, depth)
    else:
        multiply_by_sweeps(Matrix(a, a_row, 1), Matrix(b, b_row, b_column), Matrix(c, c_row, 1), (rows, columns, depth))


dots_of_share = inlined(share_of_dots)


@intrinsic
def multiply_share(typing_context, a, b, c, size):
    """C = A·B for matrices a, b, c, size = (rows, columns, depth), by the machine code made for B's dtype."""
    name = "tinyllm_few" if b[0] == a[0] else "tinyllm_few_int8"

    def codegen(context, builder, signature, args):
        (a_base, a_row, _), (*b_parts,), (c_base, c_row, _), (*sizes,) = (
            cgutils.unpack_tuple(builder, value, 3) for value in args
        )
        call_symbol(builder, name, signature.args[0][0].dtype, [a_base, a_row, *b_parts, c_base, c_row, *sizes])
        return context.get_dummy_value()

    return types.void(a, b, c, types.UniTuple(types.intp, 3)), codegen


@inlined
def scale_and_add(c, rows, first, last, scale, bias):
    """c[i, j] = c[i, j] · scale[j] + bias[j] for the columns from `first` to `last`; an empty scale or bias is left out."""
    for i in range(rows):
        row = move(c.base, i * c.row)
        if scale.size:
            for j in range(first, last):
                store(row, j, load(row, j) * scale[j])
        if bias.size:
            for j in range(first, last):
                store(row, j, load(row, j) + bias[j])


@inlined
def multiply_shares(counter, share, a, b, c, size, weights, lines):
    """Compute shares of C as long as there are any: every worker takes the next one, so that a slow core takes fewer."""
    (rows, columns, depth), (scale, bias) = size, lines
    a, b, c = matrix_of(a, scale), matrix_of(b, weights), matrix_of(c, scale)
    j = take_number(counter) * share
    while j < columns:
        n = min(share, columns - j)
        multiply_share(a, at(b, 0, j), at(c, 0, j), (rows, n, depth))
        scale_and_add(c, rows, j, j + n, scale, bias)
        j = take_number(counter) * share


@jit(parallel=True)
def _multiply_few(a, b, c, size, weights, lines):
    """C = A·B · scale + bias. a, b, c: (address, row stride, column stride); `weights`, empty, tells the dtype of B."""
    rows, columns, depth = size
    n_workers = 1 if columns * depth * (1 + rows // 8) < SMALL else thread_count()
    n_tasks = n_workers * (1 if b[1] != 1 else 4)  # sweeps want long rows of B
    share, counter = -(-columns // (n_tasks * SHARE)) * SHARE, np.empty(1, np.int64)
    counter[0] = 0  # np.zeros would be a parallel loop of its own to Numba: one more launch
    if n_workers == 1:
        multiply_shares(counter, share, a, b, c, size, weights, lines)
    else:
        for _ in prange(n_workers):
            multiply_shares(counter, share, a, b, c, size, weights, lines)


# ---- the door from Python ----


@cache
def nothing(number: np.dtype, weight: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return empty lines of both dtypes, after making the machine code for this pair."""
    prepare(number.name)
    if weight == np.int8:
        make_symbol("tinyllm_few_int8", share_of_dots, "pnmnnpnnnn", number.name)
        return np.empty(0, number), np.empty(0, np.uint8)  # the same bits; the loops read them as signed
    make_symbol("tinyllm_few", share_of_either, "pnpnnpnnnn", number.name)
    return np.empty(0, number), np.empty(0, weight)


def _parts(x: np.ndarray) -> tuple[int, int, int]:
    """Return what a Matrix is made of."""
    return x.__array_interface__["data"][0], x.strides[0] // x.itemsize, x.strides[1] // x.itemsize


def is_few(n_rows: int) -> bool:
    """Whether so few rows are best multiplied by dots, and may be."""
    return n_rows <= DOT_ROWS and not batch_invariance()


def has_few_rows(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a @ b, for matrices, is best made here: few rows of a, and b with contiguous rows or columns."""
    if b.strides[0] == b.itemsize:
        return is_few(a.shape[0])
    return a.shape[0] <= FEW_ROWS and b.strides[1] == b.itemsize and not batch_invariance()


def multiply_few(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, scale: np.ndarray | None = None, bias: np.ndarray | None = None
) -> np.ndarray:
    """Fill out (M, N), whose rows are contiguous, with a @ b · scale + bias; scale and bias are (N,) and contiguous, or None.

    b (K, N) has contiguous rows or columns; it may be int8, then with contiguous columns.
    """
    if a.strides[1] != a.itemsize:
        a = np.array(a, order="C")  # dots walk along its rows
    none, weights = nothing(out.dtype, b.dtype)
    lines = none if scale is None else scale, none if bias is None else bias
    parts = _parts(a), _parts(b), _parts(out)
    _multiply_few(*parts, (*out.shape, a.shape[1]), weights, lines)
    return out
