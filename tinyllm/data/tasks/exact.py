"""Small tasks whose right answer a program knows: letters apart, digits in order, words in reverse.

A task is a function that draws the content and works out the answer, and a table of phrasings, some for training and
others for the test. A phrasing seen in training never stands in the test set and no content does either (`made_up.py`):
parts are shared, combinations are not. So what is measured is whether the model understood what it was asked, not whether it
remembers. Answers are bare ("K V G", not "It is spelled K V G."), so that right and wrong can be told by comparing strings (exact
match). The tasks are those that a network of a million weights learns in minutes, almost without a fault: it is to do a few
things right, and to say of all others that it does not know them (`talk_tasks.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.data.tasks.contents import LETTERS, WORDS, draw, subset

Fields = dict[str, str]


@dataclass(frozen=True)
class Phrasing:
    """How something is asked, and what is right then; both are filled in from the content's fields."""

    prompt: str
    answer: str = "{answer}"


@dataclass(frozen=True)
class Task:
    """`draw(rng, split)` gives the fields; `train` and `test` are the phrasings of either side."""

    name: str
    draw: Callable[[np.random.Generator, str], Fields]
    train: tuple[Phrasing, ...]
    test: tuple[Phrasing, ...]
    weight: float = 1.0  # how often it comes, against the others: what is harder to learn is shown more often

    def phrasings(self, split: str) -> tuple[Phrasing, ...]:
        """Those of one side."""
        return self.train if split == "train" else self.test


Sides = dict[str, tuple[Phrasing, ...]]  # "train" and "test"


def task(name: str, draw: Callable[[np.random.Generator, str], Fields], sides: Sides, *, weight: float = 1.0) -> Task:
    """A task from the phrasings of both sides, as `crossed` makes them."""
    return Task(name, draw, sides["train"], sides["test"], weight)


def phrased(*prompts: str, answer: str = "{answer}") -> tuple[Phrasing, ...]:
    """Phrasings that share an answer."""
    return tuple(Phrasing(prompt, answer) for prompt in prompts)


def crossed(starts: Sequence[str], ends: Sequence[str], *, answer: str = "{answer}") -> Sides:
    """Every start with every end: a quarter of the combinations for the test, each start and each end with some others."""
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for i, start in enumerate(starts):
        for j, end in enumerate(ends):
            sides["test" if (i + j) % 4 == 3 else "train"].append(start + end)
    return {split: phrased(*prompts, answer=answer) for split, prompts in sides.items()}


def joined(*crosses: Sides) -> Sides:
    """The phrasings of several crosses: things asked of the same content."""
    return {split: sum((cross[split] for cross in crosses), ()) for split in ("train", "test")}


def code(rng: np.random.Generator, split: str) -> Fields:
    """Three to five different letters, apart and together."""
    letters = draw(lambda r: "".join(subset(LETTERS, int(r.integers(3, 6)), r)), split=split, rng=rng)
    return {"code": letters, "apart": " ".join(letters)}


def digits(rng: np.random.Generator, split: str) -> Fields:
    """Three or four different digits, in random order, sorted, and the largest; which set it is decides the side."""
    key = draw(lambda r: " ".join(sorted(subset("0123456789", int(r.integers(3, 5)), r))), split=split, rng=rng)
    ordered = key.split()
    shown = subset(ordered, len(ordered), rng)
    return {"digits": _list(shown, rng), "up": key, "largest": ordered[-1], "smallest": ordered[0]}


def words(rng: np.random.Generator, split: str) -> Fields:
    """Three words, and the same in reverse; which three they are decides the side."""
    key = draw(lambda r: " ".join(sorted(subset(WORDS, 3, r))), split=split, rng=rng)
    order = subset(key.split(), 3, rng)
    return {"words": _list(order, rng), "reverse": " ".join(order[::-1]), "first": order[0], "last": order[-1]}


def _list(items: Sequence[str], rng: np.random.Generator) -> str:
    """The items with spaces between them, or, every third time, commas."""
    return (", " if rng.random() < 1 / 3 else " ").join(items)


def _named(field: str, *namings: str) -> list[str]:
    """Ways to name a list of things and then give it."""
    return [f"{naming}{{{field}}}" for naming in namings]


def _which(word: str, thing: str, field: str) -> Sides:
    """The first, last, largest or smallest of a list."""
    starts = (f"Which is the {word}", f"Say the {word}", f"The {word}", f"What is the {word}",
              f"Which {thing} is the {word}", f"Tell me the {word} {thing}", f"Find the {word} {thing}",
              f"What is the {word} {thing}")  # fmt: skip
    return crossed(starts, _named(field, ": ", " of these: ", " of ", " in this list: "), answer=f"{{{word}}}")


_SPELLED = crossed(
    ("Spell", "Say how to spell", "Tell me how to spell", "Please spell", "How do you spell", "How is this spelled:",
     "Can you spell", "Give me the letters of"),
    _named("code", " ", ": ", " the code ", " this code: "), answer="{apart}",
)  # fmt: skip
_SORTED = crossed(
    ("Sort", "Put in order", "Write in order", "Say in order", "Please sort", "Order", "Can you sort", "Arrange"),
    _named("digits", ": ", " these numbers: ", " the numbers ", " "), answer="{up}",
)  # fmt: skip
_REVERSED = crossed(
    ("Reverse", "Write in reverse", "Say in reverse", "Turn round", "Please reverse", "Write backwards", "Say backwards",
     "Can you reverse"),
    _named("words", ": ", " these words: ", " the words ", " this: "), answer="{reverse}",
)  # fmt: skip
_EXTREMES = joined(_which("largest", "number", "digits"), _which("smallest", "number", "digits"))
_PLACES = joined(_which("first", "word", "words"), _which("last", "word", "words"))
TASKS = (
    task("spell", code, _SPELLED, weight=2.0),
    task("sort", digits, _SORTED, weight=1.5),
    task("largest and smallest", digits, _EXTREMES, weight=0.7),
    task("reverse", words, _REVERSED, weight=0.8),
    task("first and last", words, _PLACES, weight=0.7),
)
