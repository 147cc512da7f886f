"""Multi-head self-attention with its weights (Vaswani et al. 2017, section 3.2.2).

    qkv = x W_qkvᵀ + b        out = attention(query, key, value) W_outᵀ + b

H heads of width D = C/H attend side by side, each to what it finds relevant; one projection makes all queries, keys and
values, one mixes the heads' answers. The equation in eight lines: `ops/plain_attention.py`; as an op with its gradients:
`ops/attention.py`; loops: `kernels/attention/forward.py`.
Differs from the paper: no dropout on the attention probabilities, since they are never stored.
"""

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.kv_cache import LayerCache
from tinyllm.nn.linear import Linear
from tinyllm.nn.module import Module


class SelfAttention(Module):
    """qkv (3C, C) and out (C, C). `out_std`: initial standard deviation of the output projection."""

    def __init__(
        self, d_model: int, n_heads: int, *, causal: bool, bias: bool = True, std: float = 0.02, out_std: float = 0.02,
        rng: np.random.Generator | None,
    ):  # fmt: skip
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not divisible by n_heads {n_heads}; choose n_heads that divides it")
        self.qkv = Linear(d_model, 3 * d_model, bias=bias, std=std, rng=rng)
        self.out = Linear(d_model, d_model, bias=bias, std=out_std, rng=rng)
        self.n_heads = n_heads
        self.causal = causal

    def __call__(
        self, x: Tensor, *, cache: LayerCache | None = None, key_mask: np.ndarray | None = None,
        lengths: np.ndarray | None = None, read: np.ndarray | None = None, residual: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """x (B, T, C), key_mask (B, S) bool -> (B, T, C), plus `residual` if there is one.

        With a cache, keys and values of earlier calls are seen too. lengths (B,): x is (1, N, C), B sequences end to end;
        then read (N,) bool: the positions to answer for, the last of each sequence -> (1, M, C).
        """
        qkv = self.qkv(x)  # (B, T, 3C)
        if cache is None:
            heads = {"n_heads": self.n_heads, "causal": self.causal}
            if lengths is None:
                mixed = ops.self_attention(qkv, key_mask=key_mask, **heads)
            else:
                mixed = ops.ragged_self_attention(qkv, lengths=lengths, read=read, **heads)
            return self.out(mixed, residual=residual)
        mixed = ops.cached_attention(qkv, cache=cache, n_heads=self.n_heads, causal=self.causal, key_mask=key_mask)
        return self.out(mixed, residual=residual)
