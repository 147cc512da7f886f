"""The loops under everything: matrix products, attention, normalisation, losses, written in Python and compiled by Numba.

Kernels know only arrays: no Tensor, no gradient tape. Each one has a slow, obvious twin of the same name and signature in
`reference/`: read that first. Kernels take arrays of any strides, read-only or empty, all of one dtype (float32 or
float64), return new C-contiguous arrays and keep the dtype. What feeds an index is checked by the caller; those that follow
raw addresses (products, attention, AdamW, row programs) refuse arrays that they would misread.
This file imports neither Numba nor any kernel; a name is loaded when it is first used. With TINYLLM_KERNELS=numpy in the
environment every name is the twin instead, for reading along in a debugger or for machines without Numba.
"""

import importlib
import os
from typing import Any

# kernel -> the file it is defined in
TABLE = {
    "matmul": "product.matrix_product",
    "int8_linear_forward": "product.quantized",
    "matmul_add": "product.linear",
    "linear_forward": "product.linear",
    "linear_gelu_forward": "product.linear",
    "gelu_linear_backward": "product.linear",
    "linear_silu_gate_forward": "product.linear",
    "silu_gate_linear_backward": "product.linear",
    "softmax_forward": "softmax",
    "softmax_backward": "softmax",
    "log_softmax_forward": "softmax",
    "log_softmax_backward": "softmax",
    "cross_entropy_forward": "cross_entropy",
    "cross_entropy_backward": "cross_entropy",
    "layer_norm_forward": "norm",
    "layer_norm_backward": "norm",
    "rms_norm_forward": "norm",
    "rms_norm_backward": "norm",
    "gelu_tanh_forward": "elementwise",
    "gelu_tanh_backward": "elementwise",
    "gelu_erf_forward": "elementwise",
    "gelu_erf_backward": "elementwise",
    "silu_forward": "elementwise",
    "silu_backward": "elementwise",
    "attention_forward": "attention.forward",
    "attention_backward": "attention.forward",
    "RowProgram": "program.row_program",
    "sample_rows": "sampling",
    "embedding_forward": "embedding",
    "embedding_backward": "embedding",
    "rotary_forward": "rotary",
    "rotary_backward": "rotary",
    "sum_of_squares": "adamw",
    "adamw_update": "adamw",
}

# These are built from LLVM vector instructions and raw addresses, which Python cannot run when Numba is switched off.
MACHINE_CODE_ONLY = (
    "product.matrix_product",
    "product.linear",
    "product.quantized",
    "attention.forward",
    "adamw",
    "program.row_program",
)

__all__ = [*TABLE, "backend", "machine_code", "threading_layer"]  # noqa: PLE0604


def backend() -> str:
    """Return "numba" or "numpy", as TINYLLM_KERNELS says (default "numba"). Raises ValueError for any other word."""
    choice = os.environ.get("TINYLLM_KERNELS") or "numba"
    if choice not in ("numba", "numpy"):
        expected = "expected 'numba' (fast) or 'numpy' (plain); unset it or set one of them"
        raise ValueError(f"TINYLLM_KERNELS is {choice!r}, {expected}")
    return choice


def machine_code() -> bool:
    """Return whether kernels can be compiled: neither the twins are asked for, nor is Numba switched off."""
    return backend() == "numba" and os.environ.get("NUMBA_DISABLE_JIT") != "1"


def _home(name: str) -> str:
    """Return the file from which kernel `name` is taken, given the environment."""
    file = TABLE[name]
    if backend() == "numpy" or (file in MACHINE_CODE_ONLY and not machine_code()):
        return "reference"
    return file


def __getattr__(name: str) -> Any:
    """Load kernel `name` at its first use (module attribute access, PEP 562)."""
    if name not in TABLE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kernel = getattr(importlib.import_module(f"{__name__}.{_home(name)}"), name)
    globals()[name] = kernel  # the next access does not come here
    return kernel


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def threading_layer() -> str:
    """Return "omp", "tbb" or "workqueue": what shares the loops among the cores; "none" with the NumPy twins."""
    if backend() == "numpy":
        return "none"
    from tinyllm.kernels.jit import threading_layer

    return threading_layer()
