"""Small tasks whose right answer a program knows: arithmetic, letters, numbers in order, words in reverse.

A task is a function that draws the content and works out the answer, and a table of phrasings, some for training and
others for the test. A phrasing seen in training never stands in the test set and no content does either (`made_up.py`),
so what is measured is whether the model understood what it was asked, not whether it remembers. Answers are bare ("41",
not "The answer is 41."), so that right and wrong can be told by comparing strings (exact match). The tasks are of a size that a
network of a million weights can learn in minutes: one-digit carries, codes of three letters, lists of three words.
"""

from __future__ import annotations

from collections.abc import Callable
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


def _two(rng: np.random.Generator, split: str) -> tuple[int, int]:
    """A number of two digits and one of one digit."""
    key = draw(lambda r: f"{r.integers(10, 100)} {r.integers(1, 10)}", split=split, rng=rng)
    a, b = key.split()
    return int(a), int(b)


def add(rng: np.random.Generator, split: str) -> Fields:
    """34 + 7 -> 41."""
    a, b = _two(rng, split)
    return {"a": str(a), "b": str(b), "answer": str(a + b)}


def subtract(rng: np.random.Generator, split: str) -> Fields:
    """41 - 7 -> 34."""
    a, b = _two(rng, split)
    return {"a": str(a), "b": str(b), "answer": str(a - b)}


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


TASKS = (
    Task(
        "add",
        add,
        phrased("What is {a} + {b}?", "Add: {a} + {b}", "How much is {a} + {b}?", "Work out {a} + {b}."),
        phrased("Work out: {a} + {b}", "Add {a} + {b}."),
    ),
    Task(
        "subtract",
        subtract,
        phrased("What is {a} - {b}?", "Subtract: {a} - {b}", "How much is {a} - {b}?", "Work out {a} - {b}."),
        phrased("Work out: {a} - {b}", "Subtract {a} - {b}."),
    ),
    Task(
        "add in words",
        add_in_words,
        phrased("What is {a} plus {b}?", "How much is {a} plus {b}?", "Add: {a} plus {b}", "Work out {a} plus {b}."),
        phrased("Work out: {a} plus {b}", "Add {a} plus {b}."),
    ),
    Task(
        "digits to words",
        number,
        phrased("Write {digits} in words.", "What is {digits} in words?", "In words: {digits}", "Say {digits} in words.",
                "How is {digits} said in words?", "Write as words: {digits}", answer="{words}"),
        phrased("Write in words: {digits}", "How is {digits} in words?", answer="{words}"),
    ),
    Task(
        "words to digits",
        number,
        phrased("Write {words} in digits.", "What is {words} in digits?", "In digits: {words}", "Say {words} in digits.",
                "How is {words} said in digits?", "Write as digits: {words}", answer="{digits}"),
        phrased("Write in digits: {words}", "How is {words} in digits?", answer="{digits}"),
    ),
    Task(
        "spell",
        code,
        phrased("Spell {code}.", "How is {code} spelled?", "Spell the code {code}.", "Spell: {code}", "Say how {code} is spelled.",
                "How do you spell {code}?", answer="{apart}"),
        phrased("Say how you spell {code}.", "Spell the code: {code}", answer="{apart}"),
    ),
    Task(
        "count letters",
        letters_of,
        phrased("Count the letters: {letters}", "How many letters are there: {letters}", "Count these letters: {letters}",
                "How many letters: {letters}"),
        phrased("Count how many letters are there: {letters}", "How many letters are these: {letters}"),
    ),
    Task(
        "sort",
        digits,
        phrased("Sort these numbers: {digits}", "Sort: {digits}", "Put in order: {digits}", "Sort the numbers {digits}.", answer="{up}"),
        phrased("Put these numbers in order: {digits}", "Sort the numbers: {digits}", answer="{up}"),
    ),
    Task(
        "largest and smallest",
        digits,
        (
            *phrased("Which is the largest: {digits}", "Largest of {digits}?", "The largest of these: {digits}", answer="{largest}"),
            *phrased("Which is the smallest: {digits}", "Smallest of {digits}?", "The smallest of these: {digits}", answer="{smallest}"),
        ),
        (
            *phrased("Which one is the largest: {digits}", answer="{largest}"),
            *phrased("Which one is the smallest: {digits}", answer="{smallest}"),
        ),
    ),
    Task(
        "reverse",
        words,
        phrased("Reverse: {words}", "Reverse these words: {words}", "Reverse the list: {words}", "In reverse: {words}", answer="{reverse}"),
        phrased("Reverse the words: {words}", "Reverse this list of words: {words}", answer="{reverse}"),
    ),
    Task(
        "first and last",
        words,
        (
            *phrased("Which word is first: {words}", "The first of these: {words}", "Say the first word: {words}",
                      "Which of these is first: {words}", "Say which is the first: {words}", answer="{first}"),
            *phrased("Which word is last: {words}", "The last of these: {words}", "Say the last word: {words}",
                      "Which of these is last: {words}", "Say which is the last: {words}", answer="{last}"),
        ),
        (
            *phrased("Say which of these is first: {words}", answer="{first}"),
            *phrased("Say which of these is last: {words}", answer="{last}"),
        ),
    ),
)  # fmt: skip
