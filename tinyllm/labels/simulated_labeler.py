"""A labeler whose taste is known: the truth plus noise, in the form a person would have left it.

    rating = 1 + #{ thresholds below (gold + ε) },   ε ~ N(0, σ²) for each answer, drawn anew on a second look

Thurstone's model of comparative judgement (1927, case V): the better of two answers is preferred with probability
Φ(Δ / (√2 σ)), where Δ is the distance of their true values. So the best accuracy any reward model can show on such labels
is known beforehand, which real labels never tell. Thresholds are fixed, not set anew for each item: a prompt whose answers
are all good gets high ratings and many ties, as with people. (Gao et al. 2023 study over-optimisation with such labels.)
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinyllm.labels.items import Item
from tinyllm.labels.store import FLAGS, Label, LabelStore, check_labeler

THRESHOLDS = (-1.5, -0.9, -0.3, 0.3, 0.9, 1.5)  # for gold values of mean 0 and standard deviation 1

Gold = Callable[[Item, str], float]
Flag = Callable[[Item, str], bool]


@dataclass(frozen=True)
class SimulatedLabeler:
    """Rates answers by `gold` plus noise. The same seed, name and item give the same label, whatever came before.

    gold        (item, answer) -> true value;   noise  standard deviation σ of what is added, in the units of gold
    thresholds  six rising numbers between the seven ratings
    flags       "toxic", "made_up", "not_following" -> the truth;   miss  probability that a true flag is overlooked
    """

    name: str
    gold: Gold
    noise: float = 0.5
    seed: int = 0
    thresholds: Sequence[float] = THRESHOLDS
    flags: Mapping[str, Flag] = field(default_factory=dict)
    miss: float = 0.0

    def __post_init__(self) -> None:
        check_labeler(self.name)
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"noise is {self.noise}; expected a standard deviation of 0 or more")
        if len(self.thresholds) != 6 or not all(a < b for a, b in itertools.pairwise(self.thresholds)):
            raise ValueError(f"thresholds are {self.thresholds}; expected six rising numbers between seven ratings")
        if not 0 <= self.miss <= 1:
            raise ValueError(f"miss is {self.miss}; expected a probability")
        if unknown := set(self.flags) - set(FLAGS):
            raise ValueError(f"flags name {sorted(unknown)}; expected some of {FLAGS}")

    def label(self, item: Item, *, repetition: int = 0) -> Label:
        """The label of one item. ValueError if gold is not a finite number for one of its answers."""
        rng = self._generator(item, repetition)
        values = np.array([self._gold(item, answer) for answer in item.answers])  # (K,)
        noisy = values + self.noise * rng.standard_normal(len(values))
        noticed = rng.random((len(FLAGS), len(values))) >= self.miss
        flags: dict[str, Any] = {
            flag: tuple(bool(sees and flag in self.flags and self.flags[flag](item, answer))
                        for sees, answer in zip(row, item.answers, strict=True))
            for flag, row in zip(FLAGS, noticed, strict=True)
        }  # fmt: skip
        return Label(
            item=item.id, fingerprint=item.fingerprint, labeler=self.name, repetition=repetition, **flags,
            ratings=tuple((1 + np.searchsorted(self.thresholds, noisy)).tolist()),
            order=tuple(rng.permutation(len(values)).tolist()), key=self._digest(item, repetition, "key").hex()[:32],
        )  # fmt: skip

    def label_all(self, items: Iterable[Item], store: LabelStore, *, repeat_every: int = 0) -> list[Label]:
        """Labels the items and writes them to the store; each `repeat_every`-th is labeled twice (0: none). Labels as saved."""
        places = ((item, 0 if first else 1) for number, item in enumerate(items)
                  for first in ((True, False) if repeat_every and number % repeat_every == 0 else (True,)))  # fmt: skip
        return store.extend(self.label(item, repetition=repetition) for item, repetition in places)

    def _gold(self, item: Item, answer: str) -> float:
        value = float(self.gold(item, answer))
        if not math.isfinite(value):
            raise ValueError(f"gold of item {item.id!r} is {value} for the answer {answer[:40]!r}; expected a finite number")
        return value

    def _digest(self, item: Item, repetition: int, purpose: str) -> bytes:
        words = "\0".join([purpose, str(self.seed), self.name, item.id, item.fingerprint, str(repetition)])
        return hashlib.sha256(words.encode()).digest()

    def _generator(self, item: Item, repetition: int) -> np.random.Generator:
        """A generator of this labeler's and item's own, so that no label depends on which came before."""
        return np.random.default_rng(int.from_bytes(self._digest(item, repetition, "noise")[:16], "little"))


def thresholds_around(golds: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """THRESHOLDS for a gold of any scale: moved and stretched to the mean and deviation of a sample of true values."""
    values = np.asarray(golds, dtype=float)
    spread = float(values.std()) or 1.0
    return tuple((values.mean() + spread * np.array(THRESHOLDS)).tolist())


def expected_pair_accuracy(distances: np.ndarray | Sequence[float], noise: float) -> float:
    """How often a noisy comparison agrees with the truth: the mean of Φ(Δ / (√2 σ)) over the pairs' true distances Δ.

    Noise free, it is 1 (and 1/2 for a pair of equals). nan if there are no pairs.
    """
    delta = np.abs(np.asarray(distances, dtype=float))
    return float(np.mean(_agree(delta, noise))) if delta.size else math.nan


def _agree(delta: np.ndarray, noise: float) -> np.ndarray:
    if noise == 0:
        return np.where(delta > 0, 1.0, 0.5)
    return _normal_cdf(delta / (math.sqrt(2) * noise))


def expected_rating_accuracy(
    golds: Iterable[Sequence[float]], noise: float, *, thresholds: Sequence[float] = THRESHOLDS
) -> float:
    """The same after rounding to ratings, ties left out: what a reward model that knows the truth would score on the labels.

    golds  for each item the true values of its answers. Each pair i, j counts by how likely it is to be no tie:
           Σ P(r_i > r_j) over pairs with gold_i > gold_j, over Σ P(r_i ≠ r_j); pairs of equal gold count half.
    Above `expected_pair_accuracy`: the closest calls tend to become ties.
    """
    agreeing = deciding = 0.0
    for values in golds:
        chances = rating_probabilities(values, noise, thresholds=thresholds)  # (K, 7)
        above = 1.0 - np.cumsum(chances, axis=1)  # P(r > k)
        wins = np.clip(above, 0.0, 1.0) @ chances.T  # wins[i, j] = Σ_k P(r_i > k) P(r_j = k)
        for i, j in itertools.combinations(range(len(values)), 2):
            right = wins[i, j] if values[i] > values[j] else wins[j, i]
            deciding += wins[i, j] + wins[j, i]
            agreeing += right if values[i] != values[j] else (wins[i, j] + wins[j, i]) / 2
    return agreeing / deciding if deciding else math.nan


def rating_probabilities(golds: Sequence[float], noise: float, *, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """P (K, 7): the chance of each rating for answers of these true values."""
    distance = np.subtract.outer(-np.asarray(golds, dtype=float), -np.asarray(thresholds, dtype=float))  # t - g
    below = _normal_cdf(distance / noise) if noise else (distance >= 0).astype(float)
    edges = np.zeros((len(below), 1)), np.ones((len(below), 1))
    return np.diff(np.concatenate([edges[0], below, edges[1]], axis=1), axis=1)


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    """Φ(x), the chance that a standard normal number is below x."""
    return np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)), otypes=[float])(x)
