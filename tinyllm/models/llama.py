"""Llama: GPT-2 with every part exchanged that years of trials have found a better one for (Touvron et al. 2023).

    h = E[tokens]        h = h + attention(norm1(h));  h = h + feedforward(norm2(h)), L times        logits = norm(h) Wᵀ

    part            here                                 in gpt.py              source
    norm            RMS: divided by its size alone       mean and variance      Zhang & Sennrich 2019
    position        queries and keys turned by angles    a vector added         Su et al. 2021 (rotary)
    feed-forward    down(silu(gate x) ∘ up x)            down(gelu(up x))       Shazeer 2020 (SwiGLU)
    attention       G key/value heads for H queries      G = H                  Ainslie et al. 2023 (grouped queries)
    biases          none                                 everywhere
    head            a table of its own, or the tokens'   the tokens'
With one setting each it is Mistral (a sliding window: Jiang et al. 2023), Qwen2 (biases in query, key and value: Yang et al.
2024) or Qwen3 (queries and keys normed: Yang et al. 2025). The way through it in plain NumPy: `plain_llama.py`;
what all decoders share: `decoder.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tinyllm.models import llama_layout
from tinyllm.models.decoder import Decoder
from tinyllm.nn import Attention, Block, GatedFeedForward, KVCache, Linear, RMSNorm, Rotary, RotaryScaling
from tinyllm.storage.fields import check_number, check_whole


@dataclass(frozen=True)
class LlamaConfig:
    """Size and shape of a Llama. The defaults are Llama 7B, 6.7 billion parameters (Touvron et al. 2023, table 2)."""

    vocab_size: int = 32000  # V, tokens in the vocabulary
    block_size: int = 2048  # longest context, in tokens
    n_layers: int = 32  # L, blocks
    n_heads: int = 32  # H, attention heads per block
    d_model: int = 4096  # C, width of the residual stream
    dropout: float = 0.0  # probability of dropping, in training only; Llama used none
    n_kv_heads: int | None = None  # G, key/value heads per block, a divisor of n_heads; n_heads if not given
    head_dim: int | None = None  # D, width of a head; d_model/n_heads if not given
    n_inner: int | None = None  # F, width inside the feed-forward layers; 8/3 C in whole 32s if not given
    rope_base: float = 10_000.0  # rotary: pair i turns by base^(-2i/D) a token; the longer the context, the larger
    rope_scaling: RotaryScaling | None = None  # how the angles are stretched for texts longer than in training
    norm_eps: float = 1e-5  # RMS norm's guard against division by zero; Llama 2
    tied: bool = False  # whether the token table also scores the next token
    window: int | None = None  # positions that each one sees, itself included, as Mistral; all before it if not given
    qkv_bias: bool = False  # biases in query, key and value, as Qwen2
    out_bias: bool = False  # a bias in attention's output
    qk_norm: bool = False  # queries and keys pass an RMS norm, as Qwen3
    init_std: float = 0.02  # standard deviation of initial weights; a narrow model wants more: 0.02 √(768/C)

    def __post_init__(self) -> None:
        check_whole(self, "vocab_size", "block_size", "n_layers", "n_heads", "d_model", low=1)
        check_whole(self, "n_kv_heads", "head_dim", "n_inner", "window", low=1, optional=True)
        check_number(self, "dropout", low=0, below=1)
        check_number(self, "init_std", "rope_base", "norm_eps", above=0)
        for name in ("tied", "qkv_bias", "out_bias", "qk_norm"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        given = {"n_kv_heads": self.n_heads, "head_dim": self.d_model / self.n_heads, "n_inner": self._usual_feedforward}
        for name, usual in given.items():
            if getattr(self, name) == usual:  # said or not, it is the same shape
                object.__setattr__(self, name, None)
        if self.head_dim is None and self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}; change one, or give head_dim")
        if self.n_heads % self.n_groups:
            raise ValueError(f"n_heads {self.n_heads} is not divisible by n_kv_heads {self.n_groups}; change one of them")
        if self.d_head % 2:
            raise ValueError(f"heads of width {self.d_head} cannot be turned in pairs; choose an even width")

    @property
    def n_groups(self) -> int:
        """G."""
        return self.n_kv_heads or self.n_heads

    @property
    def d_head(self) -> int:
        """D."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def d_feedforward(self) -> int:
        """F."""
        return self.n_inner or self._usual_feedforward

    @property
    def _usual_feedforward(self) -> int:
        """Three matrices of width 8/3 C hold as much as two of 4C."""
        return -(-8 * self.d_model // (3 * 32)) * 32


class Llama(Decoder):
    """model(tokens) gives logits. Weights: tokens (V, C), blocks, norm, head (V, C) unless tied.

    Initial weights as in `gpt.py`: N(0, init_std²), and N(0, (init_std/√(2L))²) for those that write to the residual stream.
    """

    Config: ClassVar = LlamaConfig
    layout: ClassVar = llama_layout

    def __init__(self, config: LlamaConfig, *, rng: np.random.Generator | None):
        """`rng` draws the weights and seeds dropout's own stream; None leaves the weights 0, to be loaded."""
        super().__init__(config, rng=rng)
        C, std = config.d_model, config.init_std
        shared: dict[str, Any] = {"std": std, "out_std": std / math.sqrt(2 * config.n_layers), "rng": rng}
        self.rotary = Rotary(config.d_head, base=config.rope_base, scaling=config.rope_scaling)
        self.blocks = [
            Block(
                norm1=RMSNorm(C, eps=config.norm_eps),
                attention=Attention(
                    C,
                    config.n_heads,
                    n_kv_heads=config.n_groups,
                    head_dim=config.d_head,
                    rotary=self.rotary,
                    window=config.window,
                    norm_eps=config.norm_eps if config.qk_norm else None,
                    bias=config.qkv_bias,
                    out_bias=config.out_bias,
                    **shared,
                ),  # fmt: skip
                norm2=RMSNorm(C, eps=config.norm_eps),
                feedforward=GatedFeedForward(C, config.d_feedforward, **shared),
                dropout=self.dropout,
            )
            for _ in range(config.n_layers)
        ]
        self.norm = RMSNorm(C, eps=config.norm_eps)
        self.head = None if config.tied else Linear(C, config.vocab_size, bias=False, std=std, rng=rng)

    def new_cache(self, batch_size: int, max_length: int | None = None) -> KVCache:
        """An empty cache, and angles for as many positions."""
        self.rotary.table(self.norm.weight.dtype, max_length or self.config.block_size)
        return super().new_cache(batch_size, max_length)

    def kept_per_token(self) -> int:
        """Numbers that training keeps for each token of a batch, logits apart.

        Of each layer both norms' inputs and outputs (4C, and 2 statistics), query, key and value, turned and unturned, and
        attention's output (3HD + 3GD), its log-normaliser (H), the gated layer's two inner arrays (2F); outside of them 4C.
        """
        config, C = self.config, self.config.d_model
        heads = 3 * config.d_head * (config.n_heads + config.n_groups) + config.n_heads
        dropped = (1 + 2 * config.n_layers) * C if config.dropout else 0
        return config.n_layers * (4 * C + heads + 2 * config.d_feedforward + 2) + 4 * C + dropped
