"""A step of generation, compiled: the calls that a model makes for one token a row, written down once and run as one kernel.

A network of small layers spends more time between its layers than in them: calls from Python, checks, launches. Yet a step of
generation is the same straight line of calls each time; only the numbers change. So one ordinary step is watched
(`noting_calls`), its calls become the lines of a program (`kernels/row_program.py`), and from then on a step is one launch, in
which each row has its own length: what was padding in the prompts is left behind here.

Nothing in this file knows GPT. A model qualifies if its step is made of the ops in `LINES` between `embed` and `logits`; with any
other call in it (int8 weights, adapters) `compile_step` gives None, and the model goes on as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import Call, Tensor
from tinyllm.nn import KVCache, evaluating

MOST_WEIGHTS = 1 << 25  # the program packs a copy of them; with more, arithmetic is all that counts
SPARE = 16  # room beyond the longest text: with a power of two all lines of a key would fall into the same few lines of a cache


class CompiledStep:
    """A step for the rows of a batch. Call it with their new tokens (R,): logits (R, V), good until the next call."""

    def __init__(self, model: Any, program: Any, x: np.ndarray, logits: np.ndarray):
        self.model, self.program, self.x, self.logits = model, program, x, logits
        self.n_rows = program.n_rows

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Reads one more token a row; logits (R, V)."""
        lengths = self.program.lengths[: self.n_rows]
        with evaluating(self.model):
            self.x[: self.n_rows] = self.model.embed(tokens[:, None], lengths[:, None]).data[:, 0]
        self.program.run(self.n_rows)
        lengths += 1
        return self.logits[: self.n_rows]

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with some of the rows only; what the cache holds of them stays where it is."""
        for places in (self.program.slots, self.program.lengths):
            places[: len(rows)] = places[rows]
        self.n_rows = len(rows)


class _Writer:
    """Turns calls into lines; knows which array of the program holds which Tensor, and gives arrays back to be used again."""

    def __init__(self, program: Any, calls: list[Call], caches: dict[int, tuple[np.ndarray, np.ndarray]]):
        self.program, self.caches = program, caches
        self.arrays: dict[int, np.ndarray] = {}
        self.free: list[np.ndarray] = []
        self.last_use = {id(x): i for i, call in enumerate(calls) for x in call.inputs if isinstance(x, Tensor)}

    def new(self, width: int) -> np.ndarray:
        """An array of that width."""
        for i, array in enumerate(self.free):
            if array.shape[1] == width:
                return self.free.pop(i)
        return self.program.array(width)

    def result(self, call: Call) -> np.ndarray:
        """The array for what the call gives."""
        self.arrays[id(call.out)] = array = self.new(call.out.shape[-1])
        return array

    def write(self, i: int, call: Call) -> None:
        """One call; what nobody reads after it may be written over."""
        LINES[call.op](self, call)
        for x in call.inputs:
            if self.last_use.get(id(x)) == i and id(x) in self.arrays:
                self.free.append(self.arrays[id(x)])


def _layer_norm(to: _Writer, call: Call) -> None:
    x, weight, bias = call.inputs
    to.program.norm(to.arrays[id(x)], weight.data, _data(bias), to.result(call), eps=call.settings["eps"])


def _rms_norm(to: _Writer, call: Call) -> None:
    x, weight = call.inputs
    to.program.norm(to.arrays[id(x)], weight.data, None, to.result(call), eps=call.settings["eps"], rms=True)


def _linear(to: _Writer, call: Call) -> None:
    x, weight, bias, residual = call.inputs
    added = None if residual is None else to.arrays[id(residual)]
    to.program.linear(to.arrays[id(x)], weight.data, _data(bias), to.result(call), residual=added)


def _gelu_feedforward(to: _Writer, call: Call) -> None:
    x, up, up_bias, down, down_bias, residual = call.inputs
    active = to.new(len(up.data))
    added = None if residual is None else to.arrays[id(residual)]
    to.program.linear(to.arrays[id(x)], up.data, _data(up_bias), active, gelu=True)
    to.program.linear(active, down.data, _data(down_bias), to.result(call), residual=added)
    to.free.append(active)


def _attend_to_cache(to: _Writer, call: Call) -> None:
    (qkv,), n_heads = call.inputs, call.settings["n_heads"]
    keys, values = to.caches[id(call.settings["cache"])]
    to.program.attend(to.arrays[id(qkv)], keys, values, to.result(call), n_heads=n_heads, scale=1 / math.sqrt(keys.shape[2]))


LINES: dict[str, Callable[[_Writer, Call], None]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "linear": _linear,
    "gelu_feedforward": _gelu_feedforward,
    "_attend_to_cache": _attend_to_cache,
}


def _data(x: Any) -> Any:
    return None if x is None else x.data


def compile_step(
    model: Any, calls: list[Call], *, x: Tensor, logits: Tensor, cache: KVCache, mask: np.ndarray | None
) -> CompiledStep | None:
    """The step whose `calls` led from x (R, 1, C) to logits (R, 1, V); None if it cannot be compiled.

    cache  what has been read so far, with room for what is to come; it is copied
    mask   (R, S) bool over it, True = a real token, or None
    """
    weights = [array.data for call in calls for array in call.inputs[1:] if isinstance(array, Tensor)]
    dtypes = {array.dtype for array in [x.data, *weights]}
    known = all(call.op in LINES for call in calls)
    if not known or len(dtypes) > 1 or sum(weight.size for weight in weights) > MOST_WEIGHTS:
        return None
    program = kernels.RowProgram(len(x.data), x.dtype)
    columns = [np.arange(cache.length)] * program.n_rows if mask is None else [np.flatnonzero(row) for row in mask]
    program.slots[:], program.lengths[:] = np.arange(program.n_rows), [len(real) for real in columns]
    caches = {id(layer): _own_cache(layer, columns, cache.max_length + SPARE) for layer in cache.layers}
    writer = _Writer(program, calls, caches)
    writer.arrays[id(x)] = first = program.array(x.shape[-1])
    writer.last_use.pop(id(x), None)  # filled anew at each step, so never free
    for i, call in enumerate(calls):
        writer.write(i, call)
    return CompiledStep(model, program, first, writer.arrays[id(logits)])


def _own_cache(layer: Any, columns: list[np.ndarray], room: int) -> tuple[np.ndarray, np.ndarray]:
    """A layer's keys (R, G, D, room) and values (R, G, room, D), without what was padding."""
    n_rows, _, n_groups, width = layer.keys.shape
    keys = np.zeros((n_rows, n_groups, width, room), layer.keys.dtype)
    values = np.zeros((n_rows, n_groups, room, width), layer.keys.dtype)
    for row, real in enumerate(columns):
        keys[row, :, :, : len(real)] = layer.keys[row, real].transpose(1, 2, 0)
        values[row, :, : len(real)] = layer.values[row, real].transpose(1, 0, 2)
    return keys, values
