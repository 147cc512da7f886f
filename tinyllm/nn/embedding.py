"""Embedding layer: one learned vector per id. Equation: `ops/embedding.py`; loops: `kernels/embedding.py`."""

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.init import normal
from tinyllm.nn.module import Module


class Embedding(Module):
    """weight (V, C)."""

    def __init__(self, n_ids: int, width: int, *, std: float = 0.02, rng: np.random.Generator | None):
        self.weight = normal(n_ids, width, std=std, rng=rng)

    def __call__(self, ids: np.ndarray) -> Tensor:
        """ids (...) int -> (..., C). ValueError names an id outside the table."""
        return ops.embedding(self.weight, ids=np.asarray(ids))

    def scores(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., V): the scalar product with every row, as an output layer that shares its table (tied)."""
        return ops.linear(x, self.weight, None)
