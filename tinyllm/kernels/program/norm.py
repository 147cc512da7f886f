"""Norm: each part of a row brought to one size, as in `kernels/norm.py`."""

from numba import carray

from tinyllm.kernels.jit import inlined
from tinyllm.kernels.norm import layer_norm_row, rms_norm_row
from tinyllm.kernels.pointers import load, move, pointer
from tinyllm.kernels.program.instructions import Norm
from tinyllm.kernels.program.packing import Packer, rows_at


def pack(packer: Packer, norm: Norm) -> tuple[list[int], float]:
    """x, its row stride; out, its row stride; weight; bias or 0; width of a part; parts; whether RMS."""
    width, total = len(norm.weight), norm.x.shape[1]
    packer.check(
        "norm", (norm.x, (total // width * width,)), (norm.out, (total,)), (norm.bias, (width,)), (norm.weight, (width,))
    )
    places = [*packer.values(norm.x, norm.out), *packer.copies(norm.weight, norm.bias)]
    return [*places, width, total // width, norm.rms], norm.eps


@inlined
def norm_rows(code, like, eps, first, count):
    """out = norm(x)."""
    bias_address, width, rms = load(code, 5), load(code, 6), load(code, 8)
    weight, bias = carray(pointer(load(code, 4), like), (width,)), carray(pointer(bias_address, like), (width,))
    for row in range(first, first + count):
        x_row, out_row = rows_at(code, 0, row, like).base, rows_at(code, 2, row, like).base
        for part in range(load(code, 7)):
            x, out = carray(move(x_row, part * width), (width,)), carray(move(out_row, part * width), (width,))
            if rms:
                rms_norm_row(x, weight, eps, out)
            else:
                layer_norm_row(x, weight, bias[: width if bias_address else 0], eps, out)
