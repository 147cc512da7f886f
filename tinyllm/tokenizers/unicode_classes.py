"""To which classes each character belongs, as `regex` has it: the table that the kernels cut text by.

Unicode grows every year, and the tables of `regex`, tiktoken and Hugging Face are of different years. This one is asked from
`regex` itself, once a process (a twentieth of a second), so that the kernels and the regular expressions always agree.
"""

from functools import cache

import numpy as np
import regex

from tinyllm.kernels.text.patterns import LETTER, LOWER, NEWLINE, NUMBER, SPACE, UPPER

_CLASSES = {
    LETTER: r"\p{L}",
    NUMBER: r"\p{N}",
    SPACE: r"\s",
    NEWLINE: r"[\r\n]",
    UPPER: r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
    LOWER: r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
}
# The planes that hold letters, digits or spaces; the others are unassigned or for private use.
_ASSIGNED = (range(0xD800), range(0xE000, 0x40000), range(0xE0000, 0xE1000))


@cache
def character_classes() -> np.ndarray:
    """(0x110000,) uint8: for each code point the classes that it is in."""
    return classes_of(_CLASSES)


def classes_of(patterns: dict[int, str]) -> np.ndarray:
    """(0x110000,) uint8: for each code point the bits whose pattern it matches."""
    table = np.zeros(0x110000, np.uint8)
    codes = np.concatenate([np.array(part) for part in _ASSIGNED])
    text = "".join(map(chr, codes.tolist()))
    for bit, pattern in patterns.items():
        for run in regex.finditer(f"(?:{pattern})+", text):
            table[codes[run.start() : run.end()]] |= bit
    table.setflags(write=False)
    return table
