"""A step of generation, compiled: the calls that a model makes for one token a row, written down once and run as one kernel.

A network of small layers spends more time between its layers than in them: calls from Python, checks, launches. Yet a step of
generation is the same straight line of calls each time; only the numbers change. So one ordinary step is watched
(`observe_ops`), its calls become the instructions of a program (`kernels/program/row_program.py`), and from then on a step is one
launch, in which each row has its own length: what was padding in the prompts is left behind here.

Nothing in this file knows GPT. A model qualifies if it has `embed`, and if all that follows in its step is made of the ops in
`INSTRUCTIONS`. With any other call in it (int8 weights, adapters) `compile_step` gives None, and the model goes on as before. So
it does if the program does not give the logits of the step that was watched, since then something happened that was no op.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import Call, Tensor
from tinyllm.models.contract import LanguageModel
from tinyllm.nn import KVCache, evaluating

MOST_WEIGHTS = 1 << 24  # the program packs a copy of them; with more, arithmetic is all that counts
SPARE = 16  # room beyond the longest text: with a power of two all lines of a key would fall into the same few lines of a cache
CLOSE = 1e-3  # of the largest logit: how far the program may be from the step that was watched (float32 is within 1e-5)


class CompiledStep:
    """A step for the rows of a batch. Call it with their new tokens (R,): logits (R, V), good until the next call.

    The weights are those of the moment when it was made, but for the tables that `embed` reads.
    """

    def __init__(self, model: LanguageModel, program: Any, x: np.ndarray, *, logits: np.ndarray, room: int):
        self.model, self.program, self.x, self.logits, self.room = model, program, x, logits, room
        self.n_rows = program.n_rows

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Reads one more token a row; logits (R, V). ValueError if the texts are as long as they may become."""
        lengths = self.program.lengths[: self.n_rows]
        if tokens.shape != (self.n_rows,) or lengths.max() >= self.room:
            found = f"tokens {tokens.shape} came for {self.n_rows} rows, the longest of which has {lengths.max()} tokens"
            raise ValueError(f"{found} and room for {self.room}; give one token a row, and make the cache long enough for it")
        with evaluating(self.model):
            self.x[: self.n_rows] = self.model.embed(tokens[:, None], lengths[:, None]).data[:, 0]
        self.program.run(self.n_rows)
        lengths += 1
        return self.logits[: self.n_rows]

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with some of the rows only, none twice; what the cache holds of them stays where it is."""
        for places in (self.program.slots, self.program.lengths):
            places[: len(rows)] = places[rows]
        self.n_rows = len(rows)


class NotCompilable(Exception):
    """A call reads something that is neither a weight nor what an earlier instruction wrote."""


class _Writer:
    """Turns calls into instructions; knows which array of the program holds which Tensor, and gives arrays back for new use."""

    def __init__(self, program: Any, calls: list[Call], caches: dict[int, tuple[np.ndarray, np.ndarray]]):
        self.program, self.caches = program, caches
        self.arrays: dict[int, np.ndarray] = {}
        self.free: list[np.ndarray] = []
        self.last_use = {id(x): i for i, call in enumerate(calls) for x in call.inputs if isinstance(x, Tensor)}

    def array(self, x: Any) -> np.ndarray:
        """What holds x."""
        if id(x) not in self.arrays:
            raise NotCompilable
        return self.arrays[id(x)]

    def weight(self, x: Any) -> np.ndarray:
        """The numbers of a weight."""
        if not isinstance(x, Tensor) or x.data.dtype != self.program.dtype or id(x) in self.arrays:
            raise NotCompilable
        return x.data

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
        INSTRUCTIONS[call.op](self, call)
        for key in {id(x) for x in call.inputs if isinstance(x, Tensor)}:
            if self.last_use[key] == i and key in self.arrays:
                self.free.append(self.arrays[key])


def _norm(to: _Writer, call: Call) -> None:
    x, weight, *rest = call.inputs  # RMS norm has no bias
    bias = to.weight(rest[0]) if rest and rest[0] is not None else None
    eps, rms = call.settings["eps"], call.op == "rms_norm"
    to.program.norm(to.array(x), to.weight(weight), bias, to.result(call), eps=eps, rms=rms)


def _linear(to: _Writer, call: Call) -> None:
    x, weight, bias, residual = call.inputs
    bias, added = None if bias is None else to.weight(bias), None if residual is None else to.array(residual)
    to.program.linear(to.array(x), to.weight(weight), bias, to.result(call), residual=added)


def _gelu_feedforward(to: _Writer, call: Call) -> None:
    x, up, up_bias, down, down_bias, residual = call.inputs
    up_bias, down_bias = (None if bias is None else to.weight(bias) for bias in (up_bias, down_bias))
    active = to.new(len(to.weight(up)))
    to.program.linear(to.array(x), to.weight(up), up_bias, active, gelu=True)
    added = None if residual is None else to.array(residual)
    to.program.linear(active, to.weight(down), down_bias, to.result(call), residual=added)
    to.free.append(active)


def _cached_attention(to: _Writer, call: Call) -> None:
    (qkv,), n_heads = call.inputs, call.settings["n_heads"]
    keys, values = to.caches[id(call.settings["cache"])]
    to.program.attend(to.array(qkv), keys, values, to.result(call), n_heads=n_heads, scale=1 / math.sqrt(keys.shape[2]))


def _reshape(to: _Writer, call: Call) -> None:
    to.arrays[id(call.out)] = to.array(call.inputs[0])


INSTRUCTIONS: dict[str, Callable[[_Writer, Call], None]] = {
    "layer_norm": _norm,
    "rms_norm": _norm,
    "linear": _linear,
    "reshape": _reshape,
    "gelu_feedforward": _gelu_feedforward,
    "self_attention": _cached_attention,
}


def compile_step(
    model: LanguageModel, calls: list[Call], *, tokens: np.ndarray, logits: np.ndarray, cache: KVCache
) -> CompiledStep | None:
    """The step whose `calls` led from tokens (R,) to logits (R, V); None if it cannot be compiled.

    cache  what has been read so far, these tokens included, with room for what is to come; it is copied
    """
    first = next((i for i, call in enumerate(calls) if call.op in INSTRUCTIONS), len(calls))
    calls = calls[first:]  # before it: what `embed` does
    sizes = [x.size for call in calls for x in call.inputs[1:] if isinstance(x, Tensor)]
    if not calls or not all(call.op in INSTRUCTIONS for call in calls) or sum(sizes) > MOST_WEIGHTS:
        return None
    x = calls[0].inputs[0]
    program = kernels.RowProgram(len(tokens), x.dtype)
    program.slots[:], program.lengths[:] = np.arange(program.n_rows), cache.lengths - 1
    caches = {id(layer): _own_cache(layer, cache.lengths, cache.room + SPARE) for layer in cache.layers}
    writer = _Writer(program, calls, caches)
    writer.arrays[id(x)] = start = program.array(x.shape[-1])
    writer.last_use[id(x)] = len(calls)  # filled anew at each step, so never free
    try:
        for i, call in enumerate(calls):
            writer.write(i, call)
    except NotCompilable:
        return None
    last = writer.array(calls[-1].out)
    step = CompiledStep(model, program, start, logits=last, room=cache.room)
    again = step(tokens)  # its keys and values come once more to where they are
    same = again.shape == logits.shape and np.allclose(again, logits, rtol=0, atol=CLOSE * np.abs(logits).max())
    return step if same else None


def _own_cache(layer: Any, lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """A layer's keys (R, G, D, room) and values (R, G, room, D)."""
    n_rows, _, n_groups, width = layer.keys.shape
    keys = np.zeros((n_rows, n_groups, width, room), layer.keys.dtype)
    values = np.zeros((n_rows, n_groups, room, width), layer.keys.dtype)
    for row, n in enumerate(lengths.tolist()):
        keys[row, :, :, :n] = layer.keys[row, :n].transpose(1, 2, 0)
        values[row, :, :n] = layer.values[row, :n].transpose(1, 0, 2)
    return keys, values
