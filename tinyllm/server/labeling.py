"""The labeler's work, without a web: which item comes next, in which order its answers stand, and what was said of them.

Each labeler sees the items in the file's order, so that several soon have items in common. Where the answers stand is
shuffled anew for each labeler and item, since people favour the first; the order follows from a hash of both, so that going
back, or a new start of the server, shows the same page. Of every `repeat_every` items the first comes again after the last:
whoever disagrees with themselves cannot be agreed with.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyllm.labels.agreement import Agreement, agreement_between, self_agreement
from tinyllm.labels.items import Item
from tinyllm.labels.store import FLAGS, Label, LabelStore, check_labeler
from tinyllm.server.security import Refused

MOST_OTHERS = 20  # labelers one is compared with on the page


def make_schedule(items: Sequence[Item], repeat_every: int) -> list[tuple[Item, int]]:
    """(item, repetition) in the order of work: after every `repeat_every` items the first of them again; 0: none again."""
    schedule: list[tuple[Item, int]] = []
    for number, item in enumerate(items, start=1):
        schedule.append((item, 0))
        if repeat_every and number % repeat_every == 0:
            schedule.append((items[number - repeat_every], 1))
    return schedule


def shown_order(labeler: str, item: Item, repetition: int) -> list[int]:
    """order[i] = the answer that stands in place i, for this labeler, item and repetition always the same."""
    seed = int.from_bytes(_digest("order", labeler, item, repetition)[:16], "little")
    return np.random.default_rng(seed).permutation(len(item.answers)).tolist()


def _digest(purpose: str, labeler: str, item: Item, repetition: int) -> bytes:
    return hashlib.sha256("\0".join([purpose, labeler, item.id, item.fingerprint, str(repetition)]).encode()).digest()


class Labeling:
    """Tasks and labels of some items, kept in an open LabelStore. Answers and errors are what the page is told."""

    def __init__(self, items: Sequence[Item], store: LabelStore, *, repeat_every: int = 10):
        if not items:
            raise ValueError("items is empty; expected at least one item to label")
        if repeat_every < 0 or repeat_every == 1:
            raise ValueError(f"repeat_every is {repeat_every}; expected at least 2, or 0 to show no item again")
        self.store = store
        self.schedule = make_schedule(items, repeat_every)

    def task(self, labeler: str, position: int | None = None) -> dict[str, Any]:
        """What the page shows at `position` (by default the first that has no label yet), with an earlier label if there is one.

        Behind the last position: the first that has no label, or {"finished": true} if all have one.
        """
        _check_name(labeler)
        if position is None or position >= len(self.schedule):
            position = self._first_open(labeler)
        if position is None:
            return {"finished": True, "progress": self.progress(labeler)}
        item, repetition = self.schedule[position]
        order = shown_order(labeler, item, repetition)
        return {
            "finished": False,
            "position": position,
            "task": self._task_name(labeler, position),
            "prompt": [dict(message) for message in item.prompt],
            "answers": [item.answers[i] for i in order],
            "label": self._earlier(labeler, item, repetition),
            "progress": self.progress(labeler),
        }

    def save(self, labeler: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Writes a label and returns when it is safe. `body`: key, position, task, ratings (or None) and flags as shown.

        Refused: 400 if it does not fit the item, 409 if the page shows something else than we would, 507 if the disk failed.
        """
        _check_name(labeler)
        position = body["position"]
        if position >= len(self.schedule) or body["task"] != self._task_name(labeler, position):
            raise Refused(409, "the items have changed since this page was opened; load it again")
        item, repetition = self.schedule[position]
        order = shown_order(labeler, item, repetition)
        said = {name: body[name] for name in ("ratings", *FLAGS)}
        if any(values is not None and len(values) != len(order) for values in said.values()):
            raise Refused(400, f"expected {len(order)} ratings and flags, one for each answer")
        in_order: dict[str, Any] = {name: _unshuffled(values, order) for name, values in said.items()}
        label = Label(
            item=item.id, fingerprint=item.fingerprint, labeler=labeler, order=tuple(order), key=body["key"],
            repetition=repetition, **in_order,
        )  # fmt: skip
        try:
            saved = self.store.append(label)
        except ValueError as error:
            raise Refused(409, str(error)) from None
        except OSError as error:
            raise Refused(507, f"not saved: {error.strerror or error}") from None
        return {"saved": True, "key": saved.key, "revision": saved.revision, "progress": self.progress(labeler)}

    def progress(self, labeler: str) -> dict[str, Any]:
        """How far the labeler is, and how far they agree with themselves and with others."""
        newest = self.store.newest
        labels = [newest.get((labeler, item.id, repetition)) for item, repetition in self.schedule]
        compared = [(name, agreement_between(newest, labeler, name)) for name in self._companions(labeler)]
        return {
            "done": sum(label is not None for label in labels),
            "skipped": sum(label is not None and label.skipped for label in labels),
            "total": len(self.schedule),
            "self": _shown(self_agreement(newest, labeler)),
            "others": [{"labeler": name, **_shown(agreement)} for name, agreement in compared if agreement.n_items],
        }

    def _companions(self, labeler: str) -> list[str]:
        """The other labelers, those with the most items in common first; counting is cheap, kappas are not."""
        newest = self.store.newest
        common = Counter(name for name, item, repetition in newest
                         if repetition == 0 and name != labeler and (labeler, item, 0) in newest)  # fmt: skip
        return [name for name, _ in common.most_common(MOST_OTHERS)]

    def _first_open(self, labeler: str) -> int | None:
        for position, (item, repetition) in enumerate(self.schedule):
            if (labeler, item.id, repetition) not in self.store.newest:
                return position
        return None

    def _task_name(self, labeler: str, position: int) -> str:
        """Names what is shown, so that a page left open over a change of the items cannot label the wrong one."""
        return _digest("task", labeler, *self.schedule[position]).hex()[:16]

    def _earlier(self, labeler: str, item: Item, repetition: int) -> dict[str, Any] | None:
        """The label that counts so far, in the order shown; None if there is none."""
        label = self.store.newest.get((labeler, item.id, repetition))
        if label is None:
            return None
        order = shown_order(labeler, item, repetition)
        said = {name: getattr(label, name) for name in ("ratings", *FLAGS)}
        return {name: None if values is None else [values[i] for i in order] for name, values in said.items()}


def _check_name(labeler: str) -> None:
    try:
        check_labeler(labeler)
    except ValueError as error:
        raise Refused(400, str(error)) from None


def _unshuffled(values: Sequence[Any] | None, order: Sequence[int]) -> tuple[Any, ...] | None:
    """What was said place by place, in the item's own order."""
    if values is None:
        return None
    by_answer = dict(zip(order, values, strict=True))
    return tuple(by_answer[i] for i in range(len(order)))


def _shown(agreement: Agreement) -> dict[str, Any]:
    """The numbers the page shows of an agreement; JSON knows no nan."""
    kappa, same = agreement.ratings, agreement.same_order
    return {
        "items": agreement.n_items,
        "kappa": None if math.isnan(kappa) else round(kappa, 3),
        "same_order": None if math.isnan(same) else round(same, 3),
    }
