"""Optimizers: from gradients to better weights. `sgd` and `adamw` share a skeleton; their diff is the mathematics."""

from tinyllm.optim.adamw import AdamW
from tinyllm.optim.clip import clip_factor, clip_grad_norm, grad_norm
from tinyllm.optim.optimizer import Optimizer
from tinyllm.optim.schedules import constant, warmup_cosine, warmup_stable_decay
from tinyllm.optim.sgd import SGD

__all__ = [
    "AdamW", "Optimizer", "SGD", "clip_factor", "clip_grad_norm", "constant", "grad_norm", "warmup_cosine", "warmup_stable_decay",
]  # fmt: skip
