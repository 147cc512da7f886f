"""Rotary position embedding as a part of attention: angles for each position, and how they are stretched for longer texts.

    angle(t, i) = t · f_i        f_i = base^(-2i/D), i < D/2        Su et al. 2021, eq. 15

Pair i of a query or key makes a turn in 2π/f_i tokens: the first pairs count single words, the last ones paragraphs. A model
trained on texts of n tokens has never seen the slow pairs come round; to read longer ones, their angles are kept in the known
range:

    linear   f_i / factor: all distances shrink                                  Chen et al. 2023, "Positional Interpolation"
    llama3   f_i / factor for pairs slower than n/low_turns tokens a turn, f_i for those faster than n/high_turns, a ramp between
             Dubey et al. 2024, section 3.4.2 (its base); the ramp is that of the published code
    yarn     a ramp between both over the pairs that make slow_turns to fast_turns turns in n tokens, and all products of queries
             and keys a little larger: cos and sin times 0.1 ln(factor) + 1      Peng et al. 2023, sections 3.2 to 3.4
The op and its gradient: `ops/rotary.py`.
"""

import math
from dataclasses import dataclass

import numpy as np

from tinyllm import ops
from tinyllm.autograd import Tensor
from tinyllm.nn.module import Module

KINDS = ("linear", "llama3", "yarn")
FIRST_ROWS = 2048  # of the table; it grows when a longer text comes


@dataclass(frozen=True)
class RotaryScaling:
    """How the angles are stretched."""

    kind: str  # linear, llama3 or yarn
    factor: float  # how many times longer texts may be
    original_context: int | None = None  # n, tokens of a text in training; llama3 and yarn
    low_turns: float = 1.0  # llama3: pairs that make fewer turns in n tokens are stretched by all of the factor
    high_turns: float = 4.0  # llama3: pairs that make more are left alone
    fast_turns: float = 32.0  # yarn: pairs that make more turns are left alone
    slow_turns: float = 1.0  # yarn: pairs that make fewer are stretched by all of the factor
    whole_pairs: bool = True  # yarn: the ramp begins and ends at a whole pair
    attention_factor: float | None = None  # yarn: times cos and sin; 0.1 ln(factor) + 1 unless given

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not self.factor >= 1:
            raise ValueError(f"factor is {self.factor!r}; expected a number of at least 1")
        if self.kind != "linear" and not self.original_context:
            raise ValueError(f"original_context is {self.original_context!r}; {self.kind} needs it, in tokens")

    @property
    def size(self) -> float:
        """What cos and sin are multiplied by."""
        if self.kind != "yarn":
            return 1.0
        return 0.1 * math.log(self.factor) + 1 if self.attention_factor is None else self.attention_factor


def rotary_frequencies(head_dim: int, *, base: float = 10_000.0, scaling: RotaryScaling | None = None) -> np.ndarray:
    """Radians a token for each pair, (D/2,)."""
    if head_dim % 2:
        raise ValueError(f"head_dim must be even (pairs are turned), got {head_dim}")
    frequencies = base ** (-np.arange(0, head_dim, 2) / head_dim)
    if scaling is None:
        return frequencies
    kept = _kept(frequencies, base, scaling)
    return frequencies / scaling.factor * (1 - kept) + frequencies * kept


def _kept(frequencies: np.ndarray, base: float, scaling: RotaryScaling) -> np.ndarray:
    """(D/2,) from 0, stretched by the factor, to 1, left as it was."""
    if scaling.kind == "linear":
        return np.zeros(len(frequencies))
    assert scaling.original_context is not None
    if scaling.kind == "llama3":
        turns = scaling.original_context * frequencies / (2 * math.pi)
        return np.clip((turns - scaling.low_turns) / (scaling.high_turns - scaling.low_turns), 0, 1)

    context = scaling.original_context

    def pair(turns: float) -> float:
        """Which pair makes so many turns in the context."""
        return len(frequencies) * math.log(context / (turns * 2 * math.pi)) / math.log(base)

    first, last = pair(scaling.fast_turns), pair(scaling.slow_turns)
    if scaling.whole_pairs:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * len(frequencies) - 1)
    return 1 - np.clip((np.arange(len(frequencies)) - first) / max(last - first, 1e-3), 0, 1)


class Rotary(Module):
    """Turns queries and keys; shared by all layers. No weights: tables cos and sin (positions, D/2), which grow when needed."""

    def __init__(self, head_dim: int, *, base: float = 10_000.0, scaling: RotaryScaling | None = None):
        self.frequencies = rotary_frequencies(head_dim, base=base, scaling=scaling)
        self.size = 1.0 if scaling is None else scaling.size
        self.tables: dict[np.dtype, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, x: Tensor, positions: np.ndarray) -> Tensor:
        """x (B, T, H, D) at positions (B or 1, T) -> (B, T, H, D)."""
        cos, sin = self.table(x.dtype, int(positions.max(initial=0)) + 1)
        return ops.rotary(x, cos=cos, sin=sin, positions=positions)

    def table(self, dtype: np.dtype, n_positions: int) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin of at least so many positions, (M, D/2)."""
        known = self.tables.get(dtype)
        if known is None or len(known[0]) < n_positions:
            n_rows = max(FIRST_ROWS, n_positions, 0 if known is None else 2 * len(known[0]))
            angles = np.arange(n_rows)[:, None] * self.frequencies
            known = (self.size * np.cos(angles)).astype(dtype), (self.size * np.sin(angles)).astype(dtype)
            self.tables[dtype] = known
        return known
