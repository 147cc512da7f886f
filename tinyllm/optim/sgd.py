"""Stochastic gradient descent with momentum: roll downhill, keep some of the speed.

    v = μ v + g + λ w           w = w - lr · v

Without momentum, steps zigzag across a narrow valley; v averages the zigzag away and adds up what stays (Polyak 1964;
Sutskever et al. 2013, eq. 1-2, with the learning rate outside v as in most libraries). λ pulls weights to 0.
"""

from tinyllm.optim.optimizer import Optimizer, Params


class SGD(Optimizer):
    """params: weights, or groups (see Optimizer); lr: learning rate; momentum μ in [0, 1); weight_decay λ, for every weight."""

    slots = ("velocity",)
    settings = ("lr", "momentum", "weight_decay")

    def __init__(self, params: Params, *, lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        super().__init__(params, lr=lr)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum, self.weight_decay = momentum, weight_decay

    def update(self, moving: list[int], *, lr: float, grad_scale: float) -> None:
        for i in moving:
            param, grad, velocity = self.params[i].data, self.params[i].grad, self.memory["velocity"][i]
            assert grad is not None  # or it would not be moving
            velocity *= self.momentum
            decay = self.weight_decay if self.own_decays[i] is None else self.own_decays[i]
            velocity += grad_scale * grad + decay * param
            param -= lr * velocity
