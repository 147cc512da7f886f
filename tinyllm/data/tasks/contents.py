"""What instructions are about: numbers, codes, people, places, and the rule that keeps the test set apart.

    split(key) = "test" if crc32(key) mod 5 == 0 else "train"

The key is the content itself: a code, a pair or a set of numbers, a first name with a last name. So one and the same content
is on one side in every task and in every process, whatever the order in which it was drawn, and a model that has learned
its training set by heart gains nothing on the test set. Parts are shared, combinations are not: "Anna" and "Reed" are
known from training, "Anna Reed" is not. Codes ("KVG") have no meaning, so a spelling cannot be known but must be read;
their letters are those that tokenizers seldom join, so that it can be read.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

SPLITS = ("train", "test")
TEST_SHARE = 5  # one content in five is held out
LETTERS = "BDFGHJKLMPQRVWXZ"
FIRST_NAMES = "Anna Ben Carla David Emma Frank Grace Henry Irene James Kate Leo Mary Nora Oscar Paul Rosa Sam Tina Victor".split()
LAST_NAMES = "Adams Brown Cole Dean Evans Ford Gray Hill Jones King Lane Moore Nash Owen Price Reed Scott Todd West Young".split()
TOWNS = "Paris Rome Oslo Cairo Lima Delhi Tokyo Berlin Madrid Dublin Vienna Geneva Boston Dallas Havana Quito".split()
WORDS = (
    "line name file time type path data text value key node tree table class string size point page work book door hand "
    "light water stone river paper letter house road field garden music story train clock glass window bridge"
).split()


def split_of(key: str) -> str:
    """The side, "train" or "test", on which a content lies: a function of its text alone."""
    return "test" if zlib.crc32(key.encode()) % TEST_SHARE == 0 else "train"


def draw(make: Callable[[np.random.Generator], str], *, split: str, rng: np.random.Generator) -> str:
    """Draws from `make` until the content lies in `split`; a fifth of all contents is "test", so it takes a few draws."""
    while split_of(content := make(rng)) != split:
        pass
    return content


def pick(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    """One of `choices`, each as likely."""
    return choices[int(rng.integers(len(choices)))]


def subset(choices: Sequence[Any], size: int, rng: np.random.Generator) -> list[Any]:
    """`size` different ones of `choices`, in random order."""
    return [choices[int(i)] for i in rng.permutation(len(choices))[:size]]


def person(rng: np.random.Generator) -> str:
    """A first name and a last name."""
    return f"{pick(FIRST_NAMES, rng)} {pick(LAST_NAMES, rng)}"
