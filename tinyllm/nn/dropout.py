"""Dropout layer: active in train(), absent in eval(). Equation: `ops/dropout.py`."""

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.module import Module


class Dropout(Module):
    """p: probability of dropping; rng: where masks come from (shared by a model's layers, saved in checkpoints)."""

    def __init__(self, p: float, *, rng: np.random.Generator):
        if not 0 <= p < 1:
            raise ValueError(f"dropout is the probability of dropping, 0 <= dropout < 1, got {p}")
        self.p = p
        self.rng = rng

    @property
    def active(self) -> bool:
        """Whether anything is dropped now."""
        return self.training and self.p > 0

    def __call__(self, x: Tensor) -> Tensor:
        """x of any shape -> the same shape."""
        return ops.dropout(x, p=self.p, rng=self.rng) if self.active else x
