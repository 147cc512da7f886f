"""AdamW: each weight gets a step of its own size, from how large and how steady its gradients have been.

    m = β₁ m + (1-β₁) g        v = β₂ v + (1-β₂) g²        m̂ = m/(1-β₁ᵗ)    v̂ = v/(1-β₂ᵗ)
    w = w - lr · λ w - lr · m̂ / (√v̂ + ε)

Adam (Kingma & Ba 2015, algorithm 1) with the decay λ taken off the weight itself instead of being added to g, where √v̂
would undo it (Loshchilov & Hutter 2019, algorithm 2). Only matrices decay: pulling norms and biases to 0 does no good
(GPT-3, Brown et al. 2020, appendix B, and common practice); a group with a weight_decay of its own decays whatever its shape.
The same in six lines of NumPy: `adamw_update` in `kernels/reference/adamw.py`. Loops: `kernels/adamw.py`.
"""

import math

from tinyllm import kernels
from tinyllm.optim.optimizer import Optimizer, Params


class AdamW(Optimizer):
    """params: weights, or groups (see Optimizer); lr: learning rate; betas (β₁, β₂); eps ε.

    weight_decay: λ, for weights of two or more axes. A group's own is meant as it is written, for vectors too.
    """

    slots = ("exp_avg", "exp_avg_sq")
    settings = ("lr", "betas", "eps", "weight_decay")

    def __init__(
        self, params: Params, *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):  # fmt: skip
        super().__init__(params, lr=lr)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas}")
        for name, value in (("eps", eps), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def decay_of(self, i: int) -> float:
        """λ of params[i]."""
        own = self.own_decays[i]
        return own if own is not None else self.weight_decay if self.params[i].ndim >= 2 else 0.0

    def update(self, moving: list[int], *, lr: float, grad_scale: float) -> None:
        weights = [self.params[i] for i in moving]
        kernels.adamw_update(
            [weight.data for weight in weights],
            [weight.grad for weight in weights],
            *([self.memory[slot][i] for i in moving] for slot in self.slots),
            lr=lr,
            betas=self.betas,
            eps=self.eps,
            weight_decays=[self.decay_of(i) for i in moving],
            step=self.step_count,
            grad_scale=grad_scale,
        )
