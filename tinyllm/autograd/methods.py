"""What everybody expects of an array: x.sum(), x.reshape(2, 3), x == y, abs(x), f"{x:.2f}".

Nothing is computed here. The ops of `ops/` stand above Tensor, which therefore cannot import them; but `@op` puts each under
its name into `OPS`, and a method takes it from there when it is called: `x.sum(axis=0)` is `ops.sum(x, axis=0)`. Comparisons
have no slope, so they give plain arrays of bools, element by element, ready to be a mask or to be averaged.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Self

import numpy as np

OPS: dict[str, Callable[..., Any]] = {}


def call_op(name: str, *inputs: Any, **settings: Any) -> Any:
    """The op of that name, wherever it lives; the first call of one from `ops/` loads that package."""
    if name not in OPS:
        importlib.import_module("tinyllm.ops")
    return OPS[name](*inputs, **settings)


def plain(x: Any) -> Any:
    """x with every Tensor in it, however deep in tuples, lists and dicts, replaced by its array (refused with gradient)."""
    if isinstance(x, Methods):
        return np.asarray(x)
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    return type(x)(map(plain, x)) if type(x) in (tuple, list) else x


def has_tensor(x: Any) -> bool:
    """Whether a list or tuple holds a Tensor, however deep."""
    return any(has_tensor(y) if isinstance(y, (list, tuple)) else isinstance(y, Methods) for y in x)


def _compare(x: Methods, other: Any, relation: Callable[[Any, Any], Any]) -> Any:
    if isinstance(other, (Methods, np.ndarray, np.generic, int, float, list, tuple)):
        return relation(x.data, other.data if isinstance(other, Methods) else np.asarray(other))
    return NotImplemented


class Methods:
    """Base of Tensor, which adds `data` and the rest."""

    __slots__ = ()
    data: np.ndarray
    __hash__ = object.__hash__  # by identity: a Tensor is a key like any object, though == compares elements

    def __eq__(self, other: Any) -> Any:
        return _compare(self, other, np.equal)

    def __ne__(self, other: Any) -> Any:
        return _compare(self, other, np.not_equal)

    def __lt__(self, other: Any) -> Any:
        return _compare(self, other, np.less)

    def __le__(self, other: Any) -> Any:
        return _compare(self, other, np.less_equal)

    def __gt__(self, other: Any) -> Any:
        return _compare(self, other, np.greater)

    def __ge__(self, other: Any) -> Any:
        return _compare(self, other, np.greater_equal)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions see the plain array; a Tensor with gradient is refused, but for questions about its shape."""
        if function in (np.shape, np.ndim, np.size):
            return function(self.data, *args[1:], **kwargs)
        return function(*plain(args), **plain(kwargs))

    def __float__(self) -> float:
        return float(self.data.item())

    def __int__(self) -> int:
        return int(self.data.item())

    def __bool__(self) -> bool:
        return bool(self.data)

    def __abs__(self) -> Self:
        return call_op("absolute", self)

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if self.data.size != 1:
            raise TypeError(f"format {spec!r} is for one number, this Tensor has shape {self.data.shape}; use np.array2string")
        return format(self.data.item(), spec)

    def __len__(self) -> int:
        return len(self.data)

    def item(self) -> float:
        """The only element, as a Python number."""
        return self.data.item()

    def tolist(self) -> Any:
        """The numbers as (nested) Python lists."""
        return self.data.tolist()

    def argmax(self, axis: int | None = None) -> Any:
        """Where the largest element is, as np.argmax: integers, without gradient."""
        return self.data.argmax(axis)

    def argmin(self, axis: int | None = None) -> Any:
        """Where the smallest element is, as np.argmin."""
        return self.data.argmin(axis)

    def astype(self, dtype: Any) -> Self:
        """The same numbers as another dtype. The gradient comes back in the old one; whole numbers and bools have none."""
        if np.dtype(dtype).kind != "f":
            return type(self)(self.data.astype(dtype))  # type: ignore[call-arg]
        return call_op("_astype", self, dtype=np.dtype(dtype))

    def reshape(self, *shape: Any) -> Self:
        """x.reshape(2, -1), or x.reshape((2, -1)): the same elements in the same order."""
        return call_op("reshape", self, shape=_unpacked(shape))

    def view(self, *shape: Any) -> Self:
        """PyTorch's name for `reshape`."""
        return self.reshape(*shape)

    def flatten(self, start: int = 0) -> Self:
        """All axes from `start` on as one."""
        return self.reshape(*self.data.shape[:start], int(np.prod(self.data.shape[start:])))

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> Self:
        """Without the axes of length 1, or without those of `axis`."""
        return self.reshape(self.data.squeeze(axis).shape)

    def unsqueeze(self, axis: int) -> Self:
        """With a new axis of length 1 at `axis`."""
        return self.reshape(np.expand_dims(self.data, axis).shape)

    def transpose(self, *axes: Any) -> Self:
        """Axes reordered as in NumPy: x.transpose(0, 2, 1); without arguments all of them turned round."""
        return call_op("transpose", self, axes=_unpacked(axes) or tuple(range(self.data.ndim))[::-1])

    def permute(self, *axes: Any) -> Self:
        """PyTorch's name for `transpose` with all axes given."""
        return self.transpose(*axes)

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Self:
        """Σ x over `axis` (all by default)."""
        return call_op("sum", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Self:
        """The mean over `axis`."""
        return call_op("mean", self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Self:
        """The largest over `axis`."""
        return call_op("max", self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, *, keepdims: bool = False) -> Self:
        """The smallest over `axis`."""
        return call_op("min", self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, *, keepdims: bool = False) -> Self:
        """The product over `axis`."""
        return call_op("prod", self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, *, ddof: int = 0, keepdims: bool = False) -> Self:
        """The variance over `axis`, divided by n - ddof; ddof=1 is PyTorch's default."""
        return call_op("var", self, axis=axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: Any = None, *, ddof: int = 0, keepdims: bool = False) -> Self:
        """The square root of `var`."""
        return call_op("std", self, axis=axis, ddof=ddof, keepdims=keepdims)

    def cumsum(self, axis: int | None = None) -> Self:
        """Running sums along `axis` (of all elements in one line by default)."""
        return call_op("cumsum", self, axis=axis)


def _unpacked(numbers: tuple) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) are the same."""
    return tuple(numbers[0]) if len(numbers) == 1 and isinstance(numbers[0], (tuple, list)) else numbers
