"""A Llama from tokens to logits, top to bottom, in plain NumPy: `plain_gpt.py` with each part exchanged..

    x = E[tokens]        x = block(x), L times        logits = norm(x) Wᵀ                       Touvron et al. 2023

Nothing here is fast, cached or trained. The weights are those of `model.state_dict()`, under the names they have there; a test
holds this page against the model that is used.
"""

from collections.abc import Mapping

import numpy as np

from tinyllm.ops import causal_mask
from tinyllm.ops.plain_attention import attend

Weights = Mapping[str, np.ndarray]


def rms_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    """Each position's vector brought to size 1 (its mean stays), then scaled as was learned."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * w[f"{name}.weight"]


def linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    """x Wᵀ: no bias."""
    return x @ w[f"{name}.weight"].T


def rotary(x: np.ndarray) -> np.ndarray:
    """x (B, T, H, D): the pair (i, i + D/2) of the head at position t is turned by t · 10000^(-2i/D)."""
    T, half = x.shape[1], x.shape[3] // 2
    angle = np.arange(T)[:, None] * 10_000.0 ** (-np.arange(half) / half)  # (T, D/2)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]  # (T, 1, D/2): the same for every head
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def silu(x: np.ndarray) -> np.ndarray:
    """Nearly x where x is large, nearly 0 where it is very negative, and smooth between."""
    return x / (1 + np.exp(-x))


def block(x: np.ndarray, w: Weights, name: str, *, n_heads: int, n_kv_heads: int) -> np.ndarray:
    """One block, x (B, T, C) -> (B, T, C): positions look at each other, then each thinks for itself."""
    B, T, C = x.shape

    h = rms_norm(x, w, f"{name}.norm1")
    query, key, value = (linear(h, w, f"{name}.attention.{part}") for part in ("query", "key", "value"))
    query = rotary(query.reshape(B, T, n_heads, -1))  # (B, T, H, D)
    key, value = rotary(key.reshape(B, T, n_kv_heads, -1)), value.reshape(B, T, n_kv_heads, -1)  # (B, T, G, D)
    key, value = (np.repeat(part, n_heads // n_kv_heads, axis=2) for part in (key, value))  # each serves H/G queries
    mixed, _ = attend(query, key, value, mask=causal_mask(T, T))
    x = x + linear(mixed.reshape(B, T, -1), w, f"{name}.attention.out")

    h = rms_norm(x, w, f"{name}.norm2")
    h = silu(linear(h, w, f"{name}.feedforward.gate")) * linear(h, w, f"{name}.feedforward.up")  # (B, T, F)
    return x + linear(h, w, f"{name}.feedforward.down")


def logits(tokens: np.ndarray, w: Weights, *, n_layers: int, n_heads: int, n_kv_heads: int) -> np.ndarray:
    """tokens (B, T) -> (B, T, V): at each position a score for every token that could come next."""
    x = w["tokens.weight"][tokens]  # (B, T, C)
    for i in range(n_layers):
        x = block(x, w, f"blocks.{i}", n_heads=n_heads, n_kv_heads=n_kv_heads)
    return rms_norm(x, w, "norm") @ w.get("head.weight", w["tokens.weight"]).T
