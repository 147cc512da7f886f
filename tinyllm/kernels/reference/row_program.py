"""A network for one token a row as a list of steps, run one after the other in plain NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from tinyllm.kernels.reference.activations import gelu_tanh_forward
from tinyllm.kernels.reference.norm import layer_norm_forward, rms_norm_forward
from tinyllm.kernels.reference.products import linear_forward
from tinyllm.kernels.reference.softmax import softmax_forward


class RowProgram:
    """Instructions, each of which reads and writes arrays (n_rows, width), run for the first rows. Weights are copied."""

    def __init__(self, n_rows: int, dtype: np.dtype):
        self.n_rows, self.dtype = n_rows, np.dtype(dtype)
        self.slots, self.lengths = np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64)
        self._instructions: list[Callable[[int], Any]] = []

    def array(self, width: int) -> ndarray:
        """Zeros (n_rows, width)."""
        return np.zeros((self.n_rows, width), self.dtype)

    def norm(self, x: ndarray, weight: ndarray, bias: ndarray | None, out: ndarray, *, eps: float, rms: bool = False) -> None:
        """out = layer norm of x, or RMS norm (then without bias)."""
        weight, bias = weight.copy(), None if bias is None else bias.copy()

        def instruction(n: int) -> None:
            args = (x[:n], weight, eps) if rms else (x[:n], weight, bias, eps)
            out[:n] = (rms_norm_forward if rms else layer_norm_forward)(*args)[0]

        self._instructions.append(instruction)

    def linear(
        self, x: ndarray, weight: ndarray, bias: ndarray | None, out: ndarray, *, residual: ndarray | None = None,
        gelu: bool = False,
    ) -> None:  # fmt: skip
        """out = x Wᵀ + bias + residual, or gelu (tanh) of that."""
        weight, bias = weight.copy(), None if bias is None else bias.copy()

        def instruction(n: int) -> None:
            y = linear_forward(x[:n], weight, bias, None if residual is None else residual[:n])
            out[:n] = gelu_tanh_forward(y) if gelu else y

        self._instructions.append(instruction)

    def attend(self, qkv: ndarray, keys: ndarray, values: ndarray, out: ndarray, *, n_heads: int, scale: float) -> None:
        """Each row's key and value go into its slot of keys (slots, G, D, S) and values (slots, G, S, D); then it attends."""
        n_groups, width = keys.shape[1:3]

        def instruction(n: int) -> None:
            for row, (slot, length) in enumerate(zip(self.slots[:n], self.lengths[:n], strict=True)):
                query, key, value = np.split(qkv[row].reshape(-1, width), [n_heads, n_heads + n_groups])  # (H, D), (G, D), (G, D)
                keys[slot, :, :, length], values[slot, :, length] = key, value
                query = query.reshape(n_groups, n_heads // n_groups, width)
                weights = softmax_forward(scale * query @ keys[slot, :, :, : length + 1])  # (G, H/G, S)
                out[row] = (weights @ values[slot, :, : length + 1]).ravel()

        self._instructions.append(instruction)

    def run(self, n_rows: int) -> None:
        """One token of the first n_rows rows, whose keys are at `slots`, `lengths` of them."""
        for instruction in self._instructions:
            instruction(n_rows)
