"""The decorators of the lessons: `jit` compiles loops for one thread, `parallel` shares prange loops among all.

Both are Numba's compiler, with the options of `tinyllm/kernels/jit.py`: sums may be reordered, a·b + c may be one
instruction. Numba joins neighbouring prange loops by itself when it can. Here that is switched off, so that a rung changes
one thing only; in tinyllm's kernels the loops are joined by hand, so that anybody can see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core.cpu import ParallelOptions

from tinyllm.kernels.jit import jit, prange

__all__ = ["jit", "parallel", "prange"]

UNJOINED: Any = ParallelOptions({"fusion": False})


def parallel(function: Callable) -> Any:
    """Compile `function`; each of its prange loops is shared out among the cores, one loop after the other."""
    return jit(function, parallel=UNJOINED)
