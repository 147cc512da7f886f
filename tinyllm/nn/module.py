"""Module: a layer is an object with weights; a model is a layer made of layers.

There is no registration: `named_parameters` walks the attributes, through Modules, lists, tuples and dicts, in the order
in which they were defined, and names each weight by its path ("blocks.0.attention.qkv.weight"). A weight reachable by
two paths (tied embeddings) appears once, under the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from tinyllm.autograd import Tensor, no_grad


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every Tensor and Module under `value`, with its path; Modules before what they contain."""
    if isinstance(value, (Tensor, Module)):
        yield path, value
    if isinstance(value, Module):
        children: Any = vars(value).items()
    elif isinstance(value, (list, tuple)):
        children = enumerate(value)
    elif isinstance(value, dict):
        children = value.items()
    else:
        return
    for name, child in children:
        yield from _walk(child, f"{path}.{name}" if path else str(name))


class HasModules(Protocol):
    """A Module, or a model that is known by its contract alone (`models/contract.py`)."""

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(path, weight), each tensor once."""
        ...

    def eval(self) -> object:
        """Switch dropout off."""
        ...

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(path, module), itself first."""
        ...


class Module:
    """Base of every layer and model. Subclasses set attributes in `__init__` and define `__call__`."""

    training = True

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(path, module) for this module (path "") and every one below it."""
        return ((path, value) for path, value in _walk(self, "") if isinstance(value, Module))

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(path, weight) in definition order, frozen ones (requires_grad=False) included, each tensor once."""
        seen: set[int] = set()
        for path, value in _walk(self, ""):
            if isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield path, value

    def parameters(self) -> list[Tensor]:
        """The weights that are trained."""
        return [parameter for _, parameter in self.named_parameters() if parameter.requires_grad]

    def num_parameters(self) -> int:
        """Number of weights, each counted once."""
        return sum(parameter.size for _, parameter in self.named_parameters())

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for _, parameter in self.named_parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Name -> array, the live ones: copy what you want to keep."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, np.ndarray], *, assign: bool = False) -> None:
        """Take the arrays in `state` as weights: copied into ours, or with `assign` used as they are (mapped files).

        ValueError lists missing, unexpected and wrong-shaped names together; then nothing has been changed.
        """
        own = dict(self.named_parameters())
        wrong = [f"missing {name}" for name in own if name not in state]
        wrong += [f"unexpected {name}" for name in state if name not in own]
        wrong += [
            f"{name} has shape {tuple(np.shape(state[name]))}, expected {parameter.shape}"
            for name, parameter in own.items()
            if name in state and np.shape(state[name]) != parameter.shape
        ]
        if wrong:
            raise ValueError("state does not fit this model: " + "; ".join(wrong))
        for name, parameter in own.items():
            if assign:
                parameter.data = state[name]
                parameter.mark_changed()
            else:
                parameter.assign(state[name])

    def train(self, mode: bool = True) -> Module:
        """Switch dropout on (or off, with False) here and below; returns self."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch dropout off here and below; returns self."""
        return self.train(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} does not define __call__")

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}  {self.num_parameters():,} parameters"]
        for path, module in self.named_modules():
            shapes = [f"{name} {value.shape}" for name, value in vars(module).items() if isinstance(value, Tensor)]
            if path:
                lines.append(f"{'  ' * path.count('.')}  {path}: {type(module).__name__} {', '.join(shapes)}".rstrip())
        return "\n".join(lines)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside, `model` is used and not trained: no dropout, no gradients. Afterwards it is in the mode it was in."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with no_grad():
            yield
    finally:
        if was_training:
            model.train()
