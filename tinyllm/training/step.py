"""One optimizer step: forward and backward over k micro-batches, then one move of the weights.

    loss = Σ over micro-batches (Σ over counted tokens nll) / n          n = counted tokens of ALL k micro-batches

Each micro-batch divides by the same n, so k small batches give the gradient of one large batch, also when masks leave
them with different numbers of counted tokens (dividing each by its own count, then averaging, does not). The memory
of activations is that of one micro-batch. Each one's gradients are computed alone, and added in a fixed order: the bits of a step
follow from how its batch is cut, and not from who computed which piece. A loss or gradient that is not finite stops the step
before a weight moves.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from tinyllm.autograd import NonFiniteError, Tensor, detect_nonfinite
from tinyllm.nn import Module
from tinyllm.optim import Optimizer, clip_factor, grad_norm

M = TypeVar("M", contravariant=True)
Trained = TypeVar("Trained", bound=Module)


class Batch(Protocol):
    """All that the loop needs to know of a batch: what the model reads, and how many tokens of it count in the loss."""

    @property
    def tokens(self) -> np.ndarray:
        """All tokens that are read, (B, T)."""
        ...

    @property
    def n_counted(self) -> int:
        """Tokens that count in the loss."""
        ...


class LossFunction(Protocol[M]):
    """`loss_fn(model, batch, n_counted=n)` -> scalar Tensor: the sum over the batch's counted tokens, divided by n."""

    def __call__(self, model: M, batch: Any, *, n_counted: int) -> Tensor:
        """The loss."""
        ...


class NonFiniteStepError(ValueError):
    """The run diverged: a loss, a gradient or a weight became NaN or infinite."""


DIVERGED = "Lower learning_rate, raise warmup_steps, or look at this step's data; the last checkpoint is from before it"


def count_tokens(batches: Sequence[Batch]) -> int:
    """Counted tokens of all micro-batches of a step together; ValueError if there are none."""
    n_counted = sum(batch.n_counted for batch in batches)
    if n_counted == 0:
        raise ValueError("no token of this step's batches counts in the loss: every mask is False; check the data's masks")
    return n_counted


def add_gradients(model: Trained, batch: Batch, *, loss_fn: LossFunction[Trained], n_counted: int, first: bool = True) -> float:
    """Forward and backward on one micro-batch; gradients add to those of the earlier ones. Returns its share of the loss.

    first  whether it is the step's first, before which there are no gradients
    A loss that is not finite raises FloatingPointError, before the backward.
    """
    loss = loss_fn(model, batch, n_counted=n_counted)
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the loss is {loss.item()}")
    earlier = [] if first else [(weight, weight.grad) for weight in model.parameters() if weight.grad is not None]
    for weight, _ in earlier:
        weight.grad = None
    loss.backward()
    for weight, before in earlier:  # what a micro-batch adds is computed alone, and added in their order
        weight.grad = before if weight.grad is None else np.add(before, weight.grad, out=before)
    return loss.item()


def update_weights(optimizer: Optimizer, *, learning_rate: float, grad_clip: float) -> float:
    """Clip, move the weights, forget the gradients. Returns the norm before clipping.

    FloatingPointError if that norm is not finite: then nothing has moved.
    """
    norm = grad_norm(optimizer.params)
    if not math.isfinite(norm):
        raise FloatingPointError(f"the norm of the gradients is {norm}")
    optimizer.lr = learning_rate
    optimizer.step(grad_scale=clip_factor(norm, grad_clip or math.inf))
    optimizer.zero_grad()
    return norm


def bad_weight(model: Module) -> str | None:
    """The name of the first weight that holds NaN or infinity, None if all are fine."""
    return next((name for name, weight in model.named_parameters() if not np.isfinite(weight.data).all()), None)


def refuse_diverged(model: Module, optimizer: Optimizer, *, step: int) -> None:
    """NonFiniteStepError if the step before has left a weight, or the optimizer's memory of one, that is not finite.

    The loss would only show it in the next step: such a model must not be saved, and a run's last step has no next one.
    """
    where = f"the run diverged at step {step}"
    if (name := bad_weight(model)) is not None:
        raise NonFiniteStepError(f"{where}: the weight {name!r} is not finite after it. {DIVERGED}")
    for name, array in optimizer.state_dict().items():
        if not np.isfinite(array).all():
            raise NonFiniteStepError(f"{where}: the optimizer's {name!r} is not finite after it. {DIVERGED}")


def find_culprit(model: Module, rerun: Callable[[], Any]) -> str:
    """Where the first NaN or infinity comes from, in words: a weight, an op while `rerun` repeats the step, a gradient."""
    if (name := bad_weight(model)) is not None:
        return f"the weight {name!r} already holds a value that is not finite"
    model.zero_grad()
    try:
        with detect_nonfinite(), np.errstate(all="ignore"):
            rerun()
    except NonFiniteError as error:
        return f"the first one is the {error.phase} of op {error.op!r}"
    except FloatingPointError:
        pass  # the loss function made it outside of any op; the gradients may tell
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not np.isfinite(parameter.grad).all():
            return f"the first one is the gradient of {name!r}"
    return "every single gradient is finite, but their squares overflow"
