"""Bytes of a text in kernels: eight at once as one number, and UTF-8 characters with the classes that cuts are made by.

Text comes with PADDING zero bytes behind its end, so that eight bytes may be read from any place in it.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from tinyllm.kernels.jit import inlined, intrinsic
from tinyllm.kernels.pointers import INT64

PADDING = 16
END = 64  # beside the classes in `patterns`: the text ends here
WIDTH = 8  # what `character` returns: class | bytes << WIDTH
HIGH_BITS = np.uint64(0x8080808080808080)
MIX, MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)  # for hashes: odd, without a pattern
LOW_BITS, CASE_BITS = np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x2020202020202020)
FROM_A, BEYOND_Z = np.uint64(0x1F1F1F1F1F1F1F1F), np.uint64(0x0505050505050505)  # 0x80 - "a", 0x80 - "z" - 1


@intrinsic
def eight_bytes(typing_context, base, n):
    """eight_bytes(base, n): the bytes from n on as one uint64, the first of them lowest."""

    def codegen(context, builder, signature, args):
        value = builder.load(builder.bitcast(builder.gep(args[0], [args[1]]), INT64.as_pointer()))
        value.align = 1
        return value

    return types.uint64(base, types.intp), codegen


@intrinsic
def put_eight_bytes(typing_context, base, n, value):
    """put_eight_bytes(base, n, value): the inverse of `eight_bytes`."""

    def codegen(context, builder, signature, args):
        where = builder.bitcast(builder.gep(args[0], [args[1]]), INT64.as_pointer())
        builder.store(args[2], where).align = 1
        return context.get_dummy_value()

    return types.void(base, types.intp, types.uint64), codegen


@intrinsic
def trailing_zeros(typing_context, x):
    """trailing_zeros(x): how many of the lowest bits of x are 0; x is not 0."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(INT64, [INT64, ir.IntType(1)])
        count = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i64")
        return builder.call(count, [args[0], ir.Constant(ir.IntType(1), 1)])

    return types.intp(types.uint64), codegen


@intrinsic
def byte_at(typing_context, base, n):
    """byte_at(base, n): the byte at n as an int64."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.load(builder.gep(args[0], [args[1]])), INT64)

    return types.int64(base, types.intp), codegen


@inlined
def ascii_letters(text, i):
    """How many of the eight bytes from i on are ASCII letters, counted up to the first that is not.

    All eight are looked at in one number: a carry into a byte's highest bit says that it is "a" or more, or more than "z".
    """
    word = eight_bytes(text, i)
    low = (word | CASE_BITS) & LOW_BITS
    others = ~((low + FROM_A) & ~(low + BEYOND_Z) & ~word) & HIGH_BITS
    return 8 if others == np.uint64(0) else trailing_zeros(others) >> 3


@inlined
def is_continuation(byte):
    """Whether a byte is the second, third or fourth of a character."""
    return byte & 0xC0 == 0x80


@inlined
def wide_character(text, i, classes):
    """`character` for a first byte of 0x80 or more. A byte that begins no valid UTF-8 is a symbol of its own."""
    first, second = byte_at(text, i), byte_at(text, i + 1)
    if first < 0xC2 or first > 0xF4 or not is_continuation(second):
        return 1 << WIDTH
    if first < 0xE0:
        return byte_at(classes, (first & 0x1F) << 6 | second & 0x3F) | 2 << WIDTH
    third = byte_at(text, i + 2)
    if not is_continuation(third):
        return 1 << WIDTH
    if first < 0xF0:
        code = (first & 0x0F) << 12 | (second & 0x3F) << 6 | third & 0x3F
        if code < 0x800 or 0xD800 <= code < 0xE000:  # written longer than needed; half of a UTF-16 pair
            return 1 << WIDTH
        return byte_at(classes, code) | 3 << WIDTH
    fourth = byte_at(text, i + 3)
    code = (first & 0x07) << 18 | (second & 0x3F) << 12 | (third & 0x3F) << 6 | fourth & 0x3F
    if not is_continuation(fourth) or code < 0x10000 or code > 0x10FFFF:
        return 1 << WIDTH
    return byte_at(classes, code) | 4 << WIDTH


@inlined
def character(text, i, n, classes):
    """The class of the character at i and how many bytes it has: class | bytes << WIDTH; END where the text of n bytes ends."""
    if i >= n:
        return END
    byte = byte_at(text, i)
    if byte < 0x80:
        return byte_at(classes, byte) | 1 << WIDTH
    return wide_character(text, i, classes)


@inlined
def run_end(text, i, n, classes, wanted):
    """The end of the run of characters from i on that have one of the `wanted` bits."""
    while True:
        here = character(text, i, n, classes)
        if not here & wanted:
            return i
        i += here >> WIDTH
