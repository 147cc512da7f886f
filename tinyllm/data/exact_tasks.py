"""Small tasks whose right answer a program knows: arithmetic, letters, numbers in order, words in reverse.

A task is a function that draws the content and works out the answer, and a table of phrasings, some for training and
others for the test. A phrasing seen in training never stands in the test set and no content does either (`made_up.py`),
so what is measured is whether the model understood what it was asked, not whether it remembers. Answers are bare ("91",
not "The answer is 91."), so that right and wrong can be told by comparing strings (exact match).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinyllm.data.made_up import WORDS, call_sign, draw, number_in_words, pick

Fields = dict[str, str]


@dataclass(frozen=True)
class Phrasing:
    """How something is asked, what is right then, and the working that leads there; all filled in from the fields.

    A network does a fixed amount of work a token; working written down gives it tokens to do more in (Nye et al. 2021,
    "Show your work: scratchpads").
    """

    prompt: str
    answer: str = "{answer}"
    work: str = ""


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


def phrased(*prompts: str, answer: str = "{answer}", work: str = "") -> tuple[Phrasing, ...]:
    """Phrasings that share an answer."""
    return tuple(Phrasing(prompt, answer, work) for prompt in prompts)


def pair(rng: np.random.Generator, split: str, *, below: int = 100) -> tuple[int, int]:
    """Two numbers from 0, on the same side for (a, b) and (b, a), in digits and in words."""
    key = draw(lambda r: " ".join(map(str, sorted(r.integers(0, below, 2).tolist()))), split=split, rng=rng)
    low, high = map(int, key.split())
    return (low, high) if rng.random() < 0.5 else (high, low)


def add(rng: np.random.Generator, split: str) -> Fields:
    """34 + 57 -> 4+7=11 3+5+1=9 so 91."""
    a, b = pair(rng, split)
    return {"a": str(a), "b": str(b), "work": add_by_digits(a, b), "answer": str(a + b)}


def add_by_digits(a: int, b: int) -> str:
    """Column addition as it is done on paper, units first, the carry written down: 4+7=11 3+5+1=9."""
    carry = (a % 10 + b % 10) // 10
    tens = f"{a // 10}+{b // 10}+1" if carry else f"{a // 10}+{b // 10}"
    return f"{a % 10}+{b % 10}={a % 10 + b % 10} {tens}={a // 10 + b // 10 + carry}"


def subtract(rng: np.random.Generator, split: str) -> Fields:
    """91 - 34 -> 11-4=7 8-3=5 so 57, never below 0."""
    b, a = sorted(pair(rng, split))
    return {"a": str(a), "b": str(b), "work": subtract_by_digits(a, b), "answer": str(a - b)}


def subtract_by_digits(a: int, b: int) -> str:
    """Column subtraction, a >= b, with ten borrowed from the tens where needed: 11-4=7 8-3=5."""
    borrowed = a % 10 < b % 10
    units, tens = a % 10 + 10 * borrowed, a // 10 - borrowed
    return f"{units}-{b % 10}={units - b % 10} {tens}-{b // 10}={tens - b // 10}"


def add_in_words(rng: np.random.Generator, split: str) -> Fields:
    """thirty-four and twelve -> 34+12 4+2=6 3+1=4 46 so forty-six."""
    a, b = pair(rng, split, below=50)
    work = f"{a}+{b} {add_by_digits(a, b)} {a + b}"
    return {"a": number_in_words(a), "b": number_in_words(b), "work": work, "answer": number_in_words(a + b)}


def number(rng: np.random.Generator, split: str) -> Fields:
    """347 and three hundred and forty-seven."""
    digits = draw(lambda r: str(r.integers(0, 1000)), split=split, rng=rng)
    return {"digits": digits, "words": number_in_words(int(digits))}


def letters(rng: np.random.Generator, split: str) -> Fields:
    """All that is asked of a call sign: its letters apart, in reverse, how many there are."""
    sign = draw(call_sign, split=split, rng=rng)
    absent = sorted(set("AEIOU") - set(sign)) or ["X"]
    letter = str(pick(absent, rng) if rng.random() < 0.2 else pick(list(sign), rng))
    apart = {"apart": " ".join(sign), "reverse": " ".join(sign[::-1])}
    return {"sign": sign, **apart, "letter": letter, "length": str(len(sign)), "times": str(sign.count(letter))}


def numbers(rng: np.random.Generator, split: str) -> Fields:
    """3 or 4 different numbers from 1 to 99, in random order and sorted; which set it is decides the side."""

    def distinct(r: np.random.Generator) -> str:
        return " ".join(map(str, sorted(r.choice(np.arange(1, 100), size=r.integers(3, 5), replace=False).tolist())))

    ordered = draw(distinct, split=split, rng=rng).split()
    return {"numbers": " ".join(rng.permutation(ordered)), "up": " ".join(ordered), "largest": ordered[-1]}


def sequence(rng: np.random.Generator, split: str) -> Fields:
    """A call sign, some numbers or some words, to be repeated."""
    which = int(rng.integers(3))
    text = (letters, numbers, words)[which](rng, split)[("sign", "numbers", "words")[which]]
    return {"text": text, "answer": text}


def words(rng: np.random.Generator, split: str) -> Fields:
    """3 or 4 words, and the same in reverse."""
    key = draw(lambda r: " ".join(sorted(r.choice(WORDS, size=r.integers(3, 5), replace=False))), split=split, rng=rng)
    order = rng.permutation(key.split()).tolist()
    return {"words": " ".join(order), "reverse": " ".join(order[::-1]), "last": order[-1], "first": order[0]}


TASKS = (
    Task(
        "repeat",
        sequence,
        phrased(
            "Repeat: {text}", "Say {text} again.", "Repeat after me: {text}", "Copy {text}.", "Write {text} once more.",
            "Echo {text}.",
        ),
        phrased("Repeat {text} once more.", "Copy after me: {text}"),
    ),
    Task(
        "add",
        add,
        phrased(
            "What is {a} + {b}?", "{a} + {b} =", "Add {a} and {b}.", "Work out {a} + {b}.", "How much is {a} plus {b}?",
            "What is the sum of {a} and {b}?", "Give the sum: {a} + {b}", "{a} plus {b} makes what?", work="{work}",
        ),
        phrased("How much is {a} + {b}?", "Work out the sum of {a} and {b}.", work="{work}"),
    ),
    Task(
        "subtract",
        subtract,
        phrased(
            "What is {a} - {b}?", "{a} - {b} =", "Subtract {b} from {a}.", "Work out {a} - {b}.", "How much is {a} minus {b}?",
            "Take {b} away from {a}.", "Give the difference: {a} - {b}", "{a} minus {b} makes what?", work="{work}",
        ),
        phrased("How much is {a} - {b}?", "Work out {a} minus {b}.", work="{work}"),
    ),
    Task(
        "add in words",
        add_in_words,
        phrased(
            "In words, what is {a} plus {b}?", "Add {a} and {b}, in words.", "In words: {a} plus {b}",
            "How much is {a} and {b}? Answer in words.", "What is the sum of {a} and {b}, in words?",
            "{a} plus {b} makes what? Say it in words.", work="{work}",
        ),
        phrased("What is {a} plus {b}? Say it in words.", "In words, how much is {a} and {b}?", work="{work}"),
    ),
    Task(
        "digits to words",
        number,
        phrased(
            "Write {digits} in words.", "Spell out the number {digits}.", "What is {digits} in words?", "In words: {digits}",
            "How do you say {digits}?", "Say the number {digits} in words.", answer="{words}",
        ),
        phrased("Say {digits} in words.", "How do you write the number {digits} in words?", answer="{words}"),
    ),
    Task(
        "words to digits",
        number,
        phrased(
            "Write {words} in digits.", "What is {words} in digits?", "In digits: {words}", "Give {words} as a number in digits.",
            "Which number is {words}? Use digits.", "Turn {words} into digits.", answer="{digits}",
        ),
        phrased("Give {words} in digits.", "How do you write {words} in digits?", answer="{digits}"),
    ),
    Task(
        "spell",
        letters,
        phrased(
            "Spell {sign}.", "Spell the call sign {sign}.", "Which letters are in {sign}?",
            "Write the letters of {sign} one by one.", "How do you spell {sign}?", "Give the letters of {sign}.",
            "Take {sign} apart into letters.", answer="{apart}",
        ),
        phrased("How is {sign} spelled? Spell it.", "Write the letters of the call sign {sign}.", answer="{apart}"),
    ),
    Task(
        "join letters",
        letters,
        phrased(
            "Join the letters {apart}.", "Which call sign is {apart}?", "Put the letters {apart} together.",
            "Write {apart} as one word.", "What do the letters {apart} make?", "Make one word of {apart}.", answer="{sign}",
        ),
        phrased("Put {apart} together as one word.", "Which word do the letters {apart} make?", answer="{sign}"),
    ),
    Task(
        "reverse letters",
        letters,
        phrased(
            "Spell {sign} backwards.", "Write {sign} backwards.", "Reverse the letters of {sign}.", "What is {sign} in reverse?",
            "Give the letters of {sign} from the last to the first.", "Turn {sign} around.", answer="{reverse}", work="{apart}",
        ),
        phrased(
            "Give the letters of {sign} backwards.", "Write the letters of {sign} in reverse.", answer="{reverse}", work="{apart}"
        ),
    ),
    Task(
        "count letters",
        letters,
        (
            *phrased(
                "How many letters has {sign}?", "Count the letters of {sign}.", "How long is the call sign {sign}?",
                "What is the number of letters in {sign}?", "How many letters are there in {sign}?",
                answer="{length}", work="{apart}",
            ),
            *phrased(
                "How many times is {letter} in {sign}?", "How often is there a {letter} in {sign}?",
                "Count every {letter} in {sign}.", "How often does the letter {letter} stand in {sign}?",
                answer="{times}", work="{apart}",
            ),
        ),
        (
            *phrased("Give the number of letters in {sign}.", answer="{length}", work="{apart}"),
            *phrased("How many times does the letter {letter} stand in {sign}?", answer="{times}", work="{apart}"),
        ),
    ),
    Task(
        "sort numbers",
        numbers,
        phrased(
            "Sort these numbers: {numbers}", "Put in order: {numbers}", "Sort {numbers} from small to large.",
            "Write in rising order: {numbers}", "Order the numbers {numbers}.", "Arrange {numbers} by size, smallest first.",
            answer="{up}",
        ),
        phrased("Put the numbers {numbers} in order.", "Sort by size: {numbers}", answer="{up}"),
    ),
    Task(
        "largest number",
        numbers,
        phrased(
            "Which is the largest of {numbers}?", "Largest of these: {numbers}", "What is the maximum of {numbers}?",
            "Give the largest number: {numbers}", "Find the maximum: {numbers}", answer="{largest}",
        ),
        phrased("Which number is the largest: {numbers}", "Find the largest of {numbers}.", answer="{largest}"),
    ),
    Task(
        "reverse words",
        words,
        phrased(
            "Reverse the order of these words: {words}", "Reverse this list: {words}", "Write in reverse order: {words}",
            "Say from last to first: {words}", "List in reverse: {words}", "Turn this list around: {words}", answer="{reverse}",
        ),
        phrased("List these words in reverse order: {words}", "Write from last to first: {words}", answer="{reverse}"),
    ),
)
