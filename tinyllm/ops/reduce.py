"""Reductions: sum, mean, max over some axes.

A sum copies its gradient back to every element that went into it; a mean does so divided by their number n; a max sends
it to the element that won (shared equally among ties, so that the result does not depend on their order).
`axis` and `keepdims` as in NumPy. The names shadow Python's own: import the module, or `from tinyllm import ops`.
"""

from __future__ import annotations

import numpy as np

from tinyllm.autograd import op

Axis = int | tuple[int, ...] | None


def _expand(reduced: np.ndarray, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> np.ndarray:
    """Put the reduced axes back with length 1, then repeat along them (a view, nothing is copied)."""
    if axis is not None and not keepdims:
        reduced = np.expand_dims(reduced, axis)
    return np.broadcast_to(reduced, shape)


@op
def sum(x, *, axis: Axis = None, keepdims: bool = False):
    """Σ x over `axis` (all of them by default)."""
    shape = x.shape  # what backward needs: not x itself, which may then be freed
    return np.sum(x, axis=axis, keepdims=keepdims), lambda dy: _expand(dy, shape, axis, keepdims)


@op
def mean(x, *, axis: Axis = None, keepdims: bool = False):
    """Σ x / n over `axis`."""
    y = np.mean(x, axis=axis, keepdims=keepdims)
    shape, n = x.shape, x.size // np.size(y) if np.size(y) else 1
    return y, lambda dy: _expand(dy / n, shape, axis, keepdims)


@op
def max(x, *, axis: Axis = None, keepdims: bool = False):
    """The largest x over `axis`."""
    y = np.max(x, axis=axis, keepdims=keepdims)

    def backward(dy):
        winners = x == _expand(y, x.shape, axis, keepdims)
        n_winners = np.sum(winners, axis=axis, keepdims=keepdims, dtype=x.dtype)
        return winners * _expand(dy / n_winners, x.shape, axis, keepdims)

    return y, backward
