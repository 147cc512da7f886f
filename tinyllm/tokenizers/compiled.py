"""When a tokenizer's loops go to machine code: once it has been given enough text to pay for making them ready, half a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from tinyllm import kernels

if TYPE_CHECKING:
    from tinyllm.kernels.text.pieces import WordCoder

LARGE = 1 << 21  # characters that a tokenizer is given before the kernels pay
MIDDLING = 1 << 9  # characters of a text that they are called for, once they are ready


class CompiledWords:
    """A `WordCoder`, made by `make` when it is worth it."""

    def __init__(self, make: Callable[[], WordCoder]):
        self._make, self._coder, self._n_seen = make, None, 0  # type: tuple[Callable[[], WordCoder], WordCoder | None, int]

    def ready(self, size: int) -> bool:
        """Whether the next `size` characters go to machine code."""
        self._n_seen += size
        if self._coder is None and self._n_seen >= LARGE and kernels.machine_code():
            self._coder = self._make()
        return self._coder is not None and size >= MIDDLING

    def encode(self, texts: Iterable[str | None]) -> list[np.ndarray] | None:
        """The ids (n,) int32 of each normalized text; None if one is None or holds bytes that are no UTF-8."""
        try:
            data = [None if text is None else text.encode() for text in texts]
        except UnicodeEncodeError:
            return None
        known = [one for one in data if one is not None]
        return self._coder.encode(known) if self._coder is not None and len(known) == len(data) else None
