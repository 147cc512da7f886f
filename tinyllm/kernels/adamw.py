"""Adam with decoupled weight decay for all weights of a model at once, in one pass over memory.

    θ ← θ (1 - lr·λ);   g ← s·g;   m ← β₁m + (1-β₁)g;   v ← β₂v + (1-β₂)g²
    θ ← θ - lr · m̂ / (√v̂ + eps),   m̂ = m / (1-β₁ᵗ),   v̂ = v / (1-β₂ᵗ)      (Loshchilov & Hutter 2019, algorithm 2)
Written with NumPy the same lines read and write memory some fifteen times. Here each number is loaded once and stored once;
the corrections depend only on the step and are worked out before, in double precision. s is the factor of gradient clipping: its
norm needs a sweep of its own (`sum_of_squares`), because the last gradient may change the factor of the first.

A model has dozens of weights, some large, many tiny. They are cut into blocks of at most 8192 numbers, wherever they lie in
memory, and the blocks are shared among the threads: one launch for all. Copying them into one flat array first would
cost another pass over the gradients.
"""

import math
from collections.abc import Sequence

import numpy as np
from numba import carray
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows
from tinyllm.kernels.pointers import pointer

BLOCK = 8192  # numbers
FEW_BLOCKS = 2  # not worth waking another core


@inlined
def _update(param, grad, exp_avg, exp_avg_sq, numbers, keep):
    scale, step_size, beta1, rest1, beta2, rest2, root_correction, eps = numbers
    for i in range(param.size):
        g = scale * grad[i]
        m = beta1 * exp_avg[i] + rest1 * g
        v = beta2 * exp_avg_sq[i] + rest2 * g * g
        exp_avg[i] = m
        exp_avg_sq[i] = v
        param[i] = keep * param[i] - step_size * m / (np.sqrt(v) * root_correction + eps)


@inlined
def _update_block(where, block, numbers, keep):
    """where: rows of (four addresses, numbers); block: (which row, first number); keep: a factor for each row."""
    row, first = block
    n, skip = min(BLOCK, where[row, 4] - first), first * keep.itemsize
    param, grad = carray(pointer(where[row, 0] + skip, keep), (n,)), carray(pointer(where[row, 1] + skip, keep), (n,))
    exp_avg, exp_avg_sq = carray(pointer(where[row, 2] + skip, keep), (n,)), carray(pointer(where[row, 3] + skip, keep), (n,))
    _update(param, grad, exp_avg, exp_avg_sq, numbers, keep[row])


@jit(parallel=True)
def _adamw(where, blocks, numbers, keep):
    if blocks.shape[0] <= FEW_BLOCKS:
        for i in range(blocks.shape[0]):
            _update_block(where, blocks[i], numbers, keep)
    else:
        for i in prange(blocks.shape[0]):
            _update_block(where, blocks[i], numbers, keep)


@inlined
def _sum_block(where, block, like):
    row, first = block
    n = min(BLOCK, where[row, 1] - first)
    x, total = carray(pointer(where[row, 0] + first * like.itemsize, like), (n,)), like.dtype.type(0)
    for i in range(n):
        total += x[i] * x[i]
    return total


@jit(parallel=True)
def _sum_of_squares(where, blocks, sums, like):
    """One sum per block, so that the order of additions does not depend on the number of threads."""
    if blocks.shape[0] <= FEW_BLOCKS:
        for i in range(blocks.shape[0]):
            sums[i] = _sum_block(where, blocks[i], like)
    else:
        for i in prange(blocks.shape[0]):
            sums[i] = _sum_block(where, blocks[i], like)


def _addresses(arrays: Sequence[ndarray]) -> list[int]:
    return [x.__array_interface__["data"][0] for x in arrays]


def _table(*places: list[int], sizes: list[int]) -> ndarray:
    """One row per weight: where its array in each group lies, and how many numbers it has."""
    return np.array([*places, sizes], np.int64).T.copy()


def _blocks(sizes: ndarray) -> ndarray:
    """(weight, first number) of every block."""
    counts = -(-sizes // BLOCK)
    weights = np.repeat(np.arange(len(sizes)), counts)
    starts = np.arange(len(weights)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([weights, starts * BLOCK], axis=1)


def sum_of_squares(arrays: Sequence[ndarray]) -> float:
    """Return Σ x² over all numbers of all arrays, 0.0 if there are none; the sums of blocks are added in double precision."""
    arrays = [x for x in arrays if x.size]
    if not arrays:
        return 0.0
    dtype = np.result_type(*{x.dtype for x in arrays}, np.float32)  # of several the widest, as float64 holds what float32 cannot
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise ValueError(f"arrays: {', '.join(sorted({x.dtype.name for x in arrays}))} came, float32 or float64 expected")
    lines = [rows(x.reshape(1, -1).astype(dtype, copy=False)) for x in arrays]
    where = _table(_addresses(lines), sizes=[x.size for x in lines])
    blocks = _blocks(where[:, 1])
    sums = np.empty(len(blocks), np.float64)
    _sum_of_squares(where, blocks, sums, np.empty(0, lines[0].dtype))
    return float(sums.sum())


def _checked_addresses(name: str, arrays: Sequence[ndarray], shapes: list[tuple], dtype: np.dtype) -> list[int]:
    """Where the arrays lie; ValueError unless the kernel, which sees no array, may read and write them as such of `dtype`."""
    places, kind = [], dtype.str
    for i, (array, shape) in enumerate(zip(arrays, shapes, strict=True)):
        facts = array.__array_interface__
        address, read_only = facts["data"]
        contiguous = facts["strides"] is None
        if facts["shape"] != shape:
            raise ValueError(f"{name}[{i}] has shape {array.shape}, expected {shape}, that of its weight")
        if facts["typestr"] != kind or not contiguous or read_only or address % dtype.itemsize:
            how = "read-only" if read_only else f"with strides {array.strides}"
            expected = f"expected {dtype}, writeable, C-contiguous: use np.array(x, {dtype}, order='C')"
            raise ValueError(f"{name}[{i}] is {array.dtype}, {how}; {expected}")
        places.append(address)
    return places


def _gradient_lines(grads: Sequence[ndarray], shapes: list[tuple], dtype: np.dtype) -> list[ndarray]:
    """Each gradient as one line of `dtype`, a copy where it lies otherwise or is of another float dtype."""
    for i, (grad, shape) in enumerate(zip(grads, shapes, strict=True)):
        if grad.shape != shape or grad.dtype.kind != "f":
            raise ValueError(f"grads[{i}] is {grad.dtype} {grad.shape}, expected {dtype} {shape}, as its weight")
    return [rows((grad if grad.dtype == dtype else grad.astype(dtype)).reshape(1, -1)) for grad in grads]


def _check_counts(params: Sequence[ndarray], **others: Sequence) -> None:
    """ValueError unless there is one of each for every weight, and weights are float32 or float64."""
    for name, arrays in others.items():
        if len(arrays) != len(params):
            raise ValueError(f"{name}: {len(arrays)} came for {len(params)} params")
    if params[0].dtype not in (np.float32, np.float64):
        raise ValueError(f"params[0] is {params[0].dtype}, float32 or float64 expected")


def adamw_update(
    params: Sequence[ndarray], grads: Sequence[ndarray], exp_avgs: Sequence[ndarray], exp_avg_sqs: Sequence[ndarray], *,
    lr: float, betas: tuple[float, float], eps: float, weight_decays: Sequence[float], step: int, grad_scale: float = 1.0,
) -> None:  # fmt: skip
    """Update params, exp_avgs (m) and exp_avg_sqs (v) in place: one array per weight, all of one dtype.

    weight_decays: λ of each weight; step counts from 1; gradients are multiplied by grad_scale first. Raises ValueError,
    before anything is changed, for an array that is not as it should be.
    """
    if len(params) == 0:
        return
    _check_counts(params, grads=grads, exp_avgs=exp_avgs, exp_avg_sqs=exp_avg_sqs, weight_decays=weight_decays)
    (beta1, beta2), dtype = betas, params[0].dtype
    step_size = lr / (1.0 - beta1**step)
    root_correction = 1.0 / math.sqrt(1.0 - beta2**step)  # √(v / c) = √v · (1 / √c)
    numbers = (grad_scale, step_size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, root_correction, eps)
    shapes = [param.shape for param in params]
    lines = _gradient_lines(grads, shapes, dtype)  # named, so that a copy lives until the end
    written = (("params", params), ("exp_avgs", exp_avgs), ("exp_avg_sqs", exp_avg_sqs))
    weights, means, squares = (_checked_addresses(name, arrays, shapes, dtype) for name, arrays in written)
    where = _table(weights, _addresses(lines), means, squares, sizes=[line.size for line in lines])
    keep = np.array([1.0 - lr * decay for decay in weight_decays], dtype)
    _adamw(where, _blocks(where[:, 4]), tuple(map(dtype.type, numbers)), keep)
