"""How an instruction becomes integers (addresses and strides of its arrays, sizes) and one number, and is found again."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from tinyllm.kernels.jit import inlined
from tinyllm.kernels.pointers import Matrix, load, move, pointer, vector_registers

CACHE_LINE = 64  # bytes


@inlined
def rows_at(code, i, row, like):
    """The rows from `row` on of the array whose address and row stride are integers i and i + 1 of its code."""
    step = load(code, i + 1)
    return Matrix(move(pointer(load(code, i), like), row * step), step, 1)


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> ndarray:
    """Return an array of zeros that begins a cache line."""
    dtype = np.dtype(dtype)
    raw = np.zeros(int(np.prod(shape)) * dtype.itemsize + CACHE_LINE, np.uint8)
    first = -raw.__array_interface__["data"][0] % CACHE_LINE
    return raw[first : first + raw.size - CACHE_LINE].view(dtype).reshape(shape)


def pack_weight(weight: ndarray) -> ndarray:
    """weight (out, in) -> (panels, in, columns of a tile): the order in which the tile of `x Wᵀ` reads it, zeros at the end."""
    side = 2 * vector_registers()[0] // weight.itemsize
    n_out, n_in = weight.shape
    padded = np.zeros((-(-n_out // side) * side, n_in), weight.dtype)
    padded[:n_out] = weight
    packed = aligned_zeros((len(padded) // side, n_in, side), weight.dtype)
    packed[...] = padded.reshape(-1, side, n_in).swapaxes(1, 2)
    return packed


@dataclass
class Packer:
    """Turns arrays into integers, after checking them, and keeps alive what the program holds addresses of."""

    n_rows: int
    dtype: np.dtype
    kept: list[ndarray] = field(default_factory=list)
    room: int = 1  # numbers of work space that a thread needs

    def check(self, instruction: str, *operands: tuple[ndarray | None, tuple[int, ...]], dtype: Any = None) -> None:
        """ValueError unless each array has the dtype and the shape beside it; of values (n_rows, width) the width is given."""
        wanted = self.dtype if dtype is None else np.dtype(dtype)
        for array, shape in operands:
            if array is None:
                continue
            whole = (self.n_rows, *shape) if array.ndim == 2 and len(shape) == 1 else shape
            if array.shape != whole or array.dtype != wanted or (array.ndim > 2 and not array.flags.c_contiguous):
                raise ValueError(f"{instruction}: an array {array.dtype} {array.shape} came, {wanted} {whole} expected")

    def address(self, array: ndarray | None) -> int:
        """Where it lies; 0 for None."""
        if array is None:
            return 0
        self.kept.append(array)
        return array.__array_interface__["data"][0]

    def in_order(self, array: ndarray) -> int:
        """The address of a table: itself if its rows lie one behind the other, else a copy."""
        return self.address(array if array.flags.c_contiguous and array.flags.aligned else np.array(array, order="C"))

    def copies(self, *arrays: ndarray | None) -> list[int]:
        """Addresses of copies: later changes are not seen."""
        return [self.address(None if array is None else np.array(array, order="C")) for array in arrays]

    def values(self, *arrays: ndarray | None) -> list[int]:
        """Address and row stride of each value (n_rows, width); 0, 0 for None."""
        steps = [0 if array is None else array.strides[0] // array.itemsize for array in arrays]
        return [x for array, step in zip(arrays, steps, strict=True) for x in (self.address(array), step)]
