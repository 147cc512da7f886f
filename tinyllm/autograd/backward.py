"""The walk back through the graph that turns it into gradients (reverse-mode differentiation).

It visits nodes in reverse topological order, so when a node's turn comes, all its consumers have already sent their share:
gradients add up (the multivariate chain rule). Linnainmaa 1970; Griewank & Walther, "Evaluating Derivatives", 2008, ch. 3.
Gradients live in a dict and are popped; each closure is dropped as soon as it has run, so the activations it captured die during
the walk, not after it. The walk is a loop, not a recursion: a graph of 100 000 nodes is fine.
"""

import time
from typing import Any

import numpy as np

from tinyllm.autograd.graph import Node, RowGradient, topological_order, unbroadcast
from tinyllm.autograd.modes import BACKWARD, MODE, Call, observed, report


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
