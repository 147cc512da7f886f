"""Linear layer: y = x Wᵀ + b. Equation and gradients: `ops/linear.py`; loops: `kernels/product/matrix_product.py`."""

import math

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.init import normal, zeros
from tinyllm.nn.module import Module


class Linear(Module):
    """weight (out, in), bias (out,) or None. `std` of the initial weights: 1/√in unless given."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True, std: float | None = None, rng: np.random.Generator | None):
        self.weight = normal(n_out, n_in, std=1 / math.sqrt(n_in) if std is None else std, rng=rng)
        self.bias = zeros(n_out) if bias else None

    def __call__(self, x: Tensor, *, residual: Tensor | None = None) -> Tensor:
        """x (..., in) -> (..., out), plus `residual` if there is one."""
        return ops.linear(x, self.weight, self.bias, residual)
