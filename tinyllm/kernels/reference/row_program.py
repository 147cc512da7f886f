"""A network for one token a row as a list of steps, run one after the other in plain NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from tinyllm.kernels.program.instructions import (
    TOKEN,
    Attend,
    Elementwise,
    Embedding,
    Instruction,
    Int8Embedding,
    Int8Linear,
    Linear,
    Norm,
    Rotary,
)
from tinyllm.kernels.reference.activations import gelu_tanh_forward, silu_forward
from tinyllm.kernels.reference.embedding import rotary_forward
from tinyllm.kernels.reference.norm import layer_norm_forward, rms_norm_forward
from tinyllm.kernels.reference.products import int8_linear_forward, linear_forward
from tinyllm.kernels.reference.softmax import softmax_forward

Step = Callable[[int], Any]


class RowProgram:
    """Instructions, each of which reads and writes arrays (n_rows, width), run for the first rows. Weights are copied."""

    def __init__(self, n_rows: int, dtype: np.dtype):
        self.n_rows, self.dtype = n_rows, np.dtype(dtype)
        self.tokens, self.slots, self.lengths = (np.zeros(n_rows, np.int64) for _ in range(3))
        self._steps: list[Step] = []

    def array(self, width: int) -> ndarray:
        """Zeros (n_rows, width)."""
        return np.zeros((self.n_rows, width), self.dtype)

    def add(self, instruction: Instruction) -> None:
        """Append an instruction (`kernels/program/instructions.py`)."""
        self._steps.append(STEPS[type(instruction)](self, instruction))

    def run(self, n_rows: int) -> None:
        """One token of the first n_rows rows, whose keys are at `slots`, `lengths` of them."""
        for step in self._steps:
            step(n_rows)


def _copy(array: ndarray | None) -> ndarray | None:
    return None if array is None else array.copy()


def _norm(program: RowProgram, one: Norm) -> Step:
    weight, bias = one.weight.copy(), _copy(one.bias)

    def step(n: int) -> None:
        parts = one.x[:n].reshape(n, -1, len(weight))
        y = rms_norm_forward(parts, weight, one.eps)[0] if one.rms else layer_norm_forward(parts, weight, bias, one.eps)[0]
        one.out[:n] = y.reshape(n, one.out.shape[1])

    return step


def _linear(program: RowProgram, one: Linear) -> Step:
    weight, bias = one.weight.copy(), _copy(one.bias)

    def step(n: int) -> None:
        y = linear_forward(one.x[:n], weight, bias, None if one.residual is None else one.residual[:n])
        one.out[:n] = gelu_tanh_forward(y) if one.gelu else y

    return step


def _int8_linear(program: RowProgram, one: Int8Linear) -> Step:
    def step(n: int) -> None:
        y = int8_linear_forward(one.x[:n], one.weight, one.scale, one.bias)
        one.out[:n] = y if one.residual is None else y + one.residual[:n]

    return step


def _elementwise(program: RowProgram, one: Elementwise) -> Step:
    other = one.x if one.other is None else one.other
    does: dict[str, Callable[[ndarray, ndarray], ndarray]] = {
        "gelu": lambda x, y: gelu_tanh_forward(x),
        "silu": lambda x, y: silu_forward(x),
        "scale": lambda x, y: x * x.dtype.type(one.factor),
        "add": lambda x, y: x + y,
        "multiply": lambda x, y: x * y,
        "gate": lambda x, y: silu_forward(x) * y,
    }

    def step(n: int) -> None:
        one.out[:n] = does[one.name](one.x[:n], other[:n])

    return step


def _rotary(program: RowProgram, one: Rotary) -> Step:
    def step(n: int) -> None:
        heads = one.x[:n].reshape(n, 1, -1, 2 * one.cos.shape[1])  # each row at a position of its own
        one.out[:n] = rotary_forward(heads, one.cos, one.sin, program.lengths[:n, None]).reshape(n, one.out.shape[1])

    return step


def _embedding(program: RowProgram, one: Embedding) -> Step:
    def step(n: int) -> None:
        one.out[:n] = one.table[program.tokens[:n] if one.by == TOKEN else program.lengths[:n]]

    return step


def _int8_embedding(program: RowProgram, one: Int8Embedding) -> Step:
    def step(n: int) -> None:
        ids = program.tokens[:n] if one.by == TOKEN else program.lengths[:n]
        one.out[:n] = one.table[ids] * one.scale[ids][:, None]

    return step


def _attend(program: RowProgram, one: Attend) -> Step:
    n_groups, width = one.keys.shape[1:3]

    def step(n: int) -> None:
        for row, (slot, length) in enumerate(zip(program.slots[:n], program.lengths[:n], strict=True)):
            seen = slice(0 if one.window is None else max(0, length + 1 - one.window), length + 1)
            one.keys[slot, :, :, length], one.values[slot, :, length] = (x[row].reshape(-1, width) for x in (one.key, one.value))
            query = one.query[row].reshape(n_groups, -1, width)  # (G, H/G, D)
            weights = softmax_forward(one.scale * query @ one.keys[slot][..., seen])  # (G, H/G, S)
            one.out[row] = (weights @ one.values[slot][:, seen]).ravel()

    return step


STEPS: dict[type, Callable[[RowProgram, Any], Step]] = {
    Norm: _norm, Linear: _linear, Int8Linear: _int8_linear, Elementwise: _elementwise, Rotary: _rotary, Embedding: _embedding,
    Int8Embedding: _int8_embedding, Attend: _attend,
}  # fmt: skip
