"""`tinyllm/models/gpt.py` said again in PyTorch, as an engineer would write it there: the peer that benchmarks race against.

Modules carry our names, so that our state_dict loads into it unchanged. It uses what PyTorch does best on a CPU:
`scaled_dot_product_attention` (no T x T matrix is kept), the fused AdamW (one pass over all weights), `clip_grad_norm_` in its
grouped form, and, if asked to, `torch.compile`, which turns the model into C++ kernels of its own. Needs PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Causal attention with H heads; one projection makes queries, keys and values."""

    def __init__(self, width: int, heads: int, *, bias: bool):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        query, key, value = (part.view(B, T, self.heads, -1).transpose(1, 2) for part in self.qkv(x).split(C, dim=2))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)  # (B, H, T, D)
        return self.out(mixed.transpose(1, 2).reshape(B, T, C))


class FeedForward(nn.Module):
    """Up to four times the width, GELU (tanh form), down again."""

    def __init__(self, width: int, *, bias: bool):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, width: int, heads: int, *, bias: bool):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, bias=bias), SelfAttention(width, heads, bias=bias)
        self.norm2, self.feedforward = nn.LayerNorm(width, bias=bias), FeedForward(width, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feedforward(self.norm2(x))


class TorchGPT(nn.Module):
    """tokens (B, T) -> logits (B, T, V). Takes GPTConfig's fields by name; without dropout."""

    def __init__(self, *, vocab_size: int, block_size: int, n_layers: int, n_heads: int, d_model: int, bias: bool):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, d_model), nn.Embedding(block_size, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, bias=bias) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model, bias=bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def llama(
    *, vocab_size: int, block_size: int, n_layers: int, n_heads: int, n_kv_heads: int, d_model: int, n_inner: int
) -> nn.Module:
    """transformers' Llama of that shape, with PyTorch's own attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size, max_position_embeddings=block_size, num_hidden_layers=n_layers, num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads, hidden_size=d_model, intermediate_size=n_inner, rms_norm_eps=1e-5, use_cache=False,
        attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config)


class TorchTraining:
    """One training run in PyTorch: step(tokens, targets) -> loss. Same optimizer settings as ours."""

    def __init__(self, config: dict[str, Any], *, compiled: bool, lr: float, betas: tuple[float, float], weight_decay: float):
        self.model = llama(**config) if "n_kv_heads" in config else TorchGPT(**config)
        self.call = torch.compile(self.model) if compiled else self.model
        parameters = list(self.model.parameters())
        matrices, vectors = ([p for p in parameters if (p.dim() >= 2) == matrix] for matrix in (True, False))
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)

    def load(self, path: str) -> None:
        """Copy in weights from an .npz of our state_dict."""
        with np.load(path) as arrays, torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(torch.from_numpy(arrays[name]))

    def step(self, tokens: np.ndarray, targets: np.ndarray) -> float:
        """zero_grad, forward, loss, backward, clip, update."""
        self.optimizer.zero_grad(set_to_none=True)
        found = self.call(torch.from_numpy(tokens))
        logits = found if isinstance(found, torch.Tensor) else found.logits
        loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()
