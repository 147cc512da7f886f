"""Tensor, `@op`, and the ops behind Python's operators.

An op is a function of plain arrays that returns its value and a closure, `backward`, that maps the gradient of the
value to the gradients of the inputs. Forward and backward stand in one scope and share what they computed by name:

    @op
    def square(x):
        def backward(dy):
            return 2 * x * dy
        return x * x, backward

Positional arguments carry gradient, keyword-only arguments do not. Inside an op there are only arrays; `op` unwraps, calls,
wraps. Un-broadcasting happens once, where gradients are added up (`backward.py`)."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinyllm import kernels
from tinyllm.autograd.backward import walk_backward
from tinyllm.autograd.graph import Node
from tinyllm.autograd.methods import OPS, Methods, has_tensor, plain
from tinyllm.autograd.modes import FORWARD, MODE, Call, report

NATIVE_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # not those with their bytes swapped


class Tensor(Methods):
    """A NumPy array that remembers how it was made.

    data           array of any shape; a list becomes float32 (or int64 if it holds integers), an array keeps its dtype
    requires_grad  True for a leaf that wants `.grad` after `backward()`; needs a floating dtype
    grad           ndarray of the same shape, or None; backward() adds to it
    frozen         True for a leaf that would want a gradient, but is to stay as it is for now (see `freeze`)
    changes        [how often the array was changed in place], shared by all Tensors of the same memory; guards recorded graphs

    Methods such as x.sum() and comparisons stand in `methods.py`.
    """

    __slots__ = ("data", "grad", "requires_grad", "frozen", "changes", "node", "__weakref__")
    __array_ufunc__ = None  # ndarray * Tensor then comes to Tensor.__rmul__ instead of giving an object array

    def __init__(self, data: Any, requires_grad: bool = False):
        if isinstance(data, Tensor):
            raise TypeError("Tensor(data): data is already a Tensor; use it as it is, or .detach() it")
        if isinstance(data, (list, tuple)) and has_tensor(data):
            raise TypeError("a list of Tensors is not one Tensor: join them with ops.stack or ops.concatenate")
        array = np.asarray(data)
        if array.dtype == np.float64 and not isinstance(data, (np.ndarray, np.generic)):
            array = array.astype(np.float32)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"Tensor(data): numbers expected, got {type(data).__name__} ({array.dtype}); convert it first")
        if requires_grad and array.dtype.kind != "f":
            raise ValueError(f"requires_grad=True needs floating point data, got {array.dtype}; convert it first")
        self.data: np.ndarray = array
        self.grad: np.ndarray | None = None
        self.requires_grad = requires_grad
        self.frozen = False
        self.changes = [0]
        self.node: Node | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def version(self) -> int:
        return self.changes[0]

    def numpy(self) -> np.ndarray:
        """The array itself, not a copy: a recorded graph may still read it, so write to a copy only."""
        return self.data

    def detach(self) -> Tensor:
        """The same values with no history: gradients stop here."""
        same = Tensor(self.data)
        same.changes = self.changes
        return same

    def freeze(self) -> None:
        """Want no gradient from now on, until `unfreeze`. A Tensor that wants none anyway stays as it is."""
        self.frozen = self.frozen or self.requires_grad
        self.requires_grad, self.grad = False, None

    def unfreeze(self) -> None:
        """Want a gradient again if `freeze` has ended that."""
        self.requires_grad, self.frozen = self.requires_grad or self.frozen, False

    def backward(self, gradient: Any = None) -> None:
        """Add dself/dleaf · gradient to the `.grad` of every leaf below. A scalar needs no gradient (it is 1)."""
        if not self.requires_grad:
            raise RuntimeError(
                "backward(): nothing here requires gradient; was it computed under no_grad(), or from inputs "
                "none of which has requires_grad=True?"
            )
        if gradient is None and self.size != 1:
            raise ValueError(f"backward() without a gradient needs a single element, got shape {self.shape}")
        seed = np.ones_like(self.data) if gradient is None else np.asarray(gradient, dtype=self.dtype)
        if seed.shape != self.shape:
            raise ValueError(f"backward(gradient): shape {seed.shape} came, the tensor's {self.shape} was expected")
        walk_backward(self.node or self, seed)

    def receive_gradient(self, gradient: np.ndarray, own: bool) -> None:
        """Called by the walk on a leaf. `own`: the array belongs to nobody else and may be kept."""
        if self.grad is None:  # in C order, as the optimizers' loops expect
            self.grad = gradient if own and gradient.flags.c_contiguous else gradient.copy()
        else:
            np.add(self.grad, gradient, out=self.grad)

    def assign(self, array: np.ndarray) -> None:
        """Overwrite the values in place (loading weights); graphs recorded before that read them refuse to go backward."""
        if self.node is not None:
            made = f"this Tensor is the result of op '{self.node.name}' and is not changed in place"
            raise RuntimeError(f"{made}; make a new one with Tensor(array)")
        self.data[...] = array
        self.mark_changed()

    def mark_changed(self) -> None:
        """To be called by whoever changes `data` in place, or puts another array there."""
        self.changes[0] += 1

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("a Tensor without axes cannot be iterated over")
        return (self[i] for i in range(len(self.data)))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError(
            "a Tensor is not changed in place, since a recorded graph may need the old values; "
            "build a new one with ops.where or ops.concatenate, or write to a copy of .data"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise TypeError("NumPy would drop this Tensor's gradient silently; use .detach() or .data on purpose")
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __repr__(self) -> str:
        made = f", op={self.node.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(self.data, precision=4, threshold=20)}, dtype={self.dtype}{made})"

    @property
    def T(self) -> Tensor:
        """Last two axes swapped."""
        return swap_last_axes(self)

    def __add__(self, other: Any) -> Tensor:
        return add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return subtract(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return multiply(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return multiply(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return divide(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(other, self)

    def __neg__(self) -> Tensor:
        return negative(self)

    def __pow__(self, exponent: Any) -> Tensor:
        return power(self, exponent)

    def __rpow__(self, base: Any) -> Tensor:
        return power(base, self)

    def __getitem__(self, key: Any) -> Tensor:
        return getitem(self, key=plain(key))


def _array(x: Any) -> Any:
    """What an op sees. Scalars stay Python numbers, so that they do not widen float32 (NumPy 2, NEP 50)."""
    if isinstance(x, Tensor):
        return x.data
    if isinstance(x, np.generic):
        return x.item()
    return x if x is None or isinstance(x, (np.ndarray, int, float)) else Tensor(x).data


def _only_array(x: Any) -> Any:
    """What an op of one operand sees: always an array, since there is no other one that a number could widen."""
    return x.data if isinstance(x, Tensor) else x if isinstance(x, np.ndarray) else Tensor(x).data


def _setting(op_name: str, key: str, value: Any) -> Any:
    """A keyword argument as an op sees it: NumPy scalars become Python numbers, for the same reason."""
    if isinstance(value, Tensor):
        raise TypeError(f"{op_name}({key}=...): keyword arguments carry no gradient; pass {key}.data")
    return value.item() if isinstance(value, np.generic) else value


def _parent(x: Any) -> Any:
    return (x.node or x) if isinstance(x, Tensor) and x.requires_grad else None


def op(function: Callable[..., tuple]) -> Callable[..., Tensor]:
    """Turn `f(*arrays, **settings) -> (value, backward)` into a function of Tensors, and register it in OPS.

    `backward(dy)` returns one gradient per positional argument, in order (a bare array if there is one), None for none.
    A function with a keyword `needs` is told, as a tuple of booleans, which positional arguments want a gradient. Positional
    arguments with a default (None) count too, also where the caller leaves them out.
    """
    name = function.__name__
    parameters = inspect.signature(function).parameters
    takes_needs = "needs" in parameters
    positional = [p.default for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    seen = _only_array if len(positional) == 1 else _array
    n_required = sum(default is inspect.Parameter.empty for default in positional)
    defaults = {key: p.default for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    @functools.wraps(function)
    def apply(*inputs: Any, **settings: Any) -> Tensor:
        settings = {key: _setting(name, key, value) for key, value in settings.items()}
        if n_required <= len(inputs) < len(positional):
            inputs += (None,) * (len(positional) - len(inputs))
        parents = tuple(map(_parent, inputs)) if MODE.recording else ()
        recording = any(parent is not None for parent in parents)
        if takes_needs:
            settings["needs"] = tuple(p is not None for p in parents) if recording else (False,) * len(inputs)
        observers = MODE.observers
        start = time.perf_counter() if observers else 0.0
        value, backward = function(*map(seen, inputs), **settings)
        seconds = time.perf_counter() - start if observers else 0.0
        out = Tensor(np.asarray(value))
        if out.data.base is not None:
            _share_changes(out, inputs)
        if recording:
            changes = [x.changes for x in inputs if isinstance(x, Tensor)]
            out.requires_grad = True
            out.node = Node(name, out.data, parents, backward, [*changes, out.changes])
        if observers:
            report(Call(name, FORWARD, inputs, {**defaults, **settings}, out, start, seconds))
        return out

    OPS[name] = apply
    return apply


def _share_changes(view: Tensor, inputs: tuple) -> None:
    """A view of an input, such as its transpose, changes when the input does: they count together."""
    for x in inputs:
        if isinstance(x, Tensor) and (view.data.base is x.data or view.data.base is x.data.base):
            view.changes = x.changes


def check_dtypes(op_name: str, **arrays: np.ndarray | None) -> None:
    """ValueError unless all arrays are float32, or all float64: kernels read memory as the first one's dtype."""
    try:
        dtypes = [array.dtype for array in arrays.values() if array is not None]
    except AttributeError:
        kinds = ", ".join(f"{name} {type(array).__name__}" for name, array in arrays.items())
        raise TypeError(f"{op_name}: {kinds} came; arrays or Tensors expected") from None
    if dtypes and dtypes[0] in NATIVE_FLOATS and dtypes.count(dtypes[0]) == len(dtypes):
        return
    came = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items() if array is not None)
    raise ValueError(f"{op_name}: {came}; all float32 or all float64 expected, convert with .astype")


@op
def add(a, b):
    """a + b, broadcast."""
    return a + b, lambda dy: (dy, dy)


@op
def subtract(a, b):
    """a - b, broadcast."""
    return a - b, lambda dy: (dy, -dy)


@op
def multiply(a, b):
    """a · b element by element, broadcast: d(ab) = b da + a db."""
    return a * b, lambda dy: (dy * b, dy * a)


@op
def divide(a, b):
    """a / b, broadcast: d(a/b) = da / b - a db / b²."""
    return a / b, lambda dy: (dy / b, -dy * (a / b) / b)  # b * b could overflow


@op
def negative(x):
    """-x."""
    return -x, lambda dy: -dy


@op
def power(a, b, *, needs):
    """aᵇ element by element, broadcast: d(aᵇ) = b aᵇ⁻¹ da + aᵇ ln(a) db. Where b = 0 nothing depends on a; 0ᵇ not on b."""
    if isinstance(b, (int, float)) and b == 0:
        return np.ones_like(a), lambda dy: (np.zeros_like(a), None)
    y = a**b

    def backward(dy):
        da = db = None
        if needs[0]:
            da = dy * b * np.asarray(a) ** np.where(np.equal(b, 0), 1, b - 1) if np.ndim(b) else dy * b * a ** (b - 1)
        if needs[1]:
            db = dy * y * np.log(np.where(np.equal(a, 0), 1, a).astype(y.dtype))
        return da, db

    return y, backward


@op
def matmul(a, b, *, needs):
    """A · B over the last two axes, leading axes broadcast: dA = dY · Bᵀ, dB = Aᵀ · dY.

    a (..., M, K), b (..., K, N) -> (..., M, N). A vector (K,) on the left is a row, on the right a column, as in NumPy.
    """
    wide, tall = np.ndim(a) > 1, np.ndim(b) > 1
    if not (np.ndim(a) and np.ndim(b)) or a.shape[-1] != b.shape[-2 if tall else 0]:
        raise ValueError(f"matmul: (..., M, K) @ (..., K, N) expected, got {np.shape(a)} @ {np.shape(b)}")
    check_dtypes("matmul", a=a, b=b)
    row, column = a if wide else a[None], b if tall else b[:, None]

    def backward(dy):
        dy = dy if tall else dy[..., None]
        dy = dy if wide else dy[..., None, :]
        da = kernels.matmul(dy, column.swapaxes(-1, -2)) if needs[0] else None
        db = kernels.matmul(row.swapaxes(-1, -2), dy) if needs[1] else None
        return da, db if tall or db is None else db[..., 0]

    y = kernels.matmul(row, column)
    y = y if tall else y[..., 0]
    return y if wide else y[..., 0, :] if tall else y[..., 0], backward


@op
def _astype(x, *, dtype: np.dtype):
    """x in another floating dtype; the walk brings the gradient back to x's own."""
    return x.astype(dtype), lambda dy: dy


@op
def swap_last_axes(x):
    """xᵀ over the last two axes."""
    if np.ndim(x) < 2:
        raise ValueError(f"swap_last_axes: x has shape {np.shape(x)}, two axes or more expected")
    return x.swapaxes(-1, -2), lambda dy: dy.swapaxes(-1, -2)


def _reads_once(part: Any) -> bool:
    plain = part is None or part is Ellipsis or isinstance(part, int | slice | np.integer)
    return plain or (isinstance(part, np.ndarray) and part.dtype == np.bool_)


@op
def getitem(x, *, key: Any):
    """x[key]. An element read n times receives n gradients (np.add.at); slices and bool masks read it once."""
    read_once = all(_reads_once(part) for part in (key if isinstance(key, tuple) else (key,)))

    def backward(dy):
        dx = np.zeros_like(x)
        if read_once:
            dx[key] = dy
        else:
            np.add.at(dx, key, dy)
        return dx

    return x[key], backward
