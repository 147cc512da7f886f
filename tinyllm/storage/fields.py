"""What a field of a settings object may hold. Each check is a ValueError with the field, what was expected, and what came."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from tinyllm.storage.explain import suggestion


def check_whole(config: Any, *names: str, low: int, high: int | None = None, optional: bool = False, hint: str = "") -> None:
    """Whole numbers from `low`, up to `high`; a bool is none. None only where `optional`."""
    for name in names:
        value = _plain(config, name)
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not (optional and value is None) and not (whole and low <= value and (high is None or value <= high)):
            refuse(name, value, f"a whole number {_bounds(low, high)}", optional=optional, hint=hint)


def check_number(
    config: Any, *names: str, low: float | None = None, high: float | None = None, above: float | None = None,
    below: float | None = None, optional: bool = False, hint: str = "",
) -> None:  # fmt: skip
    """Finite numbers from `low` up to `high`, `above` one and `below` the other. None only where `optional`."""
    for name in names:
        value = _plain(config, name)
        fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        fits = fits and (low is None or value >= low) and (high is None or value <= high)
        fits = fits and (above is None or value > above) and (below is None or value < below)
        if not fits and not (optional and value is None):
            bounds = _bounds(low, high, above, below) or "that is finite"
            refuse(name, value, f"a number {bounds}", optional=optional, hint=hint)


def check_choice(config: Any, name: str, choices: Iterable[str]) -> None:
    """One of the choices. The nearest is named."""
    value, known = getattr(config, name), list(choices)
    if value not in known:
        refuse(name, value, f"one of {', '.join(known)}", hint=suggestion(str(value), known))


def refuse(name: str, value: Any, expected: str, *, optional: bool = False, hint: str = "") -> None:
    """The ValueError itself."""
    raise ValueError(f"{name} must be {expected}{' or None' if optional else ''}, got {value!r}{hint}")


def _plain(config: Any, name: str) -> Any:
    """The field's value, which stays there as Python's own number where it was NumPy's: files hold no other."""
    value = getattr(config, name)
    if isinstance(value, numbers.Number) and hasattr(value, "item"):
        value = value.item()  # type: ignore[attr-defined]
        object.__setattr__(config, name, value)
    return value


def _bounds(low: float | None, high: float | None, above: float | None = None, below: float | None = None) -> str:
    if low is not None and high is not None:
        return f"from {low:g} to {high:g}"
    words = (("of at least", low), ("above", above), ("at most", high), ("below", below))
    return " and ".join(f"{word} {bound:g}" for word, bound in words if bound is not None)
