"""Embedding: row ids[n] of a table, and the gradient's way back into the rows it came from.

    y[n] = weight[ids[n]]      dweight[v] = Σ over n with ids[n] = v of dy[n]
The way back is a sum in which many tokens may meet in one row. Tokens are sorted by id first (equal ids keep their order) and
dealt out so that all tokens of one id fall to the same chunk: no two threads write the same row, no lock is needed, and
the order of additions is the order of the tokens, whatever the number of threads. A row also stays in the cache meanwhile.
"""

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined, jit, prange, rows

SERIAL = 16384  # numbers; fewer are not worth waking another core
CHUNKS = 32


@inlined
def _copy(source, target):
    for j in range(source.size):
        target[j] = source[j]


@inlined
def _add(source, target):
    for j in range(source.size):
        target[j] += source[j]


@inlined
def _first_of_id(place, ids, order):
    """The first place not before `place` where another id begins."""
    while 0 < place < order.size and ids[order[place]] == ids[order[place - 1]]:
        place += 1
    return place


@jit(parallel=True)
def _forward(weight, ids, y):
    if y.size <= SERIAL:
        for n in range(ids.size):
            _copy(weight[ids[n]], y[n])
    else:
        for n in prange(ids.size):
            _copy(weight[ids[n]], y[n])


@jit(parallel=True)
def _backward(dy, ids, order, dweight):
    """`order` sorts ids; if it is empty the tokens are added one by one."""
    if order.size == 0:
        for n in range(ids.size):
            _add(dy[n], dweight[ids[n]])
    else:
        for chunk in prange(CHUNKS):
            c = np.int64(chunk)
            first = _first_of_id(c * order.size // CHUNKS, ids, order)
            last = _first_of_id((c + 1) * order.size // CHUNKS, ids, order)
            for place in range(first, last):
                n = order[place]
                _add(dy[n], dweight[ids[n]])


def _line(ids: ndarray) -> ndarray:
    return rows(np.asarray(ids, np.int64).reshape(1, -1))[0]


def embedding_forward(weight: ndarray, ids: ndarray) -> ndarray:
    """weight (V, C), ids (...) integers in [0, V) -> (..., C)."""
    y = np.empty((*ids.shape, weight.shape[1]), weight.dtype)
    _forward(rows(weight), _line(ids), rows(y))
    return y


def embedding_backward(dy: ndarray, ids: ndarray, n_rows: int, out: ndarray | None = None) -> ndarray:
    """dy (..., C), ids (...) -> dweight (n_rows, C); rows that no id names are zero.

    `out` (n_rows, C), C-contiguous: the sums are added to what it holds, and it is returned.
    """
    dweight = np.zeros((n_rows, dy.shape[-1]), dy.dtype) if out is None else out
    ids = _line(ids)
    order = np.argsort(ids, kind="stable") if dy.size > SERIAL else ids[:0]
    _backward(rows(dy), ids, order, dweight)
    return dweight
