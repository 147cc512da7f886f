"""Batches of token windows. What a model is asked about a window is an objective's: `questions` (see `tinyllm.pretraining`).

RandomWindows      windows at uniformly random places, with replacement, as nanoGPT draws them
MixtureWindows     each row first picks its source by weight, then a window in it
EvaluationWindows  the same evenly spaced windows each time, none overlapping, for a loss that can be compared
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinyllm.data.batches import Batch, check_identity, rng_state
from tinyllm.data.text.mixture import Mixture

Questions = Callable[[np.ndarray, np.random.Generator], Batch]  # windows (B, T + 1) int64 -> what is asked about them


def next_tokens(windows: np.ndarray, rng: np.random.Generator) -> Batch:
    """Which token comes next? tokens (B, T), targets one step ahead. Nothing is drawn from `rng`."""
    return Batch(np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:]))


class RandomWindows:
    """Windows of `block_size` tokens (and the token after) at random places of one token array (n_tokens,)."""

    def __init__(
        self, tokens: np.ndarray, *, batch_size: int, block_size: int, rng: np.random.Generator,
        questions: Questions = next_tokens,
    ):  # fmt: skip
        check_window(tokens, batch_size=batch_size, block_size=block_size)
        self.tokens, self.batch_size, self.block_size, self.rng = tokens, batch_size, block_size, rng
        self.questions = questions
        self._checksum: int | None = None

    def next_window(self) -> np.ndarray:
        """(block_size + 1,) ids from one random place."""
        start = int(self.rng.integers(0, len(self.tokens) - self.block_size))
        return self.tokens[start : start + self.block_size + 1]

    def next_batch(self) -> Batch:
        """B windows, drawn independently."""
        windows = np.stack([self.next_window() for _ in range(self.batch_size)])
        return self.questions(windows.astype(np.int64), self.rng)

    def state(self) -> dict[str, Any]:
        """The generator's state and the identity of the tokens."""
        return {**self._identity(), "rng": rng_state(self.rng)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; ValueError if it was taken with other tokens or other sizes."""
        check_identity(self._identity(), state)
        self.rng.bit_generator.state = state["rng"]

    def _identity(self) -> dict[str, Any]:
        if self._checksum is None:  # once: it reads all the tokens
            self._checksum = zlib.crc32(np.ascontiguousarray(self.tokens).data)
        sizes = {"batch_size": self.batch_size, "block_size": self.block_size}
        return {**sizes, "n_tokens": len(self.tokens), "tokens_crc32": self._checksum}


class MixtureWindows:
    """Batches whose rows come from the sources of a mixture, each row from one source picked by weight.

    Each source has its own generator, spawned from `rng`: which windows a source gives does not depend on the others.
    """

    def __init__(
        self, mixture: Mixture, *, batch_size: int, block_size: int, rng: np.random.Generator, questions: Questions = next_tokens
    ):
        self.mixture, self.batch_size, self.block_size, self.rng = mixture, batch_size, block_size, rng
        self.questions = questions
        self.windows: dict[str, RandomWindows] = {}
        for source, own_rng in zip(mixture.sources, rng.spawn(len(mixture.sources)), strict=True):
            try:
                self.windows[source.name] = RandomWindows(
                    source.tokens, batch_size=batch_size, block_size=block_size, rng=own_rng
                )
            except ValueError as error:
                raise ValueError(f"source {source.name!r}: {error}") from None
        self.rows_drawn = dict.fromkeys(self.windows, 0)

    def next_batch(self) -> Batch:
        """B windows; their sources are independent draws by weight."""
        names = [self.mixture.sources[index].name for index in self.mixture.pick(self.rng, self.batch_size)]
        for name in names:
            self.rows_drawn[name] += 1
        return self.questions(np.stack([self.windows[name].next_window().astype(np.int64) for name in names]), self.rng)

    def state(self) -> dict[str, Any]:
        """The states of the picking generator and of every source, and the rows drawn from each."""
        sources = {name: windows.state() for name, windows in self.windows.items()}
        return {**self._identity(), "rng": rng_state(self.rng), "rows_drawn": dict(self.rows_drawn), "sources": sources}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; ValueError if it was taken with other sources, weights or sizes."""
        check_identity(self._identity(), state)
        for name, windows in self.windows.items():
            windows.restore(state["sources"][name])
        self.rows_drawn = {name: int(state["rows_drawn"][name]) for name in self.windows}
        self.rng.bit_generator.state = state["rng"]

    def _identity(self) -> dict[str, Any]:
        sizes = {"batch_size": self.batch_size, "block_size": self.block_size}
        return {**sizes, "names": list(self.windows), "proportions": self.mixture.proportions.tolist()}


class EvaluationWindows:
    """Evenly spaced windows of one token array, as batches, the same at each iteration; no target is counted twice.

    Of the (n_tokens - 1) // block_size windows that fit side by side, `max_windows` are taken (all if None).
    The last batch may have fewer rows. What an objective draws at random is drawn anew from one seed, so it is the same, too.
    """

    def __init__(
        self, tokens: np.ndarray, *, batch_size: int, block_size: int, max_windows: int | None = None,
        questions: Questions = next_tokens,
    ):  # fmt: skip
        check_window(tokens, batch_size=batch_size, block_size=block_size)
        if max_windows is not None and max_windows < 1:
            raise ValueError(f"max_windows must be at least 1, got {max_windows}")
        n_slots = (len(tokens) - 1) // block_size
        n_windows = n_slots if max_windows is None else min(max_windows, n_slots)
        self.tokens, self.batch_size, self.block_size, self.questions = tokens, batch_size, block_size, questions
        self.starts = np.arange(n_windows) * n_slots // n_windows * block_size  # (n_windows,)

    def __len__(self) -> int:
        """The number of batches."""
        return -(-len(self.starts) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng(0)
        for first in range(0, len(self.starts), self.batch_size):
            starts = self.starts[first : first + self.batch_size]
            windows = np.stack([self.tokens[start : start + self.block_size + 1] for start in starts])
            yield self.questions(windows.astype(np.int64), rng)


def check_window(tokens: np.ndarray, *, batch_size: int, block_size: int) -> None:
    """ValueError unless `tokens` (n_tokens,) are integers with room for one window of block_size + 1."""
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"tokens must be one row of integers, got shape {tokens.shape} of {tokens.dtype}")
    if batch_size < 1 or block_size < 1:
        raise ValueError(f"batch_size and block_size must be at least 1, got {batch_size} and {block_size}")
    if len(tokens) < block_size + 1:
        raise ValueError(
            f"tokens has {len(tokens)} ids, but a window of block_size {block_size} needs {block_size + 1}; "
            "use more text or a smaller block_size"
        )
