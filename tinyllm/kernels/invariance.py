"""The same bits for a text whatever else is computed beside it, and however it was cut into pieces.

Products of a few rows, and attention of a few queries, go another way than those of many, since there it is reading the weights
or the keys that takes long. Both ways are right, but a sum taken in another order has other last bits, so a text's logits would
depend on how many others are read with it. A server must not answer differently because somebody else is asking:

    with batch_invariant(): model(tokens)        # one way for any number of rows; few rows take longer

Chen et al. 2025, "Defeating nondeterminism in LLM inference", calls this batch invariance.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_WANTED: ContextVar[bool] = ContextVar("batch invariance", default=False)


def batch_invariance() -> bool:
    """Whether it is wanted here."""
    return _WANTED.get()


@contextmanager
def batch_invariant() -> Iterator[None]:
    """Inside, a row's bits depend on the row alone."""
    token = _WANTED.set(True)
    try:
        yield
    finally:
        _WANTED.reset(token)
