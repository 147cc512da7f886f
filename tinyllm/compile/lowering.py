"""From the calls of ops that a step made to the instructions of a program: a table keyed by the op's name.

A function of the table is given the writer, which knows which array of the program holds which Tensor, and the call. New ops in a
model need a line here, and if no instruction does what they do, one in `kernels/program/instructions.py`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyllm.autograd import Call, Tensor
from tinyllm.kernels.program.instructions import (
    POSITION,
    TOKEN,
    Attend,
    Elementwise,
    Embedding,
    Int8Embedding,
    Int8Linear,
    Linear,
    Norm,
    Rotary,
)


class NotCompilable(Exception):
    """A call reads something that is neither a weight nor what an earlier instruction wrote, or is another op's."""


class NotYet(Exception):
    """Each row's token is also its position, so that it cannot be told which a table was read by: the next step will tell."""


class Writer:
    """Adds instructions to a program, and gives arrays back for new use once nobody reads them any more.

    weights  ids of the Tensors that are the same in every step
    caches   id of a layer's cache -> its keys and values in the program
    room     tokens that a text may come to; smaller where a table of positions ends earlier
    """

    def __init__(
        self, program: Any, calls: list[Call], *, weights: set[int], caches: dict[int, tuple[np.ndarray, np.ndarray]], room: int
    ):
        self.program, self.weights, self.caches, self.room = program, weights, caches, room
        self.arrays: dict[int, np.ndarray] = {}
        self.free: list[np.ndarray] = []
        self.same: dict[int, int] = {}  # a Tensor that is another one in a new shape -> that one
        self.last_use: dict[int, int] = {}
        for i, call in enumerate(calls):
            if call.op == "reshape":
                self.same[id(call.out)] = self.root(call.inputs[0])
            for x in call.inputs:
                if isinstance(x, Tensor):
                    self.last_use[self.root(x)] = i

    def root(self, x: Tensor) -> int:
        """Whose numbers these are."""
        return self.same.get(id(x), id(x))

    def array(self, x: Any) -> np.ndarray:
        """What holds x."""
        if not isinstance(x, Tensor) or self.root(x) not in self.arrays:
            raise NotCompilable
        return self.arrays[self.root(x)]

    def optional(self, x: Any) -> np.ndarray | None:
        """What holds x, if there is one."""
        return None if x is None else self.array(x)

    def weight(self, x: Any, *, dtype: Any = None) -> np.ndarray:
        """The numbers of a weight."""
        if id(x) not in self.weights or x.data.dtype != (dtype or self.program.dtype):
            raise NotCompilable
        return x.data

    def bias(self, x: Any) -> np.ndarray | None:
        """The numbers of a weight, if there is one."""
        return None if x is None else self.weight(x)

    def new(self, width: int) -> np.ndarray:
        """An array of that width."""
        for i, array in enumerate(self.free):
            if array.shape[1] == width:
                return self.free.pop(i)
        return self.program.array(width)

    def result(self, call: Call) -> np.ndarray:
        """The array for what the call gives, a row of it for each row of the program."""
        width, left = divmod(call.out.size, self.program.n_rows)
        if left:
            raise NotCompilable
        self.arrays[id(call.out)] = array = self.new(width)
        return array

    def kind_of(self, ids: np.ndarray, size: int) -> str:
        """Whether a table of `size` rows is read by token or by position."""
        by_token, by_position = (np.array_equal(ids.ravel(), x) for x in (self.program.tokens, self.program.lengths))
        if by_token and by_position:
            raise NotYet
        if not by_token and not by_position:
            raise NotCompilable
        if by_position:
            self.room = min(self.room, size)
        return TOKEN if by_token else POSITION

    def write(self, i: int, call: Call) -> None:
        """One call; what nobody reads after it may be written over."""
        if call.op not in LOWERINGS:
            raise NotCompilable
        LOWERINGS[call.op](self, call)
        for root in {self.root(x) for x in call.inputs if isinstance(x, Tensor)}:
            if self.last_use[root] == i and root in self.arrays and call.op != "reshape":
                self.free.append(self.arrays[root])


def _embedding(to: Writer, call: Call) -> None:
    table = to.weight(call.inputs[0])
    to.program.add(Embedding(table, to.result(call), to.kind_of(call.settings["ids"], len(table))))


def _int8_embedding(to: Writer, call: Call) -> None:
    table, scale = call.inputs
    by = to.kind_of(call.settings["ids"], len(table.data))
    to.program.add(Int8Embedding(to.weight(table, dtype=np.int8), to.weight(scale), to.result(call), by))


def _norm(to: Writer, call: Call) -> None:
    x, weight, *rest = call.inputs  # RMS norm has no bias
    bias = to.bias(rest[0]) if rest else None
    rms = call.op == "rms_norm"
    to.program.add(Norm(to.array(x), to.weight(weight), bias, to.result(call), call.settings["eps"], rms))


def _linear(to: Writer, call: Call) -> None:
    x, weight, bias, residual = (*call.inputs, None, None)[:4]
    to.program.add(Linear(to.array(x), to.weight(weight), to.bias(bias), to.result(call), to.optional(residual)))


def _int8_linear(to: Writer, call: Call) -> None:
    x, weight, scale, bias, residual = (*call.inputs, None, None)[:5]
    places = to.weight(weight, dtype=np.int8), to.weight(scale), to.bias(bias)
    to.program.add(Int8Linear(to.array(x), *places, to.result(call), to.optional(residual)))


def _gelu_feedforward(to: Writer, call: Call) -> None:
    x, up, up_bias, down, down_bias, residual = call.inputs
    active = to.new(len(to.weight(up)))
    to.program.add(Linear(to.array(x), to.weight(up), to.bias(up_bias), active, gelu=True))
    to.program.add(Linear(active, to.weight(down), to.bias(down_bias), to.result(call), to.optional(residual)))
    to.free.append(active)


def _silu_feedforward(to: Writer, call: Call) -> None:
    x, gate, up, down, residual = call.inputs
    gated, lifted = (to.new(len(to.weight(gate))) for _ in range(2))
    to.program.add(Linear(to.array(x), to.weight(gate), None, gated))
    to.program.add(Linear(to.array(x), to.weight(up), None, lifted))
    to.program.add(Elementwise("gate", gated, gated, lifted))
    to.program.add(Linear(gated, to.weight(down), None, to.result(call), to.optional(residual)))
    to.free += [gated, lifted]


def _gelu(to: Writer, call: Call) -> None:
    if call.settings["approximate"] != "tanh":
        raise NotCompilable
    to.program.add(Elementwise("gelu", to.array(call.inputs[0]), to.result(call)))


def _silu(to: Writer, call: Call) -> None:
    to.program.add(Elementwise("silu", to.array(call.inputs[0]), to.result(call)))


def _add(to: Writer, call: Call) -> None:
    x, other = (to.array(x) for x in call.inputs)
    to.program.add(Elementwise("add", x, to.result(call), other))


def _multiply(to: Writer, call: Call) -> None:
    x, other = call.inputs
    if isinstance(other, int | float):
        to.program.add(Elementwise("scale", to.array(x), to.result(call), factor=float(other)))
    else:
        to.program.add(Elementwise("multiply", to.array(x), to.result(call), to.array(other)))


def _rotary(to: Writer, call: Call) -> None:
    cos, sin = call.settings["cos"], call.settings["sin"]
    if to.kind_of(call.settings["positions"], len(cos)) != POSITION:
        raise NotCompilable
    to.program.add(Rotary(to.array(call.inputs[0]), cos, sin, to.result(call)))


def _attention(to: Writer, call: Call) -> None:
    query, key, value = (to.array(x) for x in call.inputs[:3])
    if call.inputs[3:] not in ((), (None,)) or call.settings.get("attention_mask") is not None:
        raise NotCompilable
    _attend(to, call, query, key, value)


def _self_attention(to: Writer, call: Call) -> None:
    qkv, n_heads = to.array(call.inputs[0]), call.settings["n_heads"]
    n_groups = call.settings.get("n_kv_heads") or n_heads
    width = qkv.shape[1] // (n_heads + 2 * n_groups)
    parts = np.split(qkv, [n_heads * width, (n_heads + n_groups) * width], axis=1)
    _attend(to, call, parts[0], parts[1], parts[2])


def _attend(to: Writer, call: Call, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> None:
    visible, cache = call.settings["visible"], call.settings.get("cache")
    if id(cache) not in to.caches or not visible.causal or visible.prefix is not None or visible.key_mask is not None:
        raise NotCompilable
    keys, values = to.caches[id(cache)]
    scale = 1 / math.sqrt(keys.shape[2])
    to.program.add(Attend(query, key, value, keys, values, to.result(call), scale, visible.window))


def _reshape(to: Writer, call: Call) -> None:
    to.array(call.inputs[0])  # the same numbers, row by row


LOWERINGS: dict[str, Callable[[Writer, Call], None]] = {
    "embedding": _embedding,
    "int8_embedding": _int8_embedding,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "linear": _linear,
    "int8_linear": _int8_linear,
    "gelu_feedforward": _gelu_feedforward,
    "silu_feedforward": _silu_feedforward,
    "gelu": _gelu,
    "silu": _silu,
    "add": _add,
    "multiply": _multiply,
    "rotary": _rotary,
    "attention": _attention,
    "self_attention": _self_attention,
    "reshape": _reshape,
}
