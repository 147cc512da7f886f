"""What a training loop reads: batches from a source that says where it stands.

`state()` of a source is where it stands, random generators included, as a JSON-able dict; after `restore(state)` it yields
exactly what would have come next. The state carries a checksum of the data, so it refuses to go on over others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """tokens (B, T) int64, targets (B, T) int64, loss_mask (B, T) bool or None (every target counts in the loss)."""

    tokens: np.ndarray
    targets: np.ndarray
    loss_mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, array in (("targets", self.targets), ("loss_mask", self.loss_mask)):
            if array is not None and array.shape != self.tokens.shape:
                raise ValueError(f"{name} must have the shape of tokens, {self.tokens.shape}, got {array.shape}")

    @property
    def n_counted(self) -> int:
        """The number of targets that count in the loss."""
        return self.targets.size if self.loss_mask is None else int(self.loss_mask.sum())


class BatchSource(Protocol):
    """What a training loop needs of its data."""

    def next_batch(self) -> Any:
        """The next batch, a Batch or whatever else the loss function reads; sources never run out."""
        ...

    def state(self) -> dict[str, Any]:
        """Where the source stands: a dictionary that JSON can hold, but for NumPy arrays in it (of a rollout, say)."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state` was taken."""
        ...


class Epochs(Generic[T]):
    """All of some things in a random order, each once, then in another order.

    An order follows from the generator's state before it was drawn, so that state and how many were taken since are all there is
    to save. It is drawn when its first thing is wanted: what is only measured on draws nothing.

    draw  an epoch's things in a new order, from the generator: `lambda rng: rng.permutation(n)`
    """

    def __init__(self, draw: Callable[[np.random.Generator], Sequence[T]], *, rng: np.random.Generator):
        self.draw, self.rng = draw, rng
        self._before: dict[str, Any] = {}  # the generator's state before the present order was drawn
        self._order: Sequence[T] | None = None
        self._position = 0

    @property
    def order(self) -> Sequence[T]:
        """The present epoch's things."""
        if self._order is None:
            self._before = rng_state(self.rng)
            self._order = self.draw(self.rng)
            if not len(self._order):
                raise ValueError("an epoch has nothing in it, so there is nothing to draw; give some data")
        return self._order

    def take(self, n: int) -> Sequence[T]:
        """The next n of the epoch, fewer at its end; where nothing is left of it, of the next one."""
        if self._position >= len(self.order):
            self._order, self._position = None, 0
        taken = self.order[self._position : self._position + n]
        self._position += len(taken)
        return taken

    def take_across(self, n: int) -> list[T]:
        """The next n, over the seam between two epochs if need be."""
        taken: list[T] = []
        while len(taken) < n:
            taken += self.take(n - len(taken))
        return taken

    def state(self) -> dict[str, Any]:
        """Where it stands."""
        return {"rng": rng_state(self.rng) if self._order is None else self._before, "position": self._position}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.rng.bit_generator.state = state["rng"]
        self._order, self._position = None, int(state["position"])
        if self._position:
            _ = self.order  # drawn now: others may draw from the same generator before the next is taken


def check_identity(ours: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """ValueError naming the first entry in which a saved state differs from the source it is restored into."""
    for name, value in ours.items():
        if state.get(name) != value:
            raise ValueError(
                f"state was taken with {name} {state.get(name)!r}, but this source has {value!r}; "
                "resume with the same data and settings"
            )


def rng_state(rng: np.random.Generator) -> dict[str, Any]:
    """The generator's state with NumPy numbers made plain, so that JSON can hold it."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else value

    return plain(rng.bit_generator.state)
