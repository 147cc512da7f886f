"""Ops that move values without computing: reshape, transpose, concatenate, take_along, pad_rows.

A permutation of elements is its own Jacobian, so backward moves the gradient back the way the values came. reshape and
transpose are views where NumPy can make one: no copy, forward or backward.
"""

from __future__ import annotations

import numpy as np

from tinyllm.autograd import op


@op
def reshape(x, *, shape: tuple[int, ...]):
    """The same elements in the same order under another shape; one entry may be -1."""
    before = x.shape
    return x.reshape(shape), lambda dy: dy.reshape(before)


@op
def transpose(x, *, axes: tuple[int, ...]):
    """Axes reordered: result axis i is axis axes[i] of x."""
    back = tuple(np.argsort([axis % x.ndim for axis in axes]))
    return x.transpose(axes), lambda dy: dy.transpose(back)


@op
def concatenate(*xs, axis: int = 0):
    """xs end to end along `axis`."""
    cuts = np.cumsum([x.shape[axis] for x in xs])[:-1]
    return np.concatenate(xs, axis=axis), lambda dy: tuple(np.split(dy, cuts, axis=axis))


@op
def take_along(x, *, indices: np.ndarray, axis: int = -1):
    """One or more elements per row, as np.take_along_axis: y[..., j] = x[..., indices[..., j]].

    Picks the log-probability of each token that was really said: x (..., V), indices (..., 1) -> (..., 1).
    """
    n = x.shape[axis]
    if indices.ndim != x.ndim or np.delete(indices.shape, axis).tolist() != np.delete(x.shape, axis).tolist():
        raise ValueError(f"take_along: indices {indices.shape} came, the shape of x {x.shape} expected but for axis {axis}")
    if indices.size and not (0 <= indices.min() and indices.max() < n):
        raise ValueError(f"take_along: indices lie in {indices.min()}..{indices.max()}, expected 0..{n - 1}")

    def backward(dy):
        dx = np.zeros_like(x)
        if indices.shape[axis] == 1:  # no element can be taken twice
            np.put_along_axis(dx, indices, dy, axis)
        else:
            grid: list[np.ndarray] = list(np.indices(indices.shape, sparse=True))
            grid[axis] = indices
            np.add.at(dx, tuple(grid), dy)
        return dx

    return np.take_along_axis(x, indices, axis), backward


@op
def pad_rows(x, *, mask: np.ndarray):
    """The rows of x (..., C) in order to where `mask` is True, zeros elsewhere: the way back from x[mask] -> (*mask.shape, C)."""
    if mask.dtype != np.bool_ or np.count_nonzero(mask) * x.shape[-1] != x.size:
        expected = f"for x {x.shape}, a bool with as many True as rows expected"
        raise ValueError(f"pad_rows: mask {mask.dtype} {mask.shape} came {expected}")
    y = np.zeros((*mask.shape, x.shape[-1]), x.dtype)
    y[mask] = x.reshape(-1, x.shape[-1])
    return y, lambda dy: dy[mask].reshape(x.shape)
