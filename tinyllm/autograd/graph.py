"""The graph behind a Tensor: what was computed from what, and how each result is differentiated.

Every recorded result has a `Node`: its parents and a closure `backward` that maps the gradient of the loss with respect to the
result, dL/dy, to one gradient per parent, dL/dx = dL/dy · dy/dx. Who walks it: `backward.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm import kernels

Backward = Callable[[np.ndarray], Any]


class GraphFreedError(RuntimeError):
    """A second backward through a graph whose closures have already run and gone."""


class Node:
    """One recorded op: its name, its value's shape and dtype, its parents and the closure that differentiates it.

    A parent is another Node, a leaf (anything with `receive_gradient`, that is, a Tensor that wants `.grad`), or None
    for an input without gradient. Nodes do not point at Tensors in between: their arrays live only if captured. But they watch
    whether any of them was changed in place since, also those without gradient: the closure may read it.
    """

    __slots__ = ("name", "shape", "dtype", "parents", "backward", "changes", "versions")

    def __init__(self, name: str, value: np.ndarray, parents: tuple, backward: Backward, changes: list[list[int]]):
        """changes: the counters of in-place changes of all arrays that the closure may have captured (see Tensor)."""
        self.name, self.shape, self.dtype, self.parents = name, value.shape, value.dtype, parents
        self.backward: Backward | None = backward
        self.changes, self.versions = changes, [count for (count,) in changes]

    def differentiate(self, dy: np.ndarray) -> tuple:
        """Gradients of the parents, in order; the closure and what it captured are released here."""
        if self.backward is None:
            raise GraphFreedError(
                f"the graph behind op '{self.name}' was freed by an earlier backward(); "
                "compute the loss again, or add the losses and call backward() once"
            )
        if [count for (count,) in self.changes] != self.versions:
            raise RuntimeError(
                f"an input of op '{self.name}' (result {self.shape}) was changed in place after it was recorded, so gradients "
                "would be wrong; call backward() before optimizer.step(), assign() or load_state_dict()"
            )
        backward, self.backward = self.backward, None
        gradients = backward(dy)
        return gradients if isinstance(gradients, tuple) else (gradients,)


def topological_order(root: Node) -> list[Node]:
    """Every Node and leaf reachable from root, parents before children (depth first, without recursion)."""
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, parents_done = stack.pop()
        if parents_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((p, False) for p in getattr(node, "parents", ()) if p is not None and id(p) not in seen)
    return order


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum `gradient` over the axes along which an array of `shape` was repeated by broadcasting.

    Repeating a value n times means that n gradients come back to it: they add up. This is the only place that knows.
    """
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    gradient = gradient.sum(axis=tuple(range(extra))) if extra > 0 else gradient
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i : i + 1] not in ((), (1,)))
    gradient = gradient.sum(axis=repeated, keepdims=True) if repeated else gradient
    if gradient.shape != shape:  # kernels further down would read memory that is not there
        raise ValueError(f"a gradient of shape {gradient.shape} came for an input of shape {shape}; a backward is wrong")
    return gradient


@dataclass(frozen=True)
class RowGradient:
    """The gradient of a table (V, C) of which only some rows were read: values (..., C) for the rows `ids` (...).

    A backward may return it instead of an array that is nearly all zeros: 50,257 rows for the 256 tokens of a batch.
    """

    ids: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if self.values.shape != (*self.ids.shape, self.shape[1]):
            raise ValueError(f"RowGradient: values {self.values.shape} came for ids {self.ids.shape} of a table {self.shape}")

    def dense(self) -> np.ndarray:
        """The whole table's gradient, (V, C)."""
        return kernels.embedding_backward(self.values, self.ids, self.shape[0])

    def add_to(self, gradient: np.ndarray) -> None:
        """Add it to `gradient` (V, C), a C-contiguous array, in place."""
        kernels.embedding_backward(self.values, self.ids, self.shape[0], out=gradient)
