"""Where a token stands. Attention itself is blind to order: positions have to be told to it.

Learned positions (GPT-2) are an Embedding indexed by position. With left padding a row's first real token stands at 0:
position = number of real tokens before it. Rotary positions (Su et al. 2021) are angles position · base^(-2i/D).
"""

import numpy as np


def positions_from_mask(attention_mask: np.ndarray, n_new: int) -> np.ndarray:
    """Positions (B, n_new) of the last `n_new` tokens of attention_mask (B, S), True = real token; padding gets 0."""
    return np.maximum(np.cumsum(attention_mask, axis=1)[:, attention_mask.shape[1] - n_new :] - 1, 0)


def rotary_angles(
    positions: np.ndarray, head_width: int, *, base: float = 10_000.0, dtype: type = np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin (..., T, D/2) for positions (..., T) and head width D (even): pair i turns base^(-2i/D) per step."""
    if head_width % 2:
        raise ValueError(f"rotary_angles: head_width must be even (pairs are turned), got {head_width}")
    frequency = base ** (-np.arange(0, head_width, 2) / head_width)  # (D/2,)
    angle = positions[..., None] * frequency  # (..., T, D/2)
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)
