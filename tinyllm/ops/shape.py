"""Ops that move values without computing: reshape, transpose, join, split, pick, repeat, pad.

A permutation of elements is its own Jacobian, so backward moves the gradient back the way the values came. reshape and
transpose are views where NumPy can make one: no copy, forward or backward.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyllm.autograd import Tensor, op


@op
def reshape(x, *, shape: tuple[int, ...]):
    """The same elements in the same order under another shape; one entry may be -1."""
    before = x.shape
    return x.reshape(shape), lambda dy: dy.reshape(before)


@op
def transpose(x, *, axes: tuple[int, ...]):
    """Axes reordered: result axis i is axis axes[i] of x."""
    y = x.transpose(axes)  # refuses axes that are no permutation
    back = tuple(np.argsort([axis % x.ndim for axis in axes]))
    return y, lambda dy: dy.transpose(back)


def _length(op_name: str, shape: tuple[int, ...], axis: int) -> int:
    """The length of that axis; ValueError if there is none."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{op_name}: axis {axis} came for x of shape {shape}")
    return shape[axis]


def _or_one_list(joined: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """f(a, b) may also be called f([a, b]), as in NumPy and PyTorch."""

    @functools.wraps(joined)
    def call(*xs: Any, **settings: Any) -> Tensor:
        return joined(*(xs[0] if len(xs) == 1 and isinstance(xs[0], (list, tuple)) else xs), **settings)

    return call


@_or_one_list
@op
def concatenate(*xs, axis: int = 0):
    """xs end to end along `axis`: concatenate(a, b) or concatenate([a, b])."""
    y = np.concatenate(xs, axis=axis)
    cuts = np.cumsum([x.shape[axis] for x in xs])[:-1]
    return y, lambda dy: tuple(np.split(dy, cuts, axis=axis))


@_or_one_list
@op
def stack(*xs, axis: int = 0):
    """xs of one shape side by side along a new axis: stack(a, b) or stack([a, b])."""
    return np.stack(xs, axis=axis), lambda dy: tuple(np.moveaxis(dy, axis, 0))


def split(x: Any, n_parts: int | None = None, *, sizes: Sequence[int] | None = None, axis: int = 0) -> list[Tensor]:
    """x cut along `axis` into `n_parts` equal parts, or into parts of these `sizes`."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    length = _length("split", x.shape, axis)
    if (n_parts is None) == (sizes is None):
        raise ValueError("split: give n_parts or sizes, one of them")
    if sizes is None:
        assert n_parts is not None
        if n_parts < 1 or length % n_parts:
            raise ValueError(f"split: an axis of length {length} cannot be cut into {n_parts} equal parts; give sizes")
        sizes = [length // n_parts] * n_parts
    if min(sizes, default=0) < 0 or sum(sizes) != length:
        raise ValueError(f"split: sizes {list(sizes)} came, they must add up to the axis of length {length}")
    ends = np.cumsum(sizes).tolist()
    before = (slice(None),) * (axis % x.ndim)
    return [x[(*before, slice(end - size, end))] for size, end in zip(sizes, ends, strict=True)]


@op
def take_along(x, *, indices: np.ndarray, axis: int = -1):
    """One or more elements per row, as np.take_along_axis: y[..., j] = x[..., indices[..., j]].

    Picks the log-probability of each token that was really said: x (..., V), indices (..., 1) -> (..., 1).
    """
    n = _length("take_along", x.shape, axis)
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
def repeat(x, *, repeats: int | np.ndarray, axis: int):
    """Each slice along `axis` `repeats` times in a row, as np.repeat; their gradients add up."""
    source = np.repeat(np.arange(_length("repeat", x.shape, axis)), repeats)  # where each slice of y came from
    y = np.repeat(x, repeats, axis=axis)

    def backward(dy):
        dx = np.zeros_like(x)
        np.add.at(np.moveaxis(dx, axis, 0), source, np.moveaxis(dy, axis, 0))
        return dx

    return y, backward


@op
def pad(x, *, widths: Sequence, value: float = 0.0):
    """`value` around x: widths is (before, after), or one such pair for each axis, as np.pad's pad_width."""
    y = np.pad(x, widths, constant_values=value)
    pairs = np.broadcast_to(widths, (x.ndim, 2))
    inner = tuple(slice(int(first), int(first) + n) for (first, _), n in zip(pairs, x.shape, strict=True))
    return y, lambda dy: dy[inner]


@op
def tril(x, *, k: int = 0):
    """The lower triangle of the last two axes, zeros above diagonal k."""
    if x.ndim < 2:
        raise ValueError(f"tril: x has shape {x.shape}, two axes or more expected")
    return np.tril(x, k), lambda dy: np.tril(dy, k)


@op
def triu(x, *, k: int = 0):
    """The upper triangle of the last two axes, zeros below diagonal k."""
    if x.ndim < 2:
        raise ValueError(f"triu: x has shape {x.shape}, two axes or more expected")
    return np.triu(x, k), lambda dy: np.triu(dy, k)


@op
def pad_rows(x, *, mask: np.ndarray):
    """The rows of x (..., C) in order to where `mask` is True, zeros elsewhere: the way back from x[mask] -> (*mask.shape, C)."""
    width = x.shape[-1] if x.ndim else 1
    if not x.ndim or mask.dtype != np.bool_ or np.count_nonzero(mask) * width != x.size:
        expected = f"for x {x.shape}, a bool with as many True as rows expected"
        raise ValueError(f"pad_rows: mask {mask.dtype} {mask.shape} came {expected}")
    y = np.zeros((*mask.shape, width), x.dtype)
    y[mask] = x.reshape(-1, width)
    return y, lambda dy: dy[mask].reshape(x.shape)
