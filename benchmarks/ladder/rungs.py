"""A ladder and its rungs: what is computed, how much work that is, who computes it; first checked, then timed.

A result that is wrong has no speed. So every rung gets the same float32 numbers, and before any clock runs its result is
compared with the twin in `tinyllm.kernels.reference`, computed in float64:
    |result - twin| ≤ tolerance · (|twin| + root mean square of the twin)      for every number
The tolerance is some ten times what rounding in float32 makes of it, far below what a mistake would. The Python loop is so
slow that it gets a part of the input; its rate (operations or bytes a second) needs no scaling, its time is scaled up.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.ladder.machine import Machine
from benchmarks.ladder.timing import take_turns

Inputs = tuple[Any, ...]
LIMIT = "the machine's limit"


class WrongRung(Exception):
    """A rung does not compute what the twin computes."""


def as_they_are(*inputs: Any) -> Inputs:
    """Nothing to prepare."""
    return inputs


@dataclass(frozen=True)
class Rung:
    """One way of computing it. `prepare` (lists, tensors of PyTorch) is not timed; `part` cuts a piece from the inputs."""

    name: str
    run: Callable[..., Any]
    prepare: Callable[..., Inputs] = as_they_are
    part: Callable[..., Inputs] | None = None

    def inputs(self, inputs: Inputs) -> Inputs:
        """The rung's share of the ladder's inputs."""
        return self.part(*inputs) if self.part else inputs


@dataclass(frozen=True)
class Work:
    """What has to be done at least: operations of arithmetic, and bytes that must come from memory or go there."""

    flops: float
    n_bytes: float

    def amount(self, unit: str) -> float:
        """What a rate in "GFLOP/s" or "GB/s" counts."""
        return self.flops if unit == "GFLOP/s" else self.n_bytes


@dataclass(frozen=True)
class Ladder:
    """A problem and the rungs that solve it."""

    name: str
    inputs: Inputs
    twin: Callable[..., Any]
    work: Callable[..., Work]
    rungs: Sequence[Rung]
    traffic: str = "new"  # what it does to memory: "read", "new" arrays, "update" in place
    tolerance: float = 1e-5


@dataclass(frozen=True)
class Result:
    """A rung's figures: seconds for the whole problem, its rate in the climb's unit, share of the machine's limit."""

    rung: str
    seconds: float
    rate: float
    share: float
    scaled: bool  # measured on a part


@dataclass(frozen=True)
class Climb:
    """A whole ladder's figures; `limit` is the highest possible rate in `unit`, that of whichever limit it meets first."""

    ladder: str
    unit: str
    limit: float
    results: list[Result]


def check(ladder: Ladder, rung: Rung) -> None:
    """Raise WrongRung if the rung's result is not the twin's."""
    part = rung.inputs(ladder.inputs)
    expected = ladder.twin(*[_in_float64(x) for x in part])
    found = rung.run(*rung.prepare(*[_copy(x) for x in part]))
    expected, found = (x if isinstance(x, tuple) else (x,) for x in (expected, found))
    for want, got in zip(expected, found, strict=True):
        got = np.asarray(got, np.float64)
        where = f"{ladder.name}: the rung {rung.name!r} is wrong:"
        if got.shape != want.shape:
            raise WrongRung(f"{where} shape {got.shape}, the twin's is {want.shape}")
        error = np.abs(got - want) / (np.abs(want) + np.sqrt(np.mean(want**2)))
        if not np.all(error <= ladder.tolerance):  # so written that nan is not let through
            raise WrongRung(f"{where} off by {np.max(error):.1e} of the twin in float64, {ladder.tolerance:.0e} is allowed")


def climb(ladder: Ladder, machine: Machine, *, rounds: int) -> Climb:
    """Check all rungs, then time them in turns, and with them the limit where that is the memory."""
    for rung in ladder.rungs:
        check(ladder, rung)
    calls = {rung.name: _call(rung, ladder.inputs) for rung in ladder.rungs}
    seconds = take_turns({LIMIT: machine.loops[ladder.traffic][0], **calls}, rounds=rounds)
    whole = ladder.work(*ladder.inputs)
    if machine.is_busy_computing(whole.flops, whole.n_bytes, traffic=ladder.traffic):
        unit, limit = "GFLOP/s", machine.flops
    else:
        unit, limit = "GB/s", machine.bandwidth_in(ladder.traffic, seconds[LIMIT])
    results = []
    for rung in ladder.rungs:
        part = ladder.work(*rung.inputs(ladder.inputs))
        rate = part.amount(unit) / statistics.median(seconds[rung.name])
        results.append(Result(rung.name, whole.amount(unit) / rate, rate / 1e9, rate / limit, rung.part is not None))
    return Climb(ladder.name, unit, limit / 1e9, results)


def _call(rung: Rung, inputs: Inputs) -> Callable[[], Any]:
    prepared = rung.prepare(*rung.inputs(inputs))  # every rung reads the same memory
    return lambda: rung.run(*prepared)


def _in_float64(x: Any) -> Any:
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x


def _copy(x: Any) -> Any:
    return x.copy() if isinstance(x, np.ndarray) else x
