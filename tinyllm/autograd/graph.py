"""The graph behind a Tensor, and the walk that turns it into gradients (reverse-mode differentiation).

Every recorded result has a `Node`: the names of its parents and a closure `backward` that maps the gradient of the
loss with respect to the result, dL/dy, to one gradient per parent, dL/dx = dL/dy · dy/dx. The walk visits nodes in
reverse topological order, so when a node's turn comes, all its consumers have already sent their share: gradients add
up (the multivariate chain rule). Linnainmaa 1970; Griewank & Walther, "Evaluating Derivatives", 2008, ch. 3.

Gradients live in a dict and are popped; each closure is dropped as soon as it has run, so the activations it captured
die during the walk, not after it. The walk is a loop, not a recursion: a graph of 100 000 nodes is fine.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm import kernels
from tinyllm.autograd.modes import BACKWARD, MODE, Call, observed, report

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


class _Gradients:
    """The gradients on their way, by node; knows which arrays are its own, since only those may be added to in place.

    `add` hands one gradient to two parents, `reshape` returns a view: writing into such an array would change another.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, tuple[np.ndarray, bool]] = {}

    def add(self, parent: Any, gradient: np.ndarray, own: bool) -> None:
        held = self.waiting.get(id(parent))
        if held is None:
            self.waiting[id(parent)] = (gradient, own)
            return
        into = held[0] if held[1] else gradient if own else None
        self.waiting[id(parent)] = (np.asarray(np.add(held[0], gradient, out=into)), True)

    def add_rows(self, parent: Any, gradient: RowGradient) -> None:
        """Add the gradient of a few rows: into the array that is waiting if it may be written to, else to a new one."""
        if gradient.shape != parent.shape:
            raise ValueError(f"a gradient for a table {gradient.shape} came for an input of shape {parent.shape}")
        held = self.waiting.get(id(parent))
        if held is not None and held[1] and held[0].flags.c_contiguous:
            gradient.add_to(held[0])
        else:
            self.add(parent, gradient.dense(), own=True)

    def pop(self, node: Any) -> tuple[np.ndarray, bool] | None:
        return self.waiting.pop(id(node), None)


@observed("backward")
def walk_backward(root: Any, gradient: np.ndarray) -> None:
    """Send `gradient` from root to every leaf below it; leaves add what they receive to their `.grad`."""
    gradients = _Gradients()
    gradients.add(root, gradient, own=False)
    order, observers = topological_order(root), MODE.observers
    while order:  # popping lets go of each node, and with it of its arrays, as soon as it is done
        node = order.pop()
        held = gradients.pop(node)
        if held is None:
            continue
        dy, own = held
        if not isinstance(node, Node):
            node.receive_gradient(dy, own)
            continue
        parents = node.parents
        start = time.perf_counter() if observers else 0.0
        dparents = node.differentiate(dy)
        seconds = time.perf_counter() - start if observers else 0.0
        node.parents = ()
        _check_count(node, parents, dparents)
        if observers:
            report(Call(node.name, BACKWARD, parents, {}, dparents, start, seconds))
        for parent, dparent in zip(parents, dparents, strict=True):
            if parent is None or dparent is None:
                continue
            if isinstance(dparent, RowGradient):
                gradients.add_rows(parent, dparent)
                continue
            summed = np.asarray(unbroadcast(dparent, parent.shape), dtype=parent.dtype)  # float32 input, float32 gradient
            fresh = summed is not dparent or (own if dparent is dy else dparent.base is None)
            gradients.add(parent, summed, own=fresh and _is_alone(dparent, dparents))


def _is_alone(gradient: np.ndarray, gradients: tuple) -> bool:
    """Whether no other of `gradients` is the same memory, and `gradient` thus belongs to its parent only."""
    memory = [getattr(other, "values", other) for other in gradients]  # a RowGradient keeps the array it was made from
    return sum(other is gradient or getattr(other, "base", None) is gradient for other in memory) == 1


def _check_count(node: Node, parents: tuple, dparents: tuple) -> None:
    if len(parents) != len(dparents):
        raise TypeError(
            f"backward of op '{node.name}' returned {len(dparents)} gradients for {len(parents)} positional inputs; "
            "return one per positional argument, None where there is none"
        )
