"""Pointers and strided matrices inside kernels, where Numba's own arrays would get in the way.

A Numba array carries a type for every memory layout, so that a kernel taking two of them would be compiled nine times, and
each index is checked for being negative. Here a matrix is an address and two strides, and nothing is checked: A[i, j] lies
i * row + j * column numbers after the base. A transpose swaps the strides, a reversed axis has a negative one, a broadcast
axis has 0. How wide the vector registers of this CPU are is asked here, too.

Numba's own switch decides for all kernels which instructions there are. So a processor with AVX-512 runs the code that one
with AVX2 alone would run, kept apart in the cache of compiled code:

    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+bmi,+bmi2,+popcnt,+f16c python examples/05_gpt.py
"""

from functools import cache
from typing import Any, NamedTuple

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

from tinyllm.kernels.jit import CONFIG, inlined, intrinsic

INT64, INT32, BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)


def cpu_features() -> dict[str, bool]:
    """Return which instruction sets to use: what NUMBA_CPU_FEATURES says ("+avx2,-avx512f"), else what this CPU has."""
    chosen = CONFIG.CPU_FEATURES
    if chosen is None:
        return dict(binding.get_host_cpu_features())
    return {word[1:]: word.startswith("+") for word in chosen.split(",") if word}


@cache
def vector_registers() -> tuple[int, int]:
    """Return (bytes in a vector register, number of rows of the full tile) for the CPU that code is made for."""
    features = cpu_features()
    if features.get("avx512f"):
        return 64, 12  # 32 registers: 24 of sums, 2 of B, one of A
    if features.get("avx2"):
        return 32, 6  # 16 registers: 12 of sums, 2 of B, one of A
    if features.get("neon") or features.get("asimd"):
        return 16, 12
    return 16, 6


def lanes_of(dtype: Any) -> int:
    """Return how many numbers of Numba type `dtype` fit into one vector register."""
    return vector_registers()[0] // (dtype.bitwidth // 8)


def constant(value: int) -> ir.Constant:
    """Return `value` as an LLVM 64-bit integer."""
    return ir.Constant(INT64, value)


class Matrix(NamedTuple):
    """A matrix somewhere in memory: element (i, j) lies i * row + j * column numbers after `base`."""

    base: Any  # pointer
    row: int  # strides count numbers, not bytes; they may be negative or zero
    column: int


@intrinsic
def pointer(typing_context, address, like):
    """pointer(address, like): the integer `address` as a pointer to numbers of the dtype of `like`, an array or pointer."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.intp, like), codegen


@intrinsic
def start(typing_context, array):
    """start(array): a pointer to the first number of a contiguous array."""

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def move(typing_context, base, n):
    """move(base, n): the pointer n numbers further on."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return base(base, types.intp), codegen


@intrinsic
def load(typing_context, base, n):
    """load(base, n): the number n places after `base`."""

    def codegen(context, builder, signature, args):
        return builder.load(builder.gep(args[0], [args[1]]))

    return base.dtype(base, types.intp), codegen


@intrinsic
def store(typing_context, base, n, value):
    """store(base, n, value): write `value` n places after `base`."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(base, types.intp, base.dtype), codegen


@intrinsic
def fetch(typing_context, base):
    """fetch(base): start bringing what lies at `base` into the cache; nothing waits for it, any address is allowed."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [args[0].type, INT32, INT32, INT32])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [args[0], *(ir.Constant(INT32, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(base), codegen


@intrinsic
def lanes(typing_context, base):
    """lanes(base): numbers in one vector register, a constant for the compiler (16 for float32 with AVX-512)."""
    count = lanes_of(base.dtype)

    def codegen(context, builder, signature, args):
        return constant(count)

    return types.intp(base), codegen


@intrinsic
def tile_rows(typing_context, base):
    """tile_rows(base): rows of the full register tile, a constant for the compiler."""

    def codegen(context, builder, signature, args):
        return constant(vector_registers()[1])

    return types.intp(base), codegen


@intrinsic
def take_number(typing_context, counter):
    """take_number(counter): the number in counter[0], which grows by one; no two threads ever get the same."""

    def codegen(context, builder, signature, args):
        where = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", where, constant(1), "monotonic")

    return types.intp(counter), codegen


@intrinsic
def thread_count(typing_context):
    """thread_count(): how many threads a parallel loop will run on; numba.set_num_threads changes it."""

    def codegen(context, builder, signature, args):
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(INT64, []), "get_num_threads")
        return builder.call(count, [])

    return types.intp(), codegen


@intrinsic
def zero(typing_context, base):
    """zero(base): 0 in the dtype that `base` points to."""

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(signature.return_type), 0.0)

    return base.dtype(base), codegen


@inlined
def at(m, i, j):
    """The part of matrix m that starts at row i, column j."""
    return Matrix(move(m.base, i * m.row + j * m.column), m.row, m.column)


@inlined
def shifted(m, n):
    """The matrix n numbers further on."""
    return Matrix(move(m.base, n), m.row, m.column)


@inlined
def matrix_of(parts, like):
    """A Matrix from (address, row stride, column stride), as Python hands it over."""
    return Matrix(pointer(parts[0], like), parts[1], parts[2])


@inlined
def turned(m):
    """The transpose of m: nothing moves, the strides change places."""
    return Matrix(m.base, m.column, m.row)
