"""GPT-2: a stack of causal transformer blocks that predicts the next token (Radford et al. 2019).

    h = E[tokens] + P[positions]        h = block(h), L times        logits = norm(h) Eᵀ

E, the token table, is used twice: to read tokens in and to score them on the way out (tied; Press & Wolf 2017). Every
position predicts its own next token, so one pass over T tokens gives T lessons. A causal mask makes that honest: position
t sees tokens 0..t only (`causal_mask` in kernels/attention/visibility.py). Differs from the paper: no dropout on attention
probabilities (see `nn/attention.py`).
The way through it, from tokens to logits, as one page of plain NumPy: `plain_gpt.py`. Read that first. What it shares with other
models of its kind, the pass itself among it: `decoder.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tinyllm.autograd import Tensor
from tinyllm.models import gpt_layout
from tinyllm.models.decoder import Decoder
from tinyllm.nn import Block, Embedding, FeedForward, LayerNorm, SelfAttention
from tinyllm.storage.fields import check_number, check_whole


@dataclass(frozen=True)
class GPTConfig:
    """Size and shape of a GPT. The defaults are GPT-2 small, 124 million parameters (Radford et al. 2019, table 2)."""

    vocab_size: int = 50257  # V, tokens in the vocabulary
    block_size: int = 1024  # longest context, in tokens
    n_layers: int = 12  # L, blocks
    n_heads: int = 12  # H, attention heads per block
    d_model: int = 768  # C, width of the residual stream
    dropout: float = 0.0  # probability of dropping, in training only; GPT-2 used 0.1, large corpora need none
    bias: bool = True  # biases in linear layers and norms; nanoGPT's recipes do without
    init_std: float = 0.02  # standard deviation of initial weights; GPT-2. A narrow model wants more: 0.02 √(768/C)
    n_inner: int | None = None  # F, width inside the feed-forward layers; GPT-2's 4C if not given

    def __post_init__(self) -> None:
        check_whole(self, "vocab_size", "block_size", "n_layers", "n_heads", "d_model", low=1)
        check_whole(self, "n_inner", low=1, optional=True)
        check_number(self, "dropout", low=0, below=1)
        check_number(self, "init_std", above=0)
        if self.n_inner == 4 * self.d_model:  # said or not, it is the same shape
            object.__setattr__(self, "n_inner", None)
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}; change one of them")
        if not isinstance(self.bias, bool):
            raise ValueError(f"bias must be True or False, got {self.bias!r}")

    @property
    def d_feedforward(self) -> int:
        """F."""
        return 4 * self.d_model if self.n_inner is None else self.n_inner

    @property
    def d_head(self) -> int:
        """D."""
        return self.d_model // self.n_heads

    @property
    def n_groups(self) -> int:
        """G: each head has keys and values of its own."""
        return self.n_heads

    @property
    def window(self) -> None:
        """Everybody sees all that came before."""
        return None


class GPT(Decoder):
    """model(tokens) gives logits. Weights: tokens (V, C), positions (block_size, C), blocks, norm.

    Initial weights are N(0, init_std²), and N(0, (init_std/√(2L))²) for the 2L projections that write to the residual
    stream, since 2L of them add up there (Radford et al. 2019, section 2.3).
    """

    Config: ClassVar = GPTConfig
    layout: ClassVar = gpt_layout

    def __init__(self, config: GPTConfig, *, rng: np.random.Generator | None):
        """`rng` draws the weights and seeds dropout's own stream; None leaves the weights 0, to be loaded."""
        super().__init__(config, rng=rng)
        C, std = config.d_model, config.init_std
        shared: dict[str, Any] = {"bias": config.bias, "std": std, "out_std": std / math.sqrt(2 * config.n_layers)}
        self.positions = Embedding(config.block_size, C, std=std, rng=rng)
        self.blocks = [
            Block(
                norm1=LayerNorm(C, bias=config.bias),
                attention=SelfAttention(C, config.n_heads, rng=rng, **shared),
                norm2=LayerNorm(C, bias=config.bias),
                feedforward=FeedForward(C, config.d_feedforward, rng=rng, **shared),
                dropout=self.dropout,
            )
            for _ in range(config.n_layers)
        ]
        self.norm = LayerNorm(C, bias=config.bias)

    def embed(self, tokens: np.ndarray, positions: np.ndarray) -> Tensor:
        """tokens (B, T) and their positions (B or 1, T) -> the stream before the first block, (B, T, C)."""
        return self.dropout(self.tokens(tokens) + self.positions(positions))

    def only_looked_up(self) -> int:
        """The positions' table."""
        return self.positions.weight.size

    def kept_per_token(self) -> int:
        """Numbers that training keeps for each token of a batch, logits apart.

        Of each layer both norms' inputs and outputs (4C, and 4 statistics), query, key and value (3C), attention's output (C) and
        its log-normaliser (H), and the feed-forward layer's inner array (F); outside of them 4C. Dropout keeps what it scaled by.
        """
        C, H, F, L = self.config.d_model, self.config.n_heads, self.config.d_feedforward, self.config.n_layers
        return L * (8 * C + F + H + 4) + 4 * C + ((1 + 2 * L) * C if self.config.dropout else 0)
