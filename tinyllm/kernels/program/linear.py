"""Linear: out = x Wᵀ + bias + residual, or gelu(x Wᵀ + bias).

W is packed beforehand in the order of the register tile, and a panel of its columns meets all the rows of a task while it is in
the cache. In int8 the weights stay as they are, a quarter of the memory, and become floats in the registers
(`kernels/product/matrix_vector.py`).
"""

from typing import Any

import numpy as np
from numba import types

from tinyllm.kernels.elementwise import gelu_tanh
from tinyllm.kernels.jit import inlined, intrinsic
from tinyllm.kernels.pointers import BYTE, Matrix, at, constant, lanes, load, move, pointer, store
from tinyllm.kernels.product.register_tile import call_symbol, multiply_panel
from tinyllm.kernels.program.instructions import Int8Linear, Linear
from tinyllm.kernels.program.packing import Packer, pack_weight, rows_at


def pack(packer: Packer, linear: Linear) -> tuple[list[int], float]:
    """x, its row stride; out, its row stride; residual or 0, its row stride; packed W; bias or 0; columns of x, of out; gelu."""
    shape, weight = linear.weight.shape[:1], linear.weight
    packer.check("linear", (linear.x, weight.shape[1:]), (linear.out, shape), (linear.residual, shape), (linear.bias, shape))
    packer.check("linear", (weight, weight.shape))
    places = [*packer.values(linear.x, linear.out, linear.residual), packer.address(pack_weight(weight))]
    return [*places, *packer.copies(linear.bias), weight.shape[1], len(weight), linear.gelu], 0.0


def pack_int8(packer: Packer, linear: Int8Linear) -> tuple[list[int], float]:
    """x, its row stride; out, its row stride; residual or 0, its row stride; W; scale; bias or 0; columns of x, of out."""
    shape, weight = linear.weight.shape[:1], linear.weight
    packer.check("int8 linear", (linear.x, weight.shape[1:]), (linear.out, shape), (linear.residual, shape))
    packer.check("int8 linear", (linear.scale, shape), (linear.bias, shape))
    packer.check("int8 linear", (weight, weight.shape), dtype=np.int8)
    places = [*packer.values(linear.x, linear.out, linear.residual), packer.in_order(weight)]
    return [*places, *packer.copies(linear.scale, linear.bias), weight.shape[1], len(weight)], 0.0


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
    """The rows from `first` on."""
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


@intrinsic
def multiply_int8(typing_context, x, step, weight, out, out_step, size):
    """out (rows, columns) = x Qᵀ for int8 weights at the address `weight`. size: rows, columns, depth."""

    def codegen(context, builder, signature, args):
        x, step, weight, out, out_step, size = args
        rows, columns, depth = (builder.extract_value(size, i) for i in range(3))
        weights = builder.inttoptr(weight, BYTE.as_pointer())
        arguments: list[Any] = [x, step, weights, constant(1), depth, out, out_step, rows, columns, depth]
        call_symbol(builder, "tinyllm_few_int8", signature.args[0].dtype, arguments)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, x, types.intp, types.UniTuple(types.intp, 3)), codegen


@inlined
def int8_linear_rows(code, like, first, count):
    """The rows from `first` on."""
    bias, depth, columns = load(code, 8), load(code, 9), load(code, 10)
    x, out, residual = rows_at(code, 0, first, like), rows_at(code, 2, first, like), rows_at(code, 4, first, like)
    multiply_int8(x.base, x.row, load(code, 6), out.base, out.row, (count, columns, depth))
    scale = pointer(load(code, 7), like)
    for i in range(count):
        row = at(out, i, 0).base
        for j in range(columns):
            store(row, j, load(row, j) * load(scale, j))
        finish_row(row, columns, (bias, pointer(bias, like)), (load(code, 4), at(residual, i, 0).base), 0)
