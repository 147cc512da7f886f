"""From ratings to comparisons and back: K rated answers are K (K - 1) / 2 pairs (chosen, rejected), less the ties.

A reward model learns from comparisons and not from the ratings themselves, since people agree on which of two is better
far sooner than on a number (Ouyang et al. 2022, section 3.5; Stiennon et al. 2020, appendix C). The distance of the two
ratings is kept as the pair's margin. The pair's source is the labeler, so that some labelers can be held out.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tinyllm.data.conversations.preferences import Preference
from tinyllm.labels.items import Item
from tinyllm.labels.store import HIGHEST, LOWEST, Label, Place


@dataclass(frozen=True)
class PairReport:
    """What became of the labels: pairs made, and what was left out and why."""

    n_pairs: int = 0
    n_ties: int = 0  # pairs with equal ratings
    n_same_text: int = 0  # pairs of two identical answers, rated differently all the same
    n_empty: int = 0  # pairs with an empty answer, which a model cannot be trained on
    n_skipped: int = 0  # items the labeler passed over
    n_repeated: int = 0  # second looks at an item: they measure the labeler, counting them twice would weigh them twice

    def __str__(self) -> str:
        pairs = f"{self.n_ties} ties, {self.n_same_text} of equal texts, {self.n_empty} with an empty answer"
        return f"{self.n_pairs} pairs; left out: {pairs}; {self.n_skipped} skipped items, {self.n_repeated} repeated ones"


def pairs_from_labels(newest: Mapping[Place, Label], items: Iterable[Item]) -> tuple[list[Preference], PairReport]:
    """All pairs that differ in rating, item after item (those of one prompt stand together), and the report.

    newest  the labels that count, as LabelFile.newest() gives them. ValueError for a label of another item.
    """
    pairs: list[Preference] = []
    counts = {"n_ties": 0, "n_same_text": 0, "n_empty": 0, "n_skipped": 0, "n_repeated": 0}
    items = list(items)
    by_item: dict[str, list[Label]] = {item.id: [] for item in items}
    for label in newest.values():
        if label.item not in by_item:
            raise ValueError(f"item {label.item!r} is labeled but not among the items: these labels are from another prompt set")
        by_item[label.item].append(label)
    for item in items:
        for label in by_item[item.id]:
            if label.repetition:
                counts["n_repeated"] += 1
            elif label.ratings is None:
                counts["n_skipped"] += 1
            else:
                pairs.extend(_pairs(item, label, counts))
    return pairs, PairReport(n_pairs=len(pairs), **counts)


def _pairs(item: Item, label: Label, counts: dict[str, int]) -> Iterator[Preference]:
    """K choose 2 pairs of one rated item, the better answer first."""
    ratings = label.ratings or ()
    for i, j in itertools.combinations(range(len(ratings)), 2):
        better, worse = (i, j) if ratings[i] > ratings[j] else (j, i)
        if ratings[i] == ratings[j]:
            counts["n_ties"] += 1
        elif item.answers[i] == item.answers[j]:
            counts["n_same_text"] += 1
        elif not (item.answers[i].strip() and item.answers[j].strip()):
            counts["n_empty"] += 1
        else:
            prompt = [dict(message) for message in item.prompt]
            margin = float(ratings[better] - ratings[worse])
            yield Preference(prompt, item.answers[better], item.answers[worse], margin=margin, source=label.labeler)


def labels_from_pairs(pairs: Sequence[Preference], *, labeler: str) -> tuple[list[Item], list[Label]]:
    """Each pair as an item of two answers and its label, so that people can judge the same pairs beside it.

    The ratings lie around the middle, as far apart as the margin (1 to 6, rounded; 1 where there is none). Which answer comes
    first alternates, so that the place says nothing. `pairs_from_labels` of the result has the same pairs again.
    """
    items, labels = [], []
    for number, pair in enumerate(pairs):
        distance = min(max(round(pair.margin or 1), 1), HIGHEST - LOWEST)
        low = (LOWEST + HIGHEST - distance) // 2
        answers, ratings = (pair.chosen, pair.rejected), (low + distance, low)
        if number % 2:
            answers, ratings = answers[::-1], ratings[::-1]
        item = Item(f"pair-{number:06d}", pair.prompt, answers, source=pair.source)
        items.append(item)
        labels.append(_imported(item, ratings, labeler))
    return items, labels


def _imported(item: Item, ratings: tuple[int, ...], labeler: str) -> Label:
    """The label of an imported pair, without flags: the file it comes from knew none."""
    no = (False,) * len(ratings)
    return Label(
        item=item.id, fingerprint=item.fingerprint, labeler=labeler, ratings=ratings, order=tuple(range(len(ratings))),
        toxic=no, made_up=no, not_following=no, key=f"import-{item.fingerprint}-{item.id}",
    )  # fmt: skip
