"""A step of generation, compiled: the calls that a model makes for one token a row, written down once and run as one kernel.

A network of small layers spends more time between its layers than in them: calls from Python, checks, launches. Yet a step of
generation is the same straight line of calls each time; only the numbers change. So one ordinary step is watched, its calls
become the instructions of a program (`kernels/program/row_program.py`), and from then on a step is one launch. Nothing here knows
a model.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tinyllm import kernels
from tinyllm.autograd import Call, Tensor, observe_ops
from tinyllm.compile.lowering import LOWERINGS, NotCompilable, NotYet, Writer
from tinyllm.nn import KVCache, LayerCache
from tinyllm.nn.module import HasModules
from tinyllm.ops.cross_entropy import check_ids

Result = TypeVar("Result")
MOST_WEIGHTS, MOST_INT8 = 1 << 24, 1 << 26  # floats, of which a packed copy is made; numbers in int8, of which none is
SPARE = 16  # room beyond the longest text: with a power of two all lines of a key would fall into the same few lines of a cache
CLOSE = 1e-3  # of the largest logit: how far the program may be from the step that was watched (float32 is within 1e-5)
ENOUGH_STEPS, PACKED_IN_A_STEP = 6, 1 << 19  # compiling is won back in so many steps, and one more for each 2¹⁹ packed floats


def record(step: Callable[[], Result]) -> tuple[Result, list[Call]]:
    """What `step` gives, and the calls of ops that it made."""
    calls: list[Call] = []
    with observe_ops(calls.append):
        result = step()
    return result, calls


class CompiledStep:
    """A step for the rows of a batch. Call it with their new tokens (R,): logits (R, V), good until the next call.

    The weights are those of the moment when it was made, but for the tables that are looked up.
    """

    def __init__(self, program: Any, logits: np.ndarray, *, room: int, vocab_size: int):
        self.program, self.logits, self.room, self.vocab_size = program, logits, room, vocab_size
        self.n_rows = program.n_rows

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Reads one more token a row; logits (R, V). ValueError if the texts are as long as they may become."""
        lengths = self.program.lengths[: self.n_rows]
        if tokens.shape != (self.n_rows,) or lengths.max() >= self.room:
            found = f"tokens {tokens.shape} came for {self.n_rows} rows, the longest of which has {lengths.max()} tokens"
            raise ValueError(f"{found} and room for {self.room}; give one token a row, and make the cache long enough for it")
        check_ids(tokens, self.vocab_size, "tokens")
        self.program.tokens[: self.n_rows] = tokens
        self.program.run(self.n_rows)
        lengths += 1
        return self.logits[: self.n_rows]

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with some of the rows only, none twice; what the cache holds of them stays where it is."""
        for places in (self.program.slots, self.program.lengths):
            places[: len(rows)] = places[rows]
        self.n_rows = len(rows)


def compile_step(
    calls: list[Call], *, model: HasModules, tokens: np.ndarray, logits: np.ndarray, cache: KVCache, n_steps: int
) -> CompiledStep | None:
    """The step whose `calls` led from tokens (R,) to logits (R, V); None if it cannot be compiled. Raises NotYet if the next may.

    model    whose weights they read: what else looks like a weight was made in this step, and may be another in the next
    cache    what has been read so far, these tokens included, with room for what is to come; it is copied
    n_steps  steps to come: few do not win back what compiling costs
    """
    n_packed, n_int8 = _n_weights(calls, "linear", "gelu_feedforward", "silu_feedforward"), _n_weights(calls, "int8_linear")
    if not calls or any(call.op not in LOWERINGS for call in calls) or n_packed > MOST_WEIGHTS or n_int8 > MOST_INT8:
        return None
    if n_steps < ENOUGH_STEPS + n_packed // PACKED_IN_A_STEP:
        return None
    program = kernels.RowProgram(len(tokens), cache.layers[0].keys.dtype)
    program.slots[:], program.lengths[:], program.tokens[:] = np.arange(program.n_rows), cache.lengths - 1, tokens
    caches = {id(layer): _own_cache(layer, cache.lengths, cache.room + SPARE) for layer in cache.layers}
    weights = {id(weight) for _, weight in model.named_parameters()}
    writer = Writer(program, calls, weights=weights, caches=caches, room=cache.room)
    try:
        for i, call in enumerate(calls):
            writer.write(i, call)
        last = writer.array(calls[-1].out)
    except NotCompilable:
        return None
    step = CompiledStep(program, last, room=writer.room, vocab_size=logits.shape[1])
    again = step(tokens)  # its keys and values come once more to where they are
    same = again.shape == logits.shape and np.allclose(again, logits, rtol=0, atol=CLOSE * np.abs(logits).max())
    return step if same else None


def _n_weights(calls: list[Call], *ops: str) -> int:
    """Numbers in the weights that these ops multiply by."""
    return sum(x.size for call in calls if call.op in ops for x in call.inputs[1:] if isinstance(x, Tensor))


def _own_cache(layer: LayerCache, lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """A layer's keys (R, G, D, room) and values (R, G, room, D)."""
    n_rows, _, n_groups, width = layer.keys.shape
    keys = np.zeros((n_rows, n_groups, width, room), layer.keys.dtype)
    values = np.zeros((n_rows, n_groups, room, width), layer.keys.dtype)
    for row, n in enumerate(lengths.tolist()):
        keys[row, :, :, :n] = layer.keys[row, :n].transpose(1, 2, 0)
        values[row, :, :n] = layer.values[row, :n].transpose(1, 0, 2)
    return keys, values


__all__ = ["CompiledStep", "NotYet", "compile_step", "record"]
