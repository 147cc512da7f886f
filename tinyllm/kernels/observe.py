"""Watching kernels run: the one way to see them, since ops call them by name and compiled code calls nothing back.

    with observe_kernels(lambda call: print(call.name, call.seconds)):
        loss.backward()

While it lasts, each kernel in this package, and each compiled function in its files, is replaced by one that reports its calls;
while nobody watches there is nothing in their way. What autograd does is seen by `autograd.observe_ops`.
"""

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tinyllm import kernels


class KernelCall(NamedTuple):
    """One call. `compiled`: of machine code itself, not of the function around it that others call."""

    name: str
    compiled: bool
    start: float
    seconds: float
    result: Any


@contextmanager
def observe_kernels(observer: Callable[[KernelCall], object]) -> Iterator[None]:
    """Inside, `observer` is told of each call of those that are loaded when it begins, inner ones first.

    Call each once before: a kernel must not be compiled while it is watched. Afterwards everything is as it was.
    """
    places = [(kernels, name, False) for name in kernels.TABLE if name in vars(kernels)]
    places += [(module, name, True) for module, name in _compiled()]
    before = [(owner, name, getattr(owner, name), compiled) for owner, name, compiled in places]
    try:
        for owner, name, function, compiled in before:
            setattr(owner, name, _reporting(function, name, compiled, observer))
        yield
    finally:
        for owner, name, function, _ in before:
            setattr(owner, name, function)


def _reporting(function: Callable, name: str, compiled: bool, observer: Callable[[KernelCall], object]) -> Callable:
    clock = time.perf_counter

    @functools.wraps(function, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = clock()
        result = function(*args, **kwargs)
        observer(KernelCall(name, compiled, start, clock() - start, result))
        return result

    return wrapper


def _compiled() -> list[tuple[Any, str]]:
    """(module, name) of each function that is machine code, in the kernels' files that are loaded."""
    jit = sys.modules.get("tinyllm.kernels.jit")
    ours = {id(kernel) for kernel in jit.KERNELS} if jit else set()
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("tinyllm.kernels.")]
    return [(module, name) for module in modules for name, value in vars(module).items() if id(value) in ours]
