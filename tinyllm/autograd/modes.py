"""What this thread does besides computing: it records a graph, or not (`no_grad`), and tells whoever observes it (`observe_ops`).

Observing is the one way to see ops run; nothing reaches into them. A step of generation is compiled from the calls that were seen
(`compile/`), a run that diverged is searched for the first NaN (`detect_nonfinite`), and time is measured
(`report/profile.py`). While nobody observes, an op asks once whether somebody does, and that is all it costs.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np

FORWARD, BACKWARD, WHOLE = "forward", "backward", "whole"


class Call(NamedTuple):
    """Something that ran: what it was given, what came of it, when it began and how long it took (seconds).

    phase     inputs                                         out
    FORWARD   what the op was called with                    a Tensor
    BACKWARD  for each input what its gradient goes to, or   the gradients, one for each; arrays or RowGradients
              None where nobody wants it
    WHOLE     the arguments of a function that is no op but  its result
              marked `observed`, such as an optimizer's step
    """

    op: str
    phase: str
    inputs: tuple
    settings: dict[str, Any]  # keyword arguments; those of an op with its defaults
    out: Any
    start: float = 0.0
    seconds: float = 0.0


Observer = Callable[[Call], object]
F = TypeVar("F", bound=Callable)


class _Mode(threading.local):
    """A thread's own: one that serves text must not switch off another's training."""

    recording = True
    observers: tuple[Observer, ...] = ()


MODE = _Mode()


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, ops compute values only: nothing is recorded, and what a backward would need is dropped at once."""
    before, MODE.recording = MODE.recording, False
    try:
        yield
    finally:
        MODE.recording = before


@contextmanager
def observe_ops(observer: Observer) -> Iterator[None]:
    """Inside, `observer` is given a Call after each op of this thread, forward and backward; so are those already there.

    An error that it raises stops what runs.
    """
    before = MODE.observers
    MODE.observers = (*before, observer)
    try:
        yield
    finally:
        MODE.observers = before


def report(call: Call) -> None:
    """Tell all observers of this thread."""
    for observer in MODE.observers:
        observer(call)


def observed(name: str) -> Callable[[F], F]:
    """Let observers see a function that is no op, as `name`."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*inputs: Any, **settings: Any) -> Any:
            if not MODE.observers:
                return function(*inputs, **settings)
            start = time.perf_counter()
            out = function(*inputs, **settings)
            report(Call(name, WHOLE, inputs, settings, out, start, time.perf_counter() - start))
            return out

        return wrapper  # type: ignore[return-value]

    return decorate


class NonFiniteError(FloatingPointError):
    """Raised inside `detect_nonfinite()`: `op` is the first op whose value or gradient was NaN or infinite."""

    def __init__(self, op: str, phase: str):
        super().__init__(f"{phase} of op '{op}' is not finite (NaN or infinity)")
        self.op, self.phase = op, phase


@contextmanager
def detect_nonfinite() -> Iterator[None]:
    """Inside, each op's value and each gradient is checked; the first bad one raises NonFiniteError.

    Reading every array once more costs time: use it to re-run a step that went wrong, not every step.
    """
    with observe_ops(_refuse_nonfinite):
        yield


def _refuse_nonfinite(call: Call) -> None:
    if call.phase == FORWARD and not np.isfinite(call.out.data).all():
        raise NonFiniteError(call.op, "value")
    if call.phase == BACKWARD:
        for parent, gradient in zip(call.inputs, call.out, strict=True):
            if parent is None or gradient is None:
                continue
            if not np.isfinite(getattr(gradient, "values", gradient)).all():
                raise NonFiniteError(call.op, "gradient")
