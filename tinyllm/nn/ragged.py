"""Batches without padding: the real tokens of all rows, end to end, go through any stack of blocks and back to their places.

    tokens (B, T)          laid out (1, N)                       who sees whom
    . . a a a              a a a b b b b b c c                   each letter its own past
    b b b b b       →      positions 0 1 2 0 1 2 3 4 0 1         (`end_to_end` in kernels/attention/visibility.py)
    . . . c c

Padding is then not computed, a text gives the same bits whatever stands beside it, and with a cache each row goes on from its own
length. Positions that nobody reads are left out of the last block. A full rectangle stays one. FlashAttention calls such
sequences "variable length", PyTorch "nested".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.autograd.modes import MODE
from tinyllm.nn.kv_cache import KVCache, LayerCache
from tinyllm.ops import CAUSAL, EVERYTHING, Visibility, end_to_end


@dataclass(frozen=True, eq=False)
class Layout:
    """How a batch lies for the blocks: made once, read by all of them.

    tokens     (B, T), or (1, N) end to end
    positions  of each token in its own text, (1, T) or (1, N)
    visible    who sees whom
    last       who sees whom in the last block, where only `last.read` ask
    places     (B, T) bool: the places of what comes out
    n_new      (B,) tokens of each row, for the cache
    """

    tokens: np.ndarray
    positions: np.ndarray
    visible: Visibility
    last: Visibility
    places: np.ndarray
    n_new: np.ndarray

    def of_last_block(self) -> Layout:
        """The layout for the block after which only some positions are read."""
        return replace(self, visible=self.last)

    def back(self, x: Tensor) -> Tensor:
        """x (1, M, C) of the positions that are read -> (B, T, C), zeros elsewhere; or x (B, T, C) as it is."""
        if self.places.all():
            return x if x.shape[:2] == self.places.shape else ops.reshape(x, shape=(*self.places.shape, x.shape[-1]))
        return ops.pad_rows(x, mask=self.places)


def rectangle(tokens: np.ndarray, *, visible: Visibility = EVERYTHING) -> Layout:
    """The layout of rows (B, T) that are all full."""
    B, T = tokens.shape
    return Layout(tokens, np.arange(T)[None], visible, visible, np.ones((B, T), bool), np.full(B, T))


def lay_out(
    tokens: np.ndarray, *, block_size: int, visible: Visibility = CAUSAL, attention_mask: np.ndarray | None = None,
    read_from: int | np.ndarray | None = None, cache: KVCache | None = None,
) -> Layout:  # fmt: skip
    """The layout of tokens (B, T), checked; arguments as in `GPT.hidden`, visible as among the real tokens of a row."""
    past = _check(tokens, attention_mask, read_from, block_size=block_size, cache=cache)
    B, T = tokens.shape
    if attention_mask is not None and attention_mask.all():
        attention_mask = None
    if attention_mask is None and read_from is None and cache is None:
        return rectangle(tokens, visible=visible)
    real = np.ones((B, T), bool) if attention_mask is None else attention_mask
    read = real if read_from is None else real & (np.arange(T) >= np.reshape(read_from, (-1, 1)))
    n_new = real.sum(axis=1)
    positions = (np.cumsum(real, axis=1) - 1 + past[:, None])[real][None]  # (1, N)
    keys = None if cache is None else (np.arange(B) * cache.room, past + n_new)
    whole = replace(visible, sequences=end_to_end(n_new, keys=keys).sequences, cached=cache is not None)
    last = whole
    if read_from is not None:
        asked = end_to_end(n_new, read=read[real], keys=keys)
        last = replace(whole, sequences=asked.sequences, read=asked.read)
    return Layout(tokens[real][None], positions, whole, last, read, n_new)


class LaidOutBlock(Protocol):
    """A transformer block."""

    def __call__(self, x: Tensor, layout: Layout, *, cache: LayerCache | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C), or (1, M, C) of the positions that `layout.visible.read`."""
        ...


def run_blocks(blocks: Sequence[LaidOutBlock], x: Tensor, layout: Layout, *, cache: KVCache | None = None) -> Tensor:
    """x (B, T, C) through all blocks, which read and fill the cache if there is one; then `layout.back` gives the rows back."""
    if cache is not None:
        cache.make_place(layout.n_new)
    for i, block in enumerate(blocks):
        here = layout if i < len(blocks) - 1 else layout.of_last_block()
        x = block(x, here, cache=None if cache is None else cache.layers[i])
    if cache is not None:
        cache.lengths = cache.lengths + layout.n_new
    return x


def _check(
    tokens: np.ndarray, real: np.ndarray | None, read_from: int | np.ndarray | None, *, block_size: int, cache: KVCache | None
) -> np.ndarray:
    """Refuse what cannot be computed; returns how many tokens each row had before, (B,)."""
    if tokens.ndim != 2 or not tokens.size:
        raise ValueError(f"tokens must be (B, T) with at least one token, got shape {tokens.shape}")
    if real is not None and (real.shape != tokens.shape or real.dtype != np.bool_):
        raise ValueError(f"attention_mask must be bool of the tokens' shape {tokens.shape}, got {real.dtype} {real.shape}")
    if read_from is not None:
        _check_columns(read_from, tokens.shape)
    n_new = np.full(len(tokens), tokens.shape[1]) if real is None else real.sum(axis=1)
    if cache is not None:
        if MODE.recording:
            raise ValueError("a KV cache keeps no gradients: call the model under no_grad()")
        cache.check_room(n_new)
    past = np.zeros(len(tokens), np.int64) if cache is None else cache.lengths
    longest = int((past + n_new).max())  # padding takes a column, but no position
    if longest > block_size:
        advice = "crop the text or use a model with a longer context"
        raise ValueError(f"{longest} tokens came, the context holds block_size = {block_size}; {advice}")
    return past


def _check_columns(read_from: int | np.ndarray, shape: tuple[int, ...]) -> None:
    """ValueError unless read_from is a column of (B, T), or one for each row."""
    columns = np.asarray(read_from)
    fits = columns.dtype.kind in "iu" and columns.shape in ((), shape[:1])
    if not fits or columns.min() < 0 or columns.max() > shape[1]:
        expected = f"a whole number from 0 to {shape[1]}, or one for each of the {shape[0]} rows"
        raise ValueError(f"read_from is {columns.tolist()}; expected {expected}")
