"""Autograd: the chain rule, walked backwards.

A `Tensor` is a NumPy array that remembers how it was made. `@op` turns a function of plain arrays that returns
`(value, backward)` into a function of Tensors. Read `graph.py` and `backward.py`, the whole idea, then `tensor.py`; `modes.py`
says what else a thread may want: no graph, or to see each op run; `methods.py` is comfort.
"""

from tinyllm.autograd.gradcheck import gradcheck, numerical_gradient
from tinyllm.autograd.graph import GraphFreedError, RowGradient
from tinyllm.autograd.modes import Call, NonFiniteError, detect_nonfinite, no_grad, observe_ops, observed
from tinyllm.autograd.tensor import OPS, Tensor, check_dtypes, op

__all__ = [
    "OPS", "Call", "GraphFreedError", "NonFiniteError", "RowGradient", "Tensor", "check_dtypes", "detect_nonfinite", "gradcheck",
    "no_grad", "numerical_gradient", "observe_ops", "observed", "op",
]  # fmt: skip
