"""Transformer block: let positions talk to each other, then let each think for itself.

    x = x + attention(norm(x))        x = x + feedforward(norm(x))

The sums are the residual stream: each layer reads it, adds to it, and gradients flow straight through. Normalising before
the layer instead of after it (as in Vaswani et al. 2017) lets deep stacks train without tricks: Radford et al. 2019,
section 2.3; Xiong et al. 2020. Top to bottom in ten lines of NumPy: `block` in `models/plain_gpt.py`.
"""

from typing import Any

import numpy as np

from tinyllm.autograd import Tensor
from tinyllm.nn.dropout import Dropout
from tinyllm.nn.kv_cache import LayerCache
from tinyllm.nn.module import Module


class Block(Module):
    """Pre-norm residual block around an attention layer and a feed-forward layer, both called as layer(x, residual=...)."""

    def __init__(self, *, norm1: Module, attention: Module, norm2: Module, feedforward: Module, dropout: Dropout):
        self.norm1, self.attention = norm1, attention
        self.norm2, self.feedforward = norm2, feedforward
        self.dropout = dropout

    def __call__(
        self, x: Tensor, *, cache: LayerCache | None = None, key_mask: np.ndarray | None = None,
        lengths: np.ndarray | None = None, read: np.ndarray | None = None,
    ) -> Tensor:  # fmt: skip
        """x (B, T, C) -> (B, T, C), or only the positions to `read`; the settings are the attention's."""
        normed = self.norm1(x)
        x = x if read is None else x[:, read]
        x = self.add(self.attention, normed, x, cache=cache, key_mask=key_mask, lengths=lengths, read=read)
        return self.add(self.feedforward, self.norm2(x), x)

    def add(self, layer: Module, normed: Tensor, x: Tensor, **settings: Any) -> Tensor:
        """x + dropout(layer(normed)); without dropout the layer's last product adds x itself, one pass over memory less."""
        if self.dropout.active:
            return x + self.dropout(layer(normed, **settings))
        return layer(normed, residual=x, **settings)
