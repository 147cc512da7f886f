"""What all decoder-only models share: tokens go through a stack of blocks, and each position scores its next token.

    tokens (B, T) -> embed -> blocks, L times -> norm -> logits (B, T, V)

A model of this kind has a page of its own that says what its `blocks` and its `norm` are, and a `layout` of its files: `gpt.py`,
`llama.py`. Training, decoding and learning from feedback know no more of it than `contract.py` says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.models import pretrained
from tinyllm.models.folder_layout import FolderLayout, refuse_head
from tinyllm.nn import Dropout, Embedding, KVCache, LayerNorm, Linear, Module, RMSNorm, lay_out, run_blocks
from tinyllm.tokenizers import Tokenizer


class Decoder(Module, ABC):
    """model(tokens) gives logits. `head`: what scores the next token, or None where the token table itself does (tied)."""

    Config: ClassVar[Any]  # the dataclass of its settings
    layout: ClassVar[FolderLayout]
    blocks: list
    norm: LayerNorm | RMSNorm
    head: Linear | None = None

    def __init__(self, config: Any, *, rng: np.random.Generator | None):
        """`rng` draws the weights and seeds dropout's own stream; None leaves the weights 0, to be loaded."""
        self.config = config
        self.dropout = Dropout(config.dropout, rng=(rng or np.random.default_rng(0)).spawn(1)[0])
        self.tokens = Embedding(config.vocab_size, config.d_model, std=config.init_std, rng=rng)

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
        x = self.embed(layout.tokens, layout.positions)  # (B, T, C), or (1, N, C) without what is padding
        return layout.back(self.norm(run_blocks(self.blocks, x, layout, cache=cache)))

    def embed(self, tokens: np.ndarray, positions: np.ndarray) -> Tensor:
        """tokens (B, T) and their positions (B or 1, T) -> the stream before the first block, (B, T, C)."""
        return self.dropout(self.tokens(tokens))

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., C) -> (..., V)."""
        return self.tokens.scores(hidden) if self.head is None else self.head(hidden)

    def loss(
        self, tokens: np.ndarray, targets: np.ndarray, *, loss_mask: np.ndarray | None = None, n_counted: float | None = None
    ) -> Tensor:
        """cross_entropy(model(tokens), targets), in nats, without ever holding all logits (`ops/linear_cross_entropy.py`)."""
        hidden, table = self.hidden(tokens), (self.tokens if self.head is None else self.head).weight
        if table.dtype != hidden.dtype or type(self.head) not in (type(None), Linear):  # int8, LoRA: logits as they are
            return ops.cross_entropy(self.logits(hidden), targets, loss_mask=loss_mask, n_counted=n_counted)
        return ops.linear_cross_entropy(hidden, table, targets, loss_mask=loss_mask, n_counted=n_counted)

    def new_cache(self, batch_size: int, max_length: int | None = None) -> KVCache:
        """An empty cache for `batch_size` rows of up to `max_length` tokens (block_size by default)."""
        config = self.config
        shape = (batch_size, max_length or config.block_size, config.n_groups, config.d_head)
        return KVCache(config.n_layers, shape, self.norm.weight.dtype)

    def flops_per_token(self, context: int | None = None) -> int:
        """Floating point operations to read one token: 2 per weight in a product, 4·H·D per layer and key attended to.

        A training step costs three times as much: backward makes two products of each. PaLM (Chowdhery et al. 2022),
        appendix B, without counting norms and activations. `context` is the number of keys (block_size by default).
        """
        config, n_keys = self.config, min(context or self.config.block_size, self.config.window or self.config.block_size)
        products = sum(weight.size for _, weight in self.named_parameters() if weight.ndim == 2) - self.only_looked_up()
        return 2 * products + 4 * config.n_layers * config.n_heads * config.d_head * n_keys

    def only_looked_up(self) -> int:
        """Numbers in tables that are read a row at a time and multiply nothing."""
        return 0 if self.head is None else self.tokens.weight.size

    @abstractmethod
    def kept_per_token(self) -> int:
        """Numbers that training keeps for each token of a batch, logits apart."""

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: Tokenizer | None = None,
        *,
        dtype: str = "float32",
        max_shard_bytes: int | None = None,
    ) -> None:
        """Write config.json, model.safetensors and the tokenizer's tokenizer.json, as Hugging Face lays them out.

        dtype            of the weights in the file: float32, float16 or bfloat16
        max_shard_bytes  cut them into files of at most so many bytes, with an index
        """
        config, tensors = self.layout.to_config(self.config), self.layout.to_tensors(self.state_dict())
        pretrained.save(folder, config, tensors, tokenizer=tokenizer, dtype=dtype, max_shard_bytes=max_shard_bytes)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model in `folder`, its weights mapped from the file (those that are stored transposed turned), in eval mode.

        FormatError names the file and the field where something does not fit.
        """
        settings, tensors, file = pretrained.load(folder, model_types=cls.layout.MODEL_TYPES)
        refuse_head(tensors, file=file)
        return cls.from_arrays(settings, tensors, folder=folder)

    @classmethod
    def from_arrays(cls, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], *, folder: str | Path) -> Self:
        """The model of a config.json and its arrays, under Hugging Face's names, in eval mode. `folder`: for errors."""
        file = pretrained.weights_file(folder)
        config = cls.Config(**cls.layout.from_config(settings, file=Path(folder) / "config.json"))
        tensors = cls.layout.arrange(tensors, config, settings=settings, file=file)
        model = cls(config, rng=None)
        pretrained.adopt(model, cls.layout.from_tensors(tensors, list(model.state_dict()), file=file), file=file)
        model.eval()
        return model
