"""What every optimizer does: hold the weights, count steps, keep one or more arrays of memory per weight.

A subclass names its memories (`slots`) and says how weights move (`update`). `lr` is an attribute: a schedule sets it
before each step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tinyllm.autograd import Tensor


class Optimizer:
    """Base of SGD and AdamW. Weights are changed in place; a weight whose grad is None is left alone."""

    slots: tuple[str, ...] = ()

    def __init__(self, params: Iterable[Tensor], *, lr: float):
        self.params = list(params)
        if not self.params:
            raise ValueError("params is empty: pass model.parameters()")
        if not lr >= 0:
            raise ValueError(f"lr, the learning rate, must be at least 0, got {lr}")
        if len(dtypes := {param.dtype.name for param in self.params}) > 1:
            raise ValueError(f"params hold weights of different dtypes: {', '.join(sorted(dtypes))}; use one for all of them")
        for param in self.params:  # mapped or transposed weights become ordinary arrays that may be written to
            if not (param.data.flags.c_contiguous and param.data.flags.writeable):
                param.data = np.array(param.data, order="C")
        self.lr = lr
        self.step_count = 0
        self.memory = {slot: [np.zeros_like(param.data) for param in self.params] for slot in self.slots}

    def update(self, moving: list[int], grad_scale: float) -> None:
        """Move params[i] for every i in `moving`, in place, by memory[slot][i] and grad_scale times its gradient."""
        raise TypeError(f"{type(self).__name__} does not define update")

    def step(self, *, grad_scale: float = 1.0) -> None:
        """Move every weight that has a gradient. grad_scale: what gradients are multiplied by first (see `clip_factor`)."""
        self.step_count += 1
        moving = [i for i, param in enumerate(self.params) if param.grad is not None]
        self.update(moving, grad_scale)
        for i in moving:
            self.params[i].version += 1

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for param in self.params:
            param.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """ "step" and the memories by slot and position of the weight; the live arrays."""
        state = {"step": np.array(self.step_count, np.int64)}
        return state | {f"{slot}.{i}": array for slot, arrays in self.memory.items() for i, array in enumerate(arrays)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy in what state_dict gave. ValueError lists what does not fit; then nothing has been changed."""
        own = self.state_dict()
        wrong = sorted(own.keys() ^ state.keys())
        wrong += [name for name in own if name in state and own[name].shape != np.shape(state[name])]
        if wrong:
            raise ValueError("optimizer state does not fit: missing, unexpected or of another shape: " + ", ".join(wrong))
        for name, array in own.items():
            array[...] = state[name]
        self.step_count = int(state["step"])
