"""GPT-2: a stack of causal transformer blocks that predicts the next token (Radford et al. 2019).

    h = E[tokens] + P[positions]        h = block(h), L times        logits = norm(h) Eᵀ

E, the token table, is used twice: to read tokens in and to score them on the way out (tied; Press & Wolf 2017). Every
position predicts its own next token, so one pass over T tokens gives T lessons. A causal mask makes that honest: position
t sees tokens 0..t only (`causal_mask` in kernels/attention/visibility.py). Differs from the paper: no dropout on attention
probabilities (see `nn/attention.py`).
The way through it, from tokens to logits, as one page of plain NumPy: `plain_gpt.py`. Read that first.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.models import gpt_layout, pretrained
from tinyllm.nn import Block, Dropout, Embedding, FeedForward, KVCache, LayerNorm, Module, SelfAttention
from tinyllm.nn.ragged import lay_out, run_blocks
from tinyllm.storage.fields import check_number, check_whole
from tinyllm.tokenizers import Tokenizer


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


class GPT(Module):
    """model(tokens) gives logits. Weights: tokens (V, C), positions (block_size, C), blocks, norm.

    Initial weights are N(0, init_std²), and N(0, (init_std/√(2L))²) for the 2L projections that write to the residual
    stream, since 2L of them add up there (Radford et al. 2019, section 2.3).
    """

    def __init__(self, config: GPTConfig, *, rng: np.random.Generator | None):
        """`rng` draws the weights and seeds dropout's own stream; None leaves the weights 0, to be loaded."""
        C, std = config.d_model, config.init_std
        shared: dict[str, Any] = {"bias": config.bias, "std": std, "out_std": std / math.sqrt(2 * config.n_layers)}
        self.config = config
        self.dropout = Dropout(config.dropout, rng=(rng or np.random.default_rng(0)).spawn(1)[0])
        self.tokens = Embedding(config.vocab_size, C, std=std, rng=rng)
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

    def flops_per_token(self, context: int | None = None) -> int:
        """Floating point operations to read one token: 2 per weight in a product, 4·C per layer and key attended to.

        A training step costs three times as much: backward makes two products of each. PaLM (Chowdhery et al. 2022),
        appendix B, without counting norms and activations. `context` is the number of keys (block_size by default).
        """
        config, looked_up = self.config, self.positions.weight.size
        products = sum(weight.size for _, weight in self.named_parameters() if weight.ndim == 2) - looked_up
        return 2 * products + 4 * config.n_layers * config.d_model * (context or config.block_size)

    def __call__(self, tokens: np.ndarray, *, cache: KVCache | None = None, attention_mask: np.ndarray | None = None) -> Tensor:
        """tokens (B, T) int -> logits (B, T, V): at each position, scores for the token that comes next."""
        return self.logits(self.hidden(tokens, cache=cache, attention_mask=attention_mask))

    def hidden(
        self, tokens: np.ndarray, *, cache: KVCache | None = None, attention_mask: np.ndarray | None = None,
        read_from: int | np.ndarray | None = None,
    ) -> Tensor:  # fmt: skip
        """tokens (B, T) int -> the stream after the last norm, (B, T, C).

        cache           keys and values of earlier calls; `tokens` continue each row's own (under no_grad only)
        attention_mask  (B, T) bool, False = padding, left, right or between: it is not computed, and zeros come out
        read_from       the column, or one for each row (B,), before which nobody will look at the result: zeros there, and the
                        last block computes only what is left
        """
        layout = lay_out(
            np.asarray(tokens), block_size=self.config.block_size, attention_mask=attention_mask, read_from=read_from, cache=cache
        )
        x = self.embed(layout.tokens, layout.positions)  # (B, T, C)
        return layout.back(self.norm(run_blocks(self.blocks, x, layout, cache=cache)))

    def embed(self, tokens: np.ndarray, positions: np.ndarray) -> Tensor:
        """tokens (B, T) and their positions (B or 1, T) -> the stream before the first block, (B, T, C)."""
        return self.dropout(self.tokens(tokens) + self.positions(positions))

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., C) -> (..., V), by the token table itself."""
        return self.tokens.scores(hidden)

    def loss(
        self, tokens: np.ndarray, targets: np.ndarray, *, loss_mask: np.ndarray | None = None, n_counted: float | None = None
    ) -> Tensor:
        """cross_entropy(model(tokens), targets), in nats, without ever holding all logits (`ops/linear_cross_entropy.py`)."""
        hidden, table = self.hidden(tokens), self.tokens.weight
        if table.dtype != hidden.dtype:  # int8: no gradient needs the chunks
            return ops.cross_entropy(self.logits(hidden), targets, loss_mask=loss_mask, n_counted=n_counted)
        return ops.linear_cross_entropy(hidden, table, targets, loss_mask=loss_mask, n_counted=n_counted)

    def new_cache(self, batch_size: int, max_length: int | None = None) -> KVCache:
        """An empty cache for `batch_size` rows of up to `max_length` tokens (block_size by default)."""
        config = self.config
        shape = (batch_size, max_length or config.block_size, config.n_heads, config.d_model // config.n_heads)
        return KVCache(config.n_layers, shape, self.norm.weight.dtype)

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write config.json, model.safetensors and the tokenizer's tokenizer.json, in Hugging Face's GPT-2 layout."""
        config = gpt_layout.to_config(dataclasses.asdict(self.config))
        pretrained.save(folder, config, gpt_layout.to_tensors(self.state_dict()), tokenizer=tokenizer)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> GPT:
        """The model in `folder`, its weights mapped from the file (those that are stored transposed turned), in eval mode.

        FormatError names the file and the field where something does not fit.
        """
        settings, tensors, file = pretrained.load(folder, model_type="gpt2")
        gpt_layout.refuse_head(tensors, file=file)
        return cls.from_arrays(settings, tensors, folder=folder)

    @classmethod
    def from_arrays(cls, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, folder: str | Path) -> GPT:
        """The model of a config.json and its arrays, under Hugging Face's names, in eval mode. `folder`: for errors."""
        file = pretrained.weights_file(folder)
        config = GPTConfig(**gpt_layout.from_config(settings, file=Path(folder) / "config.json"))
        tensors = gpt_layout.one_table(tensors, tied=settings.get("tie_word_embeddings", True), file=file)
        gpt_layout.check_sizes(dataclasses.asdict(config), tensors, file=file)
        model = cls(config, rng=None)
        pretrained.adopt(model, gpt_layout.from_tensors(tensors, list(model.state_dict()), file=file), file=file)
        model.eval()
        return model
