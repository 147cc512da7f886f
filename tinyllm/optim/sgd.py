"""Stochastic gradient descent with momentum: roll downhill, keep some of the speed.

    v = μ v + g + λ w           w = w - lr · v

Without momentum, steps zigzag across a narrow valley; v averages the zigzag away and adds up what stays (Polyak 1964;
Sutskever et al. 2013, eq. 1-2, with the learning rate outside v as in most libraries). λ pulls weights to 0.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinyllm.autograd import Tensor
from tinyllm.optim.optimizer import Optimizer


class SGD(Optimizer):
    """lr: learning rate; momentum μ in [0, 1); weight_decay λ."""

    slots = ("velocity",)

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        super().__init__(params, lr=lr)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum, self.weight_decay = momentum, weight_decay

    def update(self, moving: list[int], grad_scale: float) -> None:
        for i in moving:
            param, grad, velocity = self.params[i].data, self.params[i].grad, self.memory["velocity"][i]
            assert grad is not None  # or it would not be moving
            velocity *= self.momentum
            velocity += grad_scale * grad + self.weight_decay * param
            param -= self.lr * velocity
