"""A data mixture: several sources, each drawn from with its own weight, whatever its size.

A weight says which part of the training tokens comes from a source, so a small source with a large weight is read
several times over: epochs = planned tokens * proportion / tokens in the source. `table` prints these numbers as
LLaMA's paper does (Touvron et al. 2023, "LLaMA", Table 1: data set, sampling proportion, epochs, disk size). More than
about four epochs begin to bring less than fresh text would (Muennighoff et al. 2023, "Scaling Data-Constrained LMs").
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MixtureSource:
    """One source: its ids (n_tokens,), the bytes of text they came from, and its weight (any positive unit)."""

    name: str
    tokens: np.ndarray
    n_bytes: int
    weight: float


@dataclass(frozen=True)
class Mixture:
    """Weighted sources; `proportions` are the weights scaled to sum to one."""

    sources: tuple[MixtureSource, ...]

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources must hold at least one source, got none")
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"sources must have different names, got {', '.join(names)}")
        for source in self.sources:
            if not (math.isfinite(source.weight) and source.weight > 0):
                raise ValueError(f"weight of source {source.name!r} must be a positive number, got {source.weight}")
            if not len(source.tokens):
                raise ValueError(f"source {source.name!r} has no tokens; leave it out of the mixture")

    @property
    def proportions(self) -> np.ndarray:
        """(n_sources,) float64: the probability that a row comes from each source."""
        weights = np.array([source.weight for source in self.sources], dtype=np.float64)
        return weights / weights.sum()

    def pick(self, rng: np.random.Generator, n_rows: int) -> np.ndarray:
        """(n_rows,) source indices, each drawn by weight: the cumulative distribution inverted at uniform numbers."""
        cumulative = np.cumsum(self.proportions)
        cumulative[-1] = 1.0  # rounding must not leave a gap above the last source
        return np.searchsorted(cumulative, rng.random(n_rows), side="right")

    def rows(self, n_training_tokens: int) -> list[dict[str, Any]]:
        """The table's numbers as JSON-able records, for a run of `n_training_tokens`."""
        return [
            {
                "name": source.name,
                "proportion": float(proportion),
                "epochs": float(n_training_tokens * proportion / len(source.tokens)),
                "tokens": len(source.tokens),
                "bytes": source.n_bytes,
            }
            for source, proportion in zip(self.sources, self.proportions, strict=True)
        ]

    def table(self, n_training_tokens: int) -> str:
        """LLaMA's Table 1 for this mixture and a run of `n_training_tokens`, as text."""
        rows = self.rows(n_training_tokens)
        width = max(len("data set"), *(len(row["name"]) for row in rows))
        lines = [f"{'data set':<{width}}  sampling prop.   epochs        tokens  disk size"]
        for row in rows:
            lines.append(
                f"{row['name']:<{width}}  {row['proportion']:>13.1%}  {row['epochs']:>7.2f}"
                f"  {row['tokens']:>12,}  {format_bytes(row['bytes']):>9}"
            )
        return "\n".join(lines)


def mix(tokens: Mapping[str, np.ndarray], n_bytes: Mapping[str, int], weights: Mapping[str, float] | None = None) -> Mixture:
    """A mixture of the named token arrays; without `weights` each source weighs its tokens, so all have equal epochs.

    Raises ValueError for a weight of a source that is not there, or a source without a weight.
    """
    if weights is None:
        weights = {name: float(len(array)) for name, array in tokens.items()}
    if set(weights) != set(tokens):
        different = ", ".join(sorted(set(weights) ^ set(tokens)))
        raise ValueError(f"weights must name exactly the sources {', '.join(tokens)}; not in both: {different}")
    return Mixture(tuple(MixtureSource(name, tokens[name], n_bytes[name], weights[name]) for name in tokens))


def format_bytes(n_bytes: float) -> str:
    """A size as people read it, in powers of 1000 as disks are sold: 2.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB"
