"""What a model wrote, made harmless for a terminal."""

from __future__ import annotations

from unicodedata import category

TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # Unicode's direction controls


def harmless(text: str) -> str:
    """`text` for a terminal: what could move the cursor, or turn the writing around, as U+FFFD; a model may write any.

    Other invisible characters stay: joiners, without which an emoji or a Persian word falls apart, and wide spaces.
    """
    return "".join("\ufffd" if c not in "\n\t" and (category(c) in ("Cc", "Cs") or c in TURNING) else c for c in text)
