"""The peer at the end of a ladder: PyTorch where it is installed, on as many threads as ours, without gradients.

It is imported before our kernels, so that its OpenMP threads wait in the way that PyTorch's makers chose and not in ours
(`tinyllm/kernels/jit.py` shortens the wait by environment variables, which are read once, when OpenMP is loaded).
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

torch: Any = None
functional: Any = None
if importlib.util.find_spec("torch") is not None:
    torch = importlib.import_module("torch")
    functional = torch.nn.functional


def tensors(*inputs: Any) -> tuple[Any, ...]:
    """NumPy arrays as tensors of PyTorch, the same memory."""
    return tuple(torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in inputs)


def use_threads(count: int) -> None:
    """Give PyTorch as many threads as we have."""
    if torch is not None:
        torch.set_num_threads(count)


def versions() -> str:
    """The libraries that are compared."""
    import numba

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload, index]
    names = [f"NumPy {np.__version__} with {blas['name']} {blas['version']}", f"Numba {numba.__version__}"]
    return ", ".join([*names, f"PyTorch {torch.__version__.split('+')[0]}" if torch is not None else "no PyTorch"])
