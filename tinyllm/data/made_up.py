"""What instructions are about: numbers, call signs, made-up names, and the rule that keeps the test set apart.

    split(key) = "test" if crc32(key) mod 5 == 0 else "train"

The key is the content itself (a call sign, a pair of numbers, a name), so that one and the same content is on one side
in every task and in every process, whatever the order in which it was drawn. A model that has learned its training set
by heart gains nothing on the test set. Call signs ("KVORT") are letters without a meaning, so that a spelling cannot be
known but has to be read; names ("Mirabel") are made of syllables, so that there are thousands of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

SPLITS = ("train", "test")
TEST_SHARE = 5  # one content in five is held out
CONSONANTS, VOWELS = "BCDFGHKLMNPRSTVWZ", "AEIOU"
SYLLABLES = (
    ("Ba", "Be", "Da", "Do", "El", "Fa", "Ga", "Ha", "Jo", "Ka", "Le", "Li", "Ma", "Mi", "No", "Pe", "Ra", "Ro", "Sa", "Ta"),
    ("bi", "da", "de", "fo", "la", "li", "ma", "mi", "na", "no", "ra", "ri", "ro", "sa", "te", "ti", "va", "vi", "ze"),
    ("bel", "dan", "das", "ger", "lan", "lin", "mar", "mon", "nas", "nor", "ra", "ren", "rik", "ron", "sa", "ton", "vin"),
)
WORDS = tuple(dict.fromkeys(
    "line name list file time type path code test data text value key node tree table class string number order size "
    "point first last next word page work book door hand light water stone river paper letter house road field garden "
    "music story city ship train clock bread green black white small large open close begin end left right north south "
    "table group level image color sound space event state color title index array block event frame input output".split()
))
UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen " \
    "eighteen nineteen".split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()


def split_of(key: str) -> str:
    """The side, "train" or "test", on which a content lies: a function of its text alone."""
    return "test" if zlib.crc32(key.encode()) % TEST_SHARE == 0 else "train"


def draw(make: Callable[[np.random.Generator], str], *, split: str, rng: np.random.Generator) -> str:
    """Draws from `make` until the content lies in `split`; a fifth of all contents is "test", so it takes a few draws."""
    while split_of(content := make(rng)) != split:
        pass
    return content


def pick(choices: tuple | list, rng: np.random.Generator) -> object:
    """One of `choices`, each as likely."""
    return choices[int(rng.integers(len(choices)))]


def call_sign(rng: np.random.Generator) -> str:
    """4 or 5 upper-case letters, about two vowels in five."""
    letters = [str(pick(list(VOWELS if rng.random() < 0.4 else CONSONANTS), rng)) for _ in range(rng.integers(4, 6))]
    return "".join(letters)


def name(rng: np.random.Generator) -> str:
    """A name of two or three syllables: Talin, Mirabel."""
    first, middle, last = (str(pick(part, rng)) for part in SYLLABLES)
    return first + (middle if rng.random() < 0.5 else "") + last


def number_in_words(number: int) -> str:
    """0 to 999 in English: 347 -> "three hundred and forty-seven"."""
    if not 0 <= number <= 999:
        raise ValueError(f"number must be from 0 to 999, got {number}")
    if number >= 100:
        rest = f" and {number_in_words(number % 100)}" if number % 100 else ""
        return f"{UNITS[number // 100]} hundred{rest}"
    if number < 20:
        return UNITS[number]
    return TENS[number // 10] + (f"-{UNITS[number % 10]}" if number % 10 else "")
