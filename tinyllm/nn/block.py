"""Transformer block: let positions talk to each other, then let each think for itself.

    pre-norm    x = x + attention(norm1(x))        x = x + feedforward(norm2(x))
    parallel    x = x + attention(norm(x)) + feedforward(norm(x))

The sums are the residual stream: each layer reads it, adds to it, and gradients flow straight through. Normalising before
the layer instead of after it (as in Vaswani et al. 2017) lets deep stacks train without tricks: Radford et al. 2019,
section 2.3; Xiong et al. 2020. Side by side, both layers read the same numbers, and in large models nothing is lost
(Chowdhery et al. 2022, PaLM, section 2). Top to bottom in ten lines of NumPy: `block` in `models/plain_gpt.py`.
"""

from typing import Any

from tinyllm.autograd import Tensor
from tinyllm.nn.dropout import Dropout
from tinyllm.nn.kv_cache import LayerCache
from tinyllm.nn.module import Module
from tinyllm.nn.ragged import Layout


def add_layer(layer: Module, normed: Tensor, x: Tensor, *rest: Any, dropout: Dropout, **settings: Any) -> Tensor:
    """x + dropout(layer(normed)); without dropout the layer's last product adds x itself, one pass over memory less."""
    if dropout.active:
        return x + dropout(layer(normed, *rest, **settings))
    return layer(normed, *rest, residual=x, **settings)


def only_read(x: Tensor, layout: Layout) -> Tensor:
    """x (1, N, C) -> the positions that are asked for, (1, M, C); all if nothing is said."""
    read = layout.visible.read
    return x if read is None else x[:, read]


class Block(Module):
    """Pre-norm residual block around an attention layer and a feed-forward layer, both called as layer(x, residual=...)."""

    def __init__(self, *, norm1: Module, attention: Module, norm2: Module, feedforward: Module, dropout: Dropout):
        self.norm1, self.attention = norm1, attention
        self.norm2, self.feedforward = norm2, feedforward
        self.dropout = dropout

    def __call__(self, x: Tensor, layout: Layout, *, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C), or only the positions that are read."""
        normed, x = self.norm1(x), only_read(x, layout)
        x = add_layer(self.attention, normed, x, layout, dropout=self.dropout, cache=cache)
        return add_layer(self.feedforward, self.norm2(x), x, dropout=self.dropout)


class ParallelBlock(Module):
    """Both layers read one norm, side by side."""

    def __init__(self, *, norm: Module, attention: Module, feedforward: Module, dropout: Dropout):
        self.norm, self.attention, self.feedforward, self.dropout = norm, attention, feedforward, dropout

    def __call__(self, x: Tensor, layout: Layout, *, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C), or only the positions that are read."""
        normed, x = self.norm(x), only_read(x, layout)
        x = add_layer(self.attention, normed, x, layout, dropout=self.dropout, cache=cache)
        return add_layer(self.feedforward, only_read(normed, layout), x, dropout=self.dropout)
