"""Key/value cache: what makes generating a text of n tokens cost n steps, not n²/2.

In causal attention a position's key and value depend on earlier tokens only, so they never change once computed. The
cache keeps them, (B, S, G, D) per layer, in arrays allocated once; each step appends its own and reads them all.
Memory: 2 · L · B · S · G · D numbers. Pope et al. 2022, section 2.1.
"""

import numpy as np


class LayerCache:
    """One layer's keys and values, (B, max_length, G, D) each, filled up to `length`."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype):
        self.keys = np.empty(shape, dtype)
        self.values = np.empty(shape, dtype)
        self.length = 0

    def append(self, key: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add key, value (B, T, G, D); returns all keys and all values so far, (B, S, G, D) views."""
        end = self.length + key.shape[1]
        self.keys[:, self.length : end] = key
        self.values[:, self.length : end] = value
        self.length = end
        return self.keys[:, :end], self.values[:, :end]


class KVCache:
    """The caches of all layers. `length`: positions filled; `max_length`: room for."""

    def __init__(self, n_layers: int, shape: tuple[int, int, int, int], dtype: np.dtype):
        self.layers = [LayerCache(shape, dtype) for _ in range(n_layers)]
        self.batch_size, self.max_length = shape[:2]

    @property
    def length(self) -> int:
        return self.layers[-1].length

    def check_room(self, batch_size: int, n_new: int) -> None:
        """ValueError unless `n_new` more positions of `batch_size` rows fit."""
        if batch_size != self.batch_size:
            raise ValueError(f"cache holds {self.batch_size} rows, tokens have {batch_size}")
        if self.length + n_new > self.max_length:
            raise ValueError(
                f"cache has room for {self.max_length} positions, {self.length} are filled and {n_new} more came; "
                "make it longer with new_cache(batch_size, max_length), or crop the prompt"
            )

    def select(self, rows: np.ndarray) -> None:
        """Reorder, repeat or drop batch rows: row i becomes what row rows[i] was (beam search). Copies what is filled."""
        for layer in self.layers:
            layer.keys, layer.values = (self._selected(array, rows) for array in (layer.keys, layer.values))
        self.batch_size = len(rows)

    def _selected(self, array: np.ndarray, rows: np.ndarray) -> np.ndarray:
        selected = np.empty((len(rows), *array.shape[1:]), array.dtype)
        selected[:, : self.length] = array[rows, : self.length]
        return selected
