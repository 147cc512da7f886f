"""Autograd: the chain rule, walked backwards.

A `Tensor` is a NumPy array that remembers how it was made. `@op` turns a function of plain arrays that returns
`(value, backward)` into a function of Tensors. Read `graph.py`, the whole idea, then `tensor.py`; `methods.py` is comfort.
"""

from tinyllm.autograd.gradcheck import gradcheck, numerical_gradient
from tinyllm.autograd.graph import Call, GraphFreedError, NonFiniteError, RowGradient, detect_nonfinite, no_grad, noting_calls
from tinyllm.autograd.tensor import OPS, Tensor, check_dtypes, op

__all__ = [
    "OPS",
    "Call",
    "GraphFreedError",
    "NonFiniteError",
    "RowGradient",
    "Tensor",
    "check_dtypes",
    "detect_nonfinite",
    "gradcheck",
    "no_grad",
    "noting_calls",
    "numerical_gradient",
    "op",
]
