"""Rotary: each head of a row turned by the angles of the row's position (`kernels/rotary.py`)."""

from numba import carray

from tinyllm.kernels.jit import inlined
from tinyllm.kernels.pointers import load, move, pointer
from tinyllm.kernels.program.instructions import Rotary
from tinyllm.kernels.program.packing import Packer, rows_at
from tinyllm.kernels.rotary import turn


def pack(packer: Packer, rotary: Rotary) -> tuple[list[int], float]:
    """x, its row stride; out, its row stride; cos; sin; D/2; heads."""
    width, half = rotary.x.shape[1], rotary.cos.shape[1]
    table = rotary.cos.shape
    packer.check("rotary", (rotary.x, (width // (2 * half) * 2 * half,)), (rotary.out, (width,)))
    if rotary.sin.shape != table or not rotary.cos.dtype == rotary.sin.dtype == packer.dtype:
        found = f"cos {rotary.cos.dtype} {table}, sin {rotary.sin.dtype} {rotary.sin.shape}"
        raise ValueError(f"rotary: {found} came, {packer.dtype} (positions, D/2) expected")
    places = [packer.in_order(rotary.cos), packer.in_order(rotary.sin)]
    return [*packer.values(rotary.x, rotary.out), *places, half, width // (2 * half)], 1.0


@inlined
def rotary_rows(code, lengths, like, sign, first, count):
    """The rows from `first` on, whose positions are `lengths`. sign: 1."""
    half, n_heads = load(code, 6), load(code, 7)
    for row in range(first, first + count):
        place = load(lengths, row) * half
        cos = carray(move(pointer(load(code, 4), like), place), (half,))
        sin = carray(move(pointer(load(code, 5), like), place), (half,))
        x = carray(rows_at(code, 0, row, like).base, (n_heads, 2 * half))
        turn(x, cos, sin, sign, carray(rows_at(code, 2, row, like).base, (n_heads, 2 * half)))
