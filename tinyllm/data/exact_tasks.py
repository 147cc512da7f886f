"""Small tasks whose right answer a program knows: arithmetic, letters, numbers in order, words in reverse.

A task is a function that draws the content and works out the answer, and a table of phrasings, some for training and
others for the test. A phrasing seen in training never stands in the test set and no content does either (`made_up.py`):
parts are shared, combinations are not. So what is measured is whether the model understood what it was asked, not whether it
remembers. Answers are bare ("39", not "The answer is 39."), so that right and wrong can be told by comparing strings (exact
match). The tasks are of a size that a network of a million weights can learn in minutes: sums without a carry, codes of
three letters, lists of three words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.data.made_up import LETTERS, TENS, UNITS, WORDS, draw, number_in_words, pick, subset

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

    def phrasings(self, split: str) -> tuple[Phrasing, ...]:
        """Those of one side."""
        return self.train if split == "train" else self.test


def phrased(*prompts: str, answer: str = "{answer}") -> tuple[Phrasing, ...]:
    """Phrasings that share an answer."""
    return tuple(Phrasing(prompt, answer) for prompt in prompts)


def crossed(starts: Sequence[str], ends: Sequence[str], *, answer: str = "{answer}") -> dict[str, tuple[Phrasing, ...]]:
    """Every start with every end: a quarter of the combinations for the test, each start and each end with some others."""
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for i, start in enumerate(starts):
        for j, end in enumerate(ends):
            sides["test" if (i + j) % 4 == 3 else "train"].append(start + end)
    return {split: phrased(*prompts, answer=answer) for split, prompts in sides.items()}


def joined(*crosses: dict[str, tuple[Phrasing, ...]]) -> dict[str, tuple[Phrasing, ...]]:
    """The phrasings of several crosses: things asked of the same content."""
    return {split: sum((cross[split] for cross in crosses), ()) for split in ("train", "test")}


def _two(rng: np.random.Generator, split: str) -> tuple[int, int]:
    """A number of two digits, and one of one digit that its last digit can take without a carry."""

    def two(r: np.random.Generator) -> str:
        unit = int(r.integers(0, 9))
        return f"{r.integers(1, 10)}{unit} {r.integers(1, 10 - unit)}"

    a, b = draw(two, split=split, rng=rng).split()
    return int(a), int(b)


def add(rng: np.random.Generator, split: str) -> Fields:
    """34 + 5 -> 39."""
    a, b = _two(rng, split)
    return {"a": str(a), "b": str(b), "answer": str(a + b)}


def subtract(rng: np.random.Generator, split: str) -> Fields:
    """39 - 5 -> 34: the same, from its end."""
    a, b = _two(rng, split)
    return {"a": str(a + b), "b": str(b), "answer": str(a)}


def add_in_words(rng: np.random.Generator, split: str) -> Fields:
    """twenty-three plus four -> twenty-seven, never past the next ten."""

    def three(r: np.random.Generator) -> str:
        unit = int(r.integers(1, 9))
        return f"{pick(TENS[2:], r)}-{UNITS[unit]} {UNITS[int(r.integers(1, 10 - unit))]}"

    a, b = draw(three, split=split, rng=rng).split()
    ten, unit = a.split("-")
    return {"a": a, "b": b, "answer": f"{ten}-{UNITS[UNITS.index(unit) + UNITS.index(b)]}"}


def number(rng: np.random.Generator, split: str) -> Fields:
    """347 and three hundred and forty-seven."""
    digits = draw(lambda r: str(r.integers(20, 1000)), split=split, rng=rng)
    return {"digits": digits, "words": number_in_words(int(digits))}


def code(rng: np.random.Generator, split: str) -> Fields:
    """Three different letters, apart and together."""
    letters = draw(lambda r: "".join(subset(LETTERS, 3, r)), split=split, rng=rng)
    return {"code": letters, "apart": " ".join(letters)}


def letters_of(rng: np.random.Generator, split: str) -> Fields:
    """Two to five letters, and how many they are."""
    letters = draw(lambda r: "".join(subset(LETTERS, int(r.integers(2, 6)), r)), split=split, rng=rng)
    return {"letters": " ".join(letters), "answer": str(len(letters))}


def digits(rng: np.random.Generator, split: str) -> Fields:
    """Three or four different digits, in random order, sorted, and the largest; which set it is decides the side."""
    key = draw(lambda r: " ".join(sorted(subset("0123456789", int(r.integers(3, 5)), r))), split=split, rng=rng)
    ordered = key.split()
    return {"digits": " ".join(subset(ordered, len(ordered), rng)), "up": key, "largest": ordered[-1], "smallest": ordered[0]}


def words(rng: np.random.Generator, split: str) -> Fields:
    """Three words, and the same in reverse; which three they are decides the side."""
    key = draw(lambda r: " ".join(sorted(subset(WORDS, 3, r))), split=split, rng=rng)
    order = subset(key.split(), 3, rng)
    return {"words": " ".join(order), "reverse": " ".join(order[::-1]), "first": order[0], "last": order[-1]}


def _ends(field: str, thing: str) -> list[str]:
    """Four ways to name a list of things and then give it."""
    return [f"{naming}: {{{field}}}" for naming in ("", f" these {thing}", f" the {thing}", f" this list of {thing}")]


def _which(word: str, field: str) -> dict[str, tuple[Phrasing, ...]]:
    """The first, last, largest or smallest of a list."""
    starts = [f"Which is the {word}", f"Say the {word}", f"The {word}", f"What is the {word}"]
    return crossed(starts, [f": {{{field}}}", f" of these: {{{field}}}", f" one: {{{field}}}", f" one of these: {{{field}}}"],
                   answer=f"{{{word}}}")  # fmt: skip


def _converted(given: str, wanted: str) -> dict[str, tuple[Phrasing, ...]]:
    """A number in another spelling."""
    field = f"{{{given}}}"
    ends = [f" {field} in {wanted}.", f" in {wanted}: {field}", f" {field} as {wanted}.", f" as {wanted}: {field}"]
    return crossed(("Write", "Say", "Give", "Spell out"), ends, answer=f"{{{wanted}}}")


def worked_out(sign: str) -> dict[str, tuple[Phrasing, ...]]:
    """A sum, a difference or a product."""
    sums = [f" {{a}} {sign} {{b}}?", f": {{a}} {sign} {{b}}", f" this: {{a}} {sign} {{b}}", f" {{a}} {sign} {{b}} ="]
    return crossed(("What is", "How much is", "Work out", "Say what is"), sums)


_CODE = [" {code}.", ": {code}", " the code {code}.", " this code: {code}"]
TASKS = (
    Task("add", add, **worked_out("+")),
    Task("subtract", subtract, **worked_out("-")),
    Task("add in words", add_in_words, **worked_out("plus")),
    Task("digits to words", number, **_converted("digits", "words")),
    Task("words to digits", number, **_converted("words", "digits")),
    Task("spell", code,
         **crossed(("Spell", "Say how to spell", "Tell me how to spell", "Please spell"), _CODE, answer="{apart}")),
    Task("count letters", letters_of,
         **crossed(("Count", "How many are", "Say how many are", "Count all of"), _ends("letters", "letters"))),
    Task("sort", digits,
         **crossed(("Sort", "Put in order", "Write in order", "Say in order"), _ends("digits", "numbers"), answer="{up}")),
    Task("largest and smallest", digits, **joined(_which("largest", "digits"), _which("smallest", "digits"))),
    Task("reverse", words,
         **crossed(("Reverse", "Write in reverse", "Say in reverse", "Turn round"), _ends("words", "words"), answer="{reverse}")),
    Task("first and last", words, **joined(_which("first", "words"), _which("last", "words"))),
)  # fmt: skip
