"""What a model is to everybody above: the names that decoding, training and learning from feedback call, and nothing else.

    decoder-only       tokens (B, T) -> `hidden` -> (B, T, C) -> `logits` -> (B, T, V)        LanguageModel: GPT, Llama
    encoder            tokens (B, T) -> `hidden` -> (B, T, C), where everybody sees everybody   Encoder
    encoder-decoder    source -> `encode` -> memory; target, memory -> `hidden` -> `logits`     EncoderDecoder

A class that has these methods is a model; it need not inherit from anything here (`typing.Protocol`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from tinyllm.autograd import Tensor
from tinyllm.nn import KVCache, Module
from tinyllm.tokenizers import Tokenizer


class ModelShape(Protocol):
    """The sizes that a user of a model must know."""

    @property
    def vocab_size(self) -> int:
        """V, tokens it knows."""
        ...

    @property
    def block_size(self) -> int:
        """The longest context, in tokens."""
        ...

    @property
    def n_layers(self) -> int:
        """L, blocks."""
        ...

    @property
    def n_heads(self) -> int:
        """H, attention heads per block."""
        ...

    @property
    def d_model(self) -> int:
        """C, width of the residual stream."""
        ...


class Policy(Protocol):
    """What gives each next token a probability: enough to score answers with, such as a frozen reference."""

    @property
    def config(self) -> ModelShape:
        """Its sizes."""
        ...

    def hidden(
        self, tokens: np.ndarray, *, attention_mask: np.ndarray | None = None, read_from: int | np.ndarray | None = None
    ) -> Tensor:
        """tokens (B, T) int -> the stream after the last norm, (B, T, C); see `GPT.hidden`."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., C) -> (..., V)."""
        ...


class LanguageModel(Policy, Protocol):
    """A decoder-only model of the next token: it is trained, saved, and written with."""

    training: bool

    def __call__(self, tokens: np.ndarray, *, cache: KVCache | None = None, attention_mask: np.ndarray | None = None) -> Tensor:
        """tokens (B, T) int -> logits (B, T, V)."""
        ...

    def hidden(
        self, tokens: np.ndarray, *, cache: KVCache | None = None, attention_mask: np.ndarray | None = None,
        read_from: int | np.ndarray | None = None,
    ) -> Tensor:  # fmt: skip
        """As a policy's; with a cache `tokens` continue what it holds."""
        ...

    def embed(self, tokens: np.ndarray, positions: np.ndarray) -> Tensor:
        """What the first block reads: tokens and positions (B, T) -> (B, T, C)."""
        ...

    def loss(
        self, tokens: np.ndarray, targets: np.ndarray, *, loss_mask: np.ndarray | None = None, n_counted: float | None = None
    ) -> Tensor:
        """Mean -log p(target) over the counted targets, in nats."""
        ...

    def new_cache(self, batch_size: int, max_length: int | None = None) -> KVCache:
        """An empty key/value cache."""
        ...

    def flops_per_token(self, context: int | None = None) -> int:
        """Floating point operations to read one token after `context` others."""
        ...

    def kept_per_token(self) -> int:
        """Numbers that training keeps for each token of a batch, logits apart: what memory it takes."""
        ...

    def num_parameters(self) -> int:
        """Number of weights, each counted once."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(path, weight), each once."""
        ...

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(path, module), itself first."""
        ...

    def train(self) -> object:
        """Dropout on."""
        ...

    def eval(self) -> object:
        """Dropout off."""
        ...

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write it as a folder that `from_pretrained` reads."""
        ...


class Encoder(Protocol):
    """A model that reads a text whole: each position sees all others."""

    @property
    def config(self) -> ModelShape:
        """Its sizes."""
        ...

    def hidden(self, tokens: np.ndarray, *, attention_mask: np.ndarray | None = None) -> Tensor:
        """tokens (B, T) int -> the stream after the last block, (B, T, C)."""
        ...


class EncoderDecoder(Protocol):
    """A model that writes while it looks at a text that an encoder has read."""

    @property
    def config(self) -> ModelShape:
        """Its sizes."""
        ...

    def encode(self, source: np.ndarray, *, source_mask: np.ndarray | None = None) -> Tensor:
        """source (B, S) int -> memory (B, S, C)."""
        ...

    def hidden(
        self, tokens: np.ndarray, *, memory: Tensor, source_mask: np.ndarray | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """tokens (B, T) int and what was read -> (B, T, C)."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., C) -> (..., V)."""
        ...


@runtime_checkable
class HasLayout(Protocol):
    """A model with a published layout of its files, which others can read."""

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write it as a folder."""
        ...

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Module:
        """The model in a folder."""
        ...
