"""Do labelers agree more than they would by chance? Cohen's kappa.

    κ = (p_o - p_e) / (1 - p_e)          p_o: how often both say the same; p_e: how often they would if each threw dice
                                          with the same habits, Σ_k P(a = k) P(b = k)   (Cohen 1960)
    κ_w = 1 - Σ w_ij O_ij / Σ w_ij E_ij   with w_ij = |i - j| or (i - j)²: rating 6 against 7 is half right (Cohen 1968)

1 is perfect, 0 is chance, below 0 is worse. If both always name the same single category, p_e = 1 and κ is 0/0: there was
nothing to disagree about, and the answer here is nan. InstructGPT's labelers gave the same order to 73 % of the pairs.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinyllm.labels.store import FLAGS, HIGHEST, LOWEST, Label, Place

RATINGS = tuple(range(LOWEST, HIGHEST + 1))
ORDERS = (-1, 0, 1)  # the first of two answers is worse, as good, better


@dataclass(frozen=True)
class Agreement:
    """How far two series of labels agree. Kappas are nan where nothing can be said.

    ratings  κ with quadratic weights over the answers;  order  κ over {worse, tie, better} of all pairs of answers
    same_order  the plain share of those pairs;  flags  name -> κ
    """

    n_items: int
    n_answers: int
    ratings: float
    order: float
    same_order: float
    flags: Mapping[str, float]


def confusion_matrix(first: Sequence[int], second: Sequence[int], *, categories: Sequence[int]) -> np.ndarray:
    """Counts (K, K): row = what the first said, column = what the second said about the same thing.

    ValueError if the lengths differ or a value is none of the categories.
    """
    if len(first) != len(second):
        raise ValueError(f"first has {len(first)} values, second {len(second)}; expected one of each for every thing judged")
    place = {category: i for i, category in enumerate(categories)}
    counts = np.zeros((len(place), len(place)))
    for a, b in zip(first, second, strict=True):
        if a not in place or b not in place:
            raise ValueError(f"{a if a not in place else b!r} is none of the categories {tuple(categories)}")
        counts[place[a], place[b]] += 1
    return counts


def cohen_kappa(first: Sequence[int], second: Sequence[int], *, categories: Sequence[int], weights: str | None = None) -> float:
    """Cohen's kappa of two series of judgements; nan if there are none, or if both name one single category.

    weights  None (a miss is a miss), "linear" or "quadratic" (distance between categories, in the order given)
    """
    observed = confusion_matrix(first, second, categories=categories)
    n = observed.sum()
    if n == 0:
        return math.nan
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / n
    cost = disagreement_costs(len(observed), weights)
    by_chance = float((cost * expected).sum())
    return math.nan if by_chance == 0 else 1.0 - float((cost * observed).sum()) / by_chance


def disagreement_costs(n_categories: int, weights: str | None) -> np.ndarray:
    """w (K, K): what it costs to say i where the other said j; 0 on the diagonal."""
    distance = np.abs(np.subtract.outer(np.arange(n_categories), np.arange(n_categories))).astype(float)
    choices = {None: (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}
    if weights not in choices:
        raise ValueError(f'weights is {weights!r}; expected None, "linear" or "quadratic"')
    return choices[weights]


def self_agreement(newest: Mapping[Place, Label], labeler: str) -> Agreement:
    """How far a labeler agrees with themselves on the items that came twice."""
    pairs = []
    for (name, item, repetition), again in newest.items():
        before = newest.get((name, item, 0))
        if name == labeler and repetition == 1 and before is not None:
            pairs.append((before, again))
    return _agreement(pairs)


def agreement_between(newest: Mapping[Place, Label], first: str, second: str) -> Agreement:
    """How far two labelers agree on the items that both have labeled (the first time each saw them)."""
    pairs = []
    for (name, item, repetition), label in newest.items():
        other = newest.get((second, item, 0))
        if name == first and repetition == 0 and other is not None:
            pairs.append((label, other))
    return _agreement(pairs)


def labelers(newest: Mapping[Place, Label]) -> list[str]:
    """The names in a label file, each once, sorted."""
    return sorted({label.labeler for label in newest.values()})


def _agreement(pairs: Iterable[tuple[Label, Label]]) -> Agreement:
    """Agreement over pairs of labels of one item each; pairs with a skipped one do not count."""
    counted = [(a, b) for a, b in pairs if a.ratings is not None and b.ratings is not None]
    first = [rating for a, _ in counted for rating in a.ratings or ()]
    second = [rating for _, b in counted for rating in b.ratings or ()]
    orders = [_orders(a) for a, _ in counted], [_orders(b) for _, b in counted]
    one, two = (list(itertools.chain.from_iterable(each)) for each in orders)
    return Agreement(
        n_items=len(counted),
        n_answers=len(first),
        ratings=cohen_kappa(first, second, categories=RATINGS, weights="quadratic"),
        order=cohen_kappa(one, two, categories=ORDERS),
        same_order=float(np.mean(np.equal(one, two))) if one else math.nan,
        flags={flag: _flag_kappa(counted, flag) for flag in FLAGS},
    )


def _orders(label: Label) -> list[int]:
    """-1, 0 or 1 for each pair of answers: is the first rated worse, the same, better?"""
    return [int(np.sign(a - b)) for a, b in itertools.combinations(label.ratings or (), 2)]


def _flag_kappa(pairs: Iterable[tuple[Label, Label]], flag: str) -> float:
    sides: tuple[list[int], list[int]] = ([], [])
    for pair in pairs:
        for side, label in zip(sides, pair, strict=True):
            side.extend(map(int, getattr(label, flag)))
    return cohen_kappa(*sides, categories=(0, 1))


def agreement_table(newest: Mapping[Place, Label]) -> Iterator[str]:
    """A line for each labeler with themselves, and for each two of them; - where nothing can be said."""
    names = labelers(newest)
    rows = [(f"{name}, twice", self_agreement(newest, name)) for name in names]
    rows += [(f"{a} and {b}", agreement_between(newest, a, b)) for a, b in itertools.combinations(names, 2)]
    head = f"{'Cohen kappa':<28}{'items':>7}{'ratings':>9}{'order':>8}{'same order':>12}"
    yield f"{head}{'toxic':>8}{'made up':>9}{'not following':>15}"
    for name, agreement in rows:
        yield _row(name, agreement)


def _row(name: str, agreement: Agreement) -> str:
    """One line of the table; - where nothing can be said."""

    def number(value: float) -> str:
        return "-" if value != value else f"{value:.2f}"

    same = "-" if agreement.same_order != agreement.same_order else f"{agreement.same_order:.0%}"
    flags = [number(agreement.flags[flag]) for flag in ("toxic", "made_up", "not_following")]
    shown = f"{number(agreement.ratings):>9}{number(agreement.order):>8}{same:>12}{flags[0]:>8}{flags[1]:>9}{flags[2]:>15}"
    return f"{name[:27]:<28}{agreement.n_items:>7}{shown}"
