"""Epilogues: what follows a matrix product, done block by block while the block of C is still in the cache.

    ADD_TO               c ← what C held before + c      (done by the tile itself)
    LINEAR               c ← c + bias + residual
    GELU                 c ← c + bias;            second ← gelu(c)
    GELU_BACKWARD        c ← c · gelu'(first);    first ← gelu(first)
    SILU_GATE            second ← silu(first) · c
    SILU_GATE_BACKWARD   first ← c · second · silu'(first);   second ← silu(first) · second;   c ← c · silu(first)
A separate pass over C reads it from memory and writes it back, which takes longer than the arithmetic: for the products of
a small model as long as a tenth of the product itself. The two backward forms overwrite what the forward kept, with what
the next product needs: the activation's value, which costs nothing once its slope is known and so need not be stored.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinyllm.kernels.elementwise import gelu_tanh, gelu_tanh_both, silu, silu_slope
from tinyllm.kernels.jit import inlined

NOTHING, LINEAR, GELU, GELU_BACKWARD, SILU_GATE, SILU_GATE_BACKWARD, ADD_TO = range(7)


class Epilogue(NamedTuple):
    """What to do with C (M × N), which `target` names as an array; arrays that `kind` does not use have size 0."""

    kind: int
    target: ndarray  # (M, N), C itself
    bias: ndarray  # (1, N)
    first: ndarray  # (M, N)
    second: ndarray  # (M, N)


def epilogue(kind: int, target: ndarray, *, bias: Any = None, first: Any = None, second: Any = None) -> Epilogue:
    """Return the Epilogue with None replaced by an empty array of the same type."""
    nothing = np.empty((0, 0), target.dtype)
    arrays = (nothing if x is None else x for x in (bias, first, second))
    return Epilogue(kind, target, *arrays)


@inlined
def _linear(c, bias, residual):
    for j in range(bias.size):
        c[j] += bias[j]
    for j in range(residual.size):
        c[j] += residual[j]


@inlined
def _gelu(c, bias, y):
    for j in range(bias.size):
        c[j] += bias[j]
    for j in range(c.size):
        y[j] = gelu_tanh(c[j])


@inlined
def _gelu_backward(c, x):
    for j in range(c.size):
        value, slope = gelu_tanh_both(x[j])
        c[j] *= slope
        x[j] = value


@inlined
def _silu_gate(c, gate, y):
    for j in range(c.size):
        y[j] = silu(gate[j]) * c[j]


@inlined
def _silu_gate_backward(c, gate, up):
    for j in range(c.size):
        dy, g, u = c[j], gate[j], up[j]
        value = silu(g)
        c[j] = dy * value
        gate[j] = dy * u * silu_slope(g)
        up[j] = value * u


@inlined
def finish_block(work, i, j, n_rows, n_columns):
    """Apply the epilogue to rows i .. i + n_rows, columns j .. j + n_columns of C."""
    kind, target, bias, first, second = work
    end = j + n_columns
    for row in range(i, i + n_rows):
        c = target[row, j:end]
        if kind == LINEAR:
            _linear(c, bias[0, j:end] if bias.size else c[:0], first[row, j:end] if first.size else c[:0])
        elif kind == GELU:
            _gelu(c, bias[0, j:end] if bias.size else c[:0], second[row, j:end])
        elif kind == GELU_BACKWARD:
            _gelu_backward(c, first[row, j:end])
        elif kind == SILU_GATE:
            _silu_gate(c, first[row, j:end], second[row, j:end])
        elif kind == SILU_GATE_BACKWARD:
            _silu_gate_backward(c, first[row, j:end], second[row, j:end])
