"""Reductions: sum, mean, max, min, prod, var, std over some axes, and running sums.

A sum copies its gradient back to every element that went into it; a mean does so divided by their number n; a max sends
it to the element that won (shared equally among ties, so that the result does not depend on their order).
`axis` and `keepdims` as in NumPy. The names shadow Python's own: import the module, or `from tinyllm import ops`.
"""

from collections.abc import Callable

import numpy as np

from tinyllm.autograd import op

Axis = int | tuple[int, ...] | None


def _expand(reduced: np.ndarray, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> np.ndarray:
    """Put the reduced axes back with length 1, then repeat along them (a view, nothing is copied)."""
    if axis is not None and not keepdims and shape:  # NumPy allows axis 0 of a number, which has none
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


def _to_winners(x: np.ndarray, y: np.ndarray, axis: Axis, keepdims: bool) -> Callable[[np.ndarray], np.ndarray]:
    def backward(dy):
        winners = x == _expand(y, x.shape, axis, keepdims)
        n_winners = np.sum(winners, axis=axis, keepdims=keepdims, dtype=x.dtype)
        return winners * _expand(dy / n_winners, x.shape, axis, keepdims)

    return backward


@op
def max(x, *, axis: Axis = None, keepdims: bool = False):
    """The largest x over `axis`."""
    y = np.max(x, axis=axis, keepdims=keepdims)
    return y, _to_winners(x, y, axis, keepdims)


@op
def min(x, *, axis: Axis = None, keepdims: bool = False):
    """The smallest x over `axis`."""
    y = np.min(x, axis=axis, keepdims=keepdims)
    return y, _to_winners(x, y, axis, keepdims)


@op
def prod(x, *, axis: Axis = None, keepdims: bool = False):
    """The product of x over `axis`: d∏x = Σᵢ (∏ of the others) dxᵢ.

    The others are what stands before times what stands behind, and not ∏x / xᵢ, which a zero would spoil.
    """
    y = np.prod(x, axis=axis, keepdims=keepdims)
    reduced = range(x.ndim) if axis is None else [i % x.ndim for i in np.atleast_1d(axis) if x.ndim]
    order = [i for i in range(x.ndim) if i not in reduced] + list(reduced)  # reduced axes last

    def backward(dy):
        moved = x.transpose(order)
        line = moved.reshape(*moved.shape[: x.ndim - len(reduced)], -1) if x.size else moved[..., None]  # (..., n)
        one = np.ones_like(line[..., :1])
        before = np.cumprod(np.concatenate([one, line[..., :-1]], axis=-1), axis=-1)
        behind = np.cumprod(np.concatenate([one, line[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
        others = (before * behind).reshape(moved.shape).transpose(np.argsort(order))
        return others * _expand(dy, x.shape, axis, keepdims)

    return y, backward


def _deviation(op_name: str, x: np.ndarray, axis: Axis, ddof: int) -> tuple[np.ndarray, int]:
    """x - mean, and n - ddof."""
    mean = np.mean(x, axis=axis, keepdims=True)
    n = (x.size // mean.size if mean.size else 1) - ddof
    if n <= 0:
        raise ValueError(f"{op_name}: n - ddof is {n} for x {x.shape}, axis {axis}, ddof {ddof}; at least 1 expected")
    return x - mean, n


@op
def var(x, *, axis: Axis = None, ddof: int = 0, keepdims: bool = False):
    """Σ (x - mean)² / (n - ddof) over `axis`: d var = 2 (x - mean) / (n - ddof) dx. PyTorch's default is ddof=1."""
    off, n = _deviation("var", x, axis, ddof)
    return np.sum(off * off, axis=axis, keepdims=keepdims) / n, lambda dy: _expand(dy * (2 / n), x.shape, axis, keepdims) * off


@op
def std(x, *, axis: Axis = None, ddof: int = 0, keepdims: bool = False):
    """√var: d std = (x - mean) / ((n - ddof) std) dx, and 0 where all are equal."""
    off, n = _deviation("std", x, axis, ddof)
    y = np.sqrt(np.sum(off * off, axis=axis, keepdims=keepdims) / n)
    return y, lambda dy: _expand(dy / (n * np.where(y == 0, 1, y)).astype(x.dtype), x.shape, axis, keepdims) * off


@op
def cumsum(x, *, axis: int | None = None):
    """yᵢ = x₀ + ... + xᵢ along `axis`, or of all in one line. xᵢ is in every sum from i on, so backward sums from behind."""

    def backward(dy):
        along = 0 if axis is None else axis
        return np.flip(np.cumsum(np.flip(dy, along), along), along).reshape(x.shape)

    return np.cumsum(x, axis=axis), backward
