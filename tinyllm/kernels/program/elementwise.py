"""Elementwise: what is done to each number alone, or to pairs of them."""

from tinyllm.kernels.elementwise import gelu_tanh, silu
from tinyllm.kernels.jit import inlined
from tinyllm.kernels.pointers import load, store
from tinyllm.kernels.program.instructions import ELEMENTWISE, OF_TWO, Elementwise
from tinyllm.kernels.program.packing import Packer, rows_at

GELU, SILU, SCALE, ADD, MULTIPLY, GATE = range(len(ELEMENTWISE))


def pack(packer: Packer, step: Elementwise) -> tuple[list[int], float]:
    """x, its row stride; other or 0, its row stride; out, its row stride; width; which."""
    width = step.x.shape[1:]
    packer.check(step.name, (step.x, width), (step.out, width), (step.other, width))
    if step.name not in ELEMENTWISE or (step.other is None) == (step.name in OF_TWO):
        raise ValueError(
            f"elementwise: {step.name!r} came; expected one of {', '.join(ELEMENTWISE)}, with other for the last three"
        )
    return [*packer.values(step.x, step.other, step.out), *width, ELEMENTWISE.index(step.name)], step.factor


@inlined
def elementwise_rows(code, like, factor, first, count):
    """The rows from `first` on."""
    width, kind = load(code, 6), load(code, 7)
    for row in range(first, first + count):
        x, y, out = rows_at(code, 0, row, like).base, rows_at(code, 2, row, like).base, rows_at(code, 4, row, like).base
        if kind == GELU:
            for i in range(width):
                store(out, i, gelu_tanh(load(x, i)))
        elif kind == SILU:
            for i in range(width):
                store(out, i, silu(load(x, i)))
        elif kind == SCALE:
            for i in range(width):
                store(out, i, factor * load(x, i))
        elif kind == ADD:
            for i in range(width):
                store(out, i, load(x, i) + load(y, i))
        elif kind == MULTIPLY:
            for i in range(width):
                store(out, i, load(x, i) * load(y, i))
        else:
            for i in range(width):
                store(out, i, silu(load(x, i)) * load(y, i))
