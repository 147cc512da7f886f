"""Multi-head attention with its weights (Vaswani et al. 2017, section 3.2.2).

    query, key, value = x W_qᵀ, x W_kᵀ, x W_vᵀ        out = attention(query, key, value) W_outᵀ

H heads of width D attend side by side, each to what it finds relevant, and one product mixes their answers. Two layers:

    SelfAttention   one product makes query, key and value at once: fastest, and how GPT-2 keeps them
    Attention       a product each, so that keys and values may have fewer heads (G < H: Ainslie et al. 2023), heads any width,
                    queries and keys turned by their positions (rotary.py) or normed, and each its own LoRA
The equation in eight lines: `ops/plain_attention.py`; as an op with its gradients: `ops/attention.py`; loops:
`kernels/attention/forward.py`. Differs from the paper: no dropout on the attention probabilities, since they are never stored.
"""

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.kv_cache import LayerCache
from tinyllm.nn.linear import Linear
from tinyllm.nn.module import Module
from tinyllm.nn.norm import RMSNorm
from tinyllm.nn.ragged import Layout, rectangle
from tinyllm.nn.rotary import Rotary
from tinyllm.ops import EVERYTHING


class SelfAttention(Module):
    """qkv (3C, C) and out (C, C). `out_std`: initial standard deviation of the output projection."""

    def __init__(
        self, d_model: int, n_heads: int, *, bias: bool = True, std: float = 0.02, out_std: float = 0.02,
        rng: np.random.Generator | None,
    ):  # fmt: skip
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not divisible by n_heads {n_heads}; choose n_heads that divides it")
        self.qkv = Linear(d_model, 3 * d_model, bias=bias, std=std, rng=rng)
        self.out = Linear(d_model, d_model, bias=bias, std=out_std, rng=rng)
        self.n_heads = n_heads

    def __call__(
        self, x: Tensor, layout: Layout | None = None, *, cache: LayerCache | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """x (B, T, C) -> (B, T, C), plus `residual` if there is one; of `layout.visible.read` only what is read.

        layout: who sees whom (`lay_out` makes it); None: everybody everybody.
        """
        visible = EVERYTHING if layout is None else layout.visible
        mixed = ops.self_attention(self.qkv(x), n_heads=self.n_heads, visible=visible, cache=cache)
        return self.out(mixed, residual=residual)


class Attention(Module):
    """query (H·D, C), key and value (G·D, C), out (C, H·D); with `norm_eps` also query_norm and key_norm (D,).

    n_kv_heads  G, which divides H; H unless given
    head_dim    D; C/H unless given
    rotary      turns queries and keys by their positions, or None
    window      each position sees so many, itself included; None: all before it
    norm_eps    queries and keys pass an RMS norm of their own, a head at a time (Dehghani et al. 2023; Qwen3), or None
    bias        whether query, key and value have one; out_bias: whether out has
    """

    def __init__(
        self, d_model: int, n_heads: int, *, n_kv_heads: int | None = None, head_dim: int | None = None,
        rotary: Rotary | None = None, window: int | None = None, norm_eps: float | None = None, bias: bool = False,
        out_bias: bool = False, std: float = 0.02, out_std: float = 0.02, rng: np.random.Generator | None,
    ):  # fmt: skip
        G, D = n_kv_heads or n_heads, head_dim or d_model // n_heads
        if n_heads % G or (head_dim is None and d_model % n_heads):
            came = f"d_model {d_model}, n_heads {n_heads}, n_kv_heads {G} came"
            raise ValueError(f"{came}; n_kv_heads must divide n_heads, and n_heads d_model unless head_dim is given")
        self.query = Linear(d_model, n_heads * D, bias=bias, std=std, rng=rng)
        self.key = Linear(d_model, G * D, bias=bias, std=std, rng=rng)
        self.value = Linear(d_model, G * D, bias=bias, std=std, rng=rng)
        self.out = Linear(n_heads * D, d_model, bias=out_bias, std=out_std, rng=rng)
        if norm_eps is not None:
            self.query_norm, self.key_norm = RMSNorm(D, eps=norm_eps), RMSNorm(D, eps=norm_eps)
        self.normed, self.rotary, self.window, self.head_dim = norm_eps is not None, rotary, window, D

    def __call__(
        self, x: Tensor, layout: Layout | None = None, *, cache: LayerCache | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """x (B, T, C) -> (B, T, C), plus `residual` if there is one; of `layout.visible.read` only what is read.

        layout: who sees whom (`lay_out` makes it); None: everybody everybody.
        """
        layout = rectangle(np.zeros(x.shape[:2])) if layout is None else layout
        visible = layout.visible.within(self.window)
        asking, positions = x, layout.positions
        if visible.read is not None:
            asking, positions = x[:, visible.read], layout.positions[:, visible.read]
        query, key, value = (self._heads(part) for part in (self.query(asking), self.key(x), self.value(x)))
        if self.normed:
            query, key = self.query_norm(query), self.key_norm(key)
        if self.rotary is not None:
            query, key = self.rotary(query, positions), self.rotary(key, layout.positions)
        mixed = ops.attention(query, key, value, visible=visible, cache=cache)  # (B, T, H, D)
        return self.out(ops.reshape(mixed, shape=(*mixed.shape[:2], query.shape[2] * self.head_dim)), residual=residual)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, n·D) -> (B, T, n, D)."""
        return ops.reshape(x, shape=(*x.shape[:2], x.shape[2] // self.head_dim, self.head_dim))
