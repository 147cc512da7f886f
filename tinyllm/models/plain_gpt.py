"""A GPT from tokens to logits, top to bottom, in plain NumPy: read this first, then `gpt.py`, which does the same with gradients.

    x = E[tokens] + P[positions]        x = block(x), L times        logits = norm(x) Eᵀ         Radford et al. 2019

Nothing here is fast, cached or trained. It is the whole network, each line a line of the papers, and a test holds it against
the model that is used. The weights are those of `model.state_dict()`, under the names they have there.
"""

import math
from collections.abc import Mapping

import numpy as np

from tinyllm.ops import causal_mask
from tinyllm.ops.plain_attention import attend

Weights = Mapping[str, np.ndarray]


def layer_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    """Each position's vector brought to mean 0 and variance 1, then scaled and shifted as was learned."""
    centred = x - x.mean(axis=-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return y * w[f"{name}.weight"] + w.get(f"{name}.bias", 0)


def linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    """x Wᵀ + b."""
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def gelu(x: np.ndarray) -> np.ndarray:
    """Nearly x where x is large, nearly 0 where it is very negative, and smooth between."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def block(x: np.ndarray, w: Weights, name: str, *, n_heads: int) -> np.ndarray:
    """One block, x (B, T, C) -> (B, T, C): positions look at each other, then each thinks for itself."""
    B, T, C = x.shape

    h = layer_norm(x, w, f"{name}.norm1")
    query, key, value = np.split(linear(h, w, f"{name}.attention.qkv"), 3, axis=-1)  # (B, T, C) each
    query, key, value = (part.reshape(B, T, n_heads, C // n_heads) for part in (query, key, value))  # (B, T, H, D)
    mixed, _ = attend(query, key, value, mask=causal_mask(T, T))
    x = x + linear(mixed.reshape(B, T, C), w, f"{name}.attention.out")

    h = layer_norm(x, w, f"{name}.norm2")
    h = gelu(linear(h, w, f"{name}.feedforward.up"))  # (B, T, 4C)
    return x + linear(h, w, f"{name}.feedforward.down")


def logits(tokens: np.ndarray, w: Weights, *, n_layers: int, n_heads: int) -> np.ndarray:
    """tokens (B, T) -> (B, T, V): at each position a score for every token that could come next."""
    x = w["tokens.weight"][tokens] + w["positions.weight"][: tokens.shape[1]]  # (B, T, C)
    for i in range(n_layers):
        x = block(x, w, f"blocks.{i}", n_heads=n_heads)
    return layer_norm(x, w, "norm") @ w["tokens.weight"].T
