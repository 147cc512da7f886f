"""What every optimizer does: hold the weights, count steps, keep one or more arrays of memory per weight.

A subclass names its memories (`slots`) and its numbers (`settings`) and says how weights move (`update`). `lr` is an attribute:
a schedule sets it before each step. Weights may come in groups with a learning rate or a weight decay of their own,

    AdamW([{"params": body}, {"params": head, "lr": 1e-3}], lr=1e-4)

and a schedule of `lr` then moves all of them: a group keeps its ratio to `lr`, here 10.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinyllm.autograd import Tensor, observed

Params = Iterable[Tensor] | Iterable[Mapping[str, Any]]
GROUP_KEYS = ("params", "lr", "weight_decay")


class Optimizer:
    """Base of SGD and AdamW. Weights are changed in place; a weight whose grad is None is left alone."""

    slots: tuple[str, ...] = ()
    settings: tuple[str, ...] = ("lr",)

    def __init__(self, params: Params, *, lr: float):
        if not lr >= 0:
            raise ValueError(f"lr, the learning rate, must be at least 0, got {lr}")
        groups = _groups(params)
        self.params: list[Tensor] = [param for group in groups for param in group["params"]]
        if len(dtypes := {param.dtype.name for param in self.params}) > 1:
            raise ValueError(f"params hold weights of different dtypes: {', '.join(sorted(dtypes))}; use one for all of them")
        if self.params[0].dtype not in (np.float32, np.float64):
            raise ValueError(f"params are {self.params[0].dtype}, float32 or float64 expected; convert the model")
        if len({id(param) for param in self.params}) < len(self.params):
            raise ValueError("params hold a weight twice: it would move twice a step; name each once")
        self.lr_factors = [_factor(group, lr) for group in groups for _ in group["params"]]
        self.own_decays = [group.get("weight_decay") for group in groups for _ in group["params"]]
        for param in self.params:  # mapped or transposed weights become ordinary arrays that may be written to
            _own_memory(param)
        self.lr = lr
        self.step_count = 0
        self.memory = {slot: [np.zeros_like(param.data) for param in self.params] for slot in self.slots}
        self._checked: list[np.ndarray] = [param.data for param in self.params]
        self._like = [(param.shape, param.dtype) for param in self.params]

    def update(self, moving: list[int], *, lr: float, grad_scale: float) -> None:
        """Move params[i] for every i in `moving`, in place, by memory[slot][i] and grad_scale times its gradient."""
        raise TypeError(f"{type(self).__name__} does not define update")

    @observed("optimizer step")
    def step(self, *, grad_scale: float = 1.0) -> None:
        """Move every weight that has a gradient. grad_scale: what gradients are multiplied by first (see `clip_factor`).

        ValueError, before anything moves, for a gradient or weight that is not what this optimizer was made for.
        """
        moving = [i for i, param in enumerate(self.params) if param.grad is not None]
        for i in moving:
            self._check(i)
        self.step_count += 1
        for factor in sorted({self.lr_factors[i] for i in moving}):
            together = [i for i in moving if self.lr_factors[i] == factor]
            self.update(together, lr=self.lr * factor, grad_scale=grad_scale)
        for i in moving:
            self.params[i].mark_changed()

    def _check(self, i: int) -> None:
        """The loops below follow addresses, so what lies there must be what it was when the memories were made."""
        param, (shape, dtype) = self.params[i], self._like[i]
        data, grad = param.data, param.grad
        if data is self._checked[i] and type(grad) is np.ndarray and grad.shape == shape and grad.dtype == dtype:
            return
        if data.shape != shape or data.dtype != dtype:
            now = f"{param.dtype} {param.shape}"
            raise ValueError(f"params[{i}] is {now} now, it was {dtype} {shape}; make a new optimizer for changed weights")
        if not isinstance(grad, np.ndarray) or grad.shape != shape or grad.dtype.kind != "f":
            came = f"{grad.dtype} {grad.shape}" if isinstance(grad, np.ndarray | Tensor) else type(grad).__name__
            kind = "Tensor " if isinstance(grad, Tensor) else ""
            raise ValueError(f"the gradient of params[{i}] is {kind}{came}, a float array {shape} expected")
        _own_memory(param)
        self._checked[i] = param.data

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for param in self.params:
            param.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """ "step", the memories by slot and position of the weight (the live arrays), and the settings."""
        state = {"step": np.array(self.step_count, np.int64)}
        state |= {f"settings.{name}": np.array(getattr(self, name), np.float64) for name in self.settings}
        return state | {f"{slot}.{i}": array for slot, arrays in self.memory.items() for i, array in enumerate(arrays)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy in what state_dict gave, settings too if any. ValueError lists what does not fit; then nothing has changed."""
        own = self.state_dict()
        wrong = sorted(name for name in own.keys() ^ state.keys() if name in state or not name.startswith("settings."))
        wrong += [name for name in own if name in state and own[name].shape != np.shape(state[name])]
        if wrong:
            raise ValueError("optimizer state does not fit: missing, unexpected or of another shape: " + ", ".join(wrong))
        for slot, arrays in self.memory.items():
            for i, array in enumerate(arrays):
                array[...] = state[f"{slot}.{i}"]
        for name in self.settings:
            if f"settings.{name}" in state:
                value = np.asarray(state[f"settings.{name}"]).tolist()
                setattr(self, name, tuple(value) if isinstance(value, list) else value)
        self.step_count = int(state["step"])


def _groups(params: Params) -> list[dict[str, Any]]:
    """The groups, each {"params": [...], ...}; plain weights are one group. ValueError for what does not belong there."""
    items = list(params)
    grouped = [isinstance(item, Mapping) for item in items]
    if any(grouped) and not all(grouped):
        raise ValueError("params mixes weights and groups: put every weight into a group {'params': [...]}")
    groups = [dict(item) for item in items if isinstance(item, Mapping)] or [{"params": items}]
    for group in groups:
        if unknown := [key for key in group if key not in GROUP_KEYS]:
            raise ValueError(f"a group of params has {unknown[0]!r}; known are {', '.join(GROUP_KEYS)}")
        members = group.get("params", [])
        group["params"] = [members] if isinstance(members, Tensor) else list(members)
        for key in ("lr", "weight_decay"):
            value = group.get(key)
            if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise ValueError(f"{key} of a group must be a finite number of at least 0, got {value!r}")
        for param in group["params"]:
            if not isinstance(param, Tensor):
                raise ValueError(f"params holds {type(param).__name__}, Tensors expected: pass model.parameters()")
    if not any(group["params"] for group in groups):
        raise ValueError("params is empty: pass model.parameters()")
    return groups


def _factor(group: Mapping[str, Any], lr: float) -> float:
    """How many times `lr` the group's learning rate is."""
    if group.get("lr") is None:
        return 1.0
    if lr == 0:
        raise ValueError("a group with a learning rate of its own needs lr above 0: a schedule keeps their ratio")
    return group["lr"] / lr


def _own_memory(param: Tensor) -> None:
    """Make the weight an ordinary array that may be written to; a mapped or transposed one is copied."""
    if not param.data.flags.carray:
        param.data = np.array(param.data, order="C")
