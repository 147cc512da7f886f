"""Where a token stands. Attention itself is blind to order: positions have to be told to it.

    learned      a vector for each position, added to the token's: an Embedding (GPT-2)
    sinusoidal   p(t)[2i] = sin(t / 10000^(2i/C)), p(t)[2i+1] = cos(the same), added too    Vaswani et al. 2017, section 3.5
    rotary       queries and keys turned by angles (`rotary.py`)

With padding on the left a row's first real token stands at 0: position = number of real tokens before it.
"""

import numpy as np

from tinyllm.autograd import Tensor
from tinyllm.nn.module import Module


class Sinusoidal(Module):
    """A table (length, C) that is not learned."""

    def __init__(self, length: int, width: int):
        if width % 2:
            raise ValueError(f"width must be even (pairs of sine and cosine), got {width}")
        angles = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(0, width, 2) / width)
        self.table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)

    def __call__(self, positions: np.ndarray, *, dtype: np.dtype) -> Tensor:
        """positions (...) -> (..., C) in that dtype. ValueError for one beyond the table."""
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self.table):
            raise ValueError(f"positions up to {positions.max()} came, the table has {len(self.table)}")
        return Tensor(self.table[positions].astype(dtype))
