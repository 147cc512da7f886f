"""Key/value cache: what makes generating a text of n tokens cost n steps, not n²/2.

In causal attention a position's key and value depend on earlier tokens only, so they never change once computed. The
cache keeps them, (B, room, G, D) per layer, in arrays allocated once; each step appends its own and reads them all. Each row has
a length of its own and begins in column 0, so padding is never kept:

    row 0   k k k k k . . .      lengths 5
    row 1   k k . . . . . .              2
Memory: 2 · L · B · room · G · D numbers. Pope et al. 2022, section 2.1.
"""

import numpy as np


class LayerCache:
    """One layer's keys and values, (B, room, G, D) each. `slots`: where the next ones go, set by the cache of all layers."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype):
        self.keys = np.empty(shape, dtype)
        self.values = np.empty(shape, dtype)
        self.slots: np.ndarray | slice = slice(0)

    def append(self, key: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add key, value (1, N, G, D), all rows' new tokens end to end; returns all keys and values, (1, B·room, G, D) views."""
        whole = (1, -1, *self.keys.shape[2:])
        keys, values = self.keys.reshape(whole), self.values.reshape(whole)
        keys[0, self.slots], values[0, self.slots] = key[0], value[0]
        return keys, values


class KVCache:
    """The caches of all layers. `lengths` (B,): tokens that each row holds; `room`: how many it can."""

    def __init__(self, n_layers: int, shape: tuple[int, int, int, int], dtype: np.dtype):
        self.layers = [LayerCache(shape, dtype) for _ in range(n_layers)]
        self.batch_size, self.room = shape[:2]
        self.lengths = np.zeros(self.batch_size, np.int64)

    def check_room(self, n_new: np.ndarray) -> None:
        """ValueError unless so many new tokens (B,) fit into each row."""
        if n_new.shape != self.lengths.shape:
            raise ValueError(f"cache holds {self.batch_size} rows, tokens have {len(n_new)}")
        if (self.lengths + n_new).max(initial=0) > self.room:
            row = int((self.lengths + n_new).argmax())
            raise ValueError(
                f"cache has room for {self.room} positions, row {row} has {self.lengths[row]} and {n_new[row]} more came; "
                "make it longer with new_cache(batch_size, max_length), or crop the prompt"
            )

    def make_place(self, n_new: np.ndarray) -> None:
        """Let the layers' next `append` write so many tokens (B,) behind what each row holds; `lengths` do not change yet."""
        begins = np.arange(self.batch_size) * self.room + self.lengths - (np.cumsum(n_new) - n_new)
        slots: np.ndarray | slice = np.repeat(begins, n_new) + np.arange(n_new.sum())
        if self.batch_size == 1:  # in one piece
            slots = slice(int(begins[0]), int(begins[0] + n_new[0]))
        for layer in self.layers:
            layer.slots = slots

    def select(self, rows: np.ndarray) -> None:
        """Reorder, repeat or drop batch rows: row i becomes what row rows[i] was (beam search). Copies what is filled."""
        filled = int(self.lengths[rows].max(initial=0))
        for layer in self.layers:
            layer.keys, layer.values = (_selected(array, rows, filled) for array in (layer.keys, layer.values))
        self.lengths, self.batch_size = self.lengths[rows], len(rows)


def _selected(array: np.ndarray, rows: np.ndarray, filled: int) -> np.ndarray:
    selected = np.empty((len(rows), *array.shape[1:]), array.dtype)
    selected[:, :filled] = array[rows, :filled]
    return selected
