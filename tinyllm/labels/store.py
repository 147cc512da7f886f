"""Labels on the disk: one JSON object a line, only ever added, each safe before anybody is told that it is saved.

A person's hour is the dearest data there is, so a record is one write(2) followed by fsync, and only then
acknowledged. A crash can leave one torn last line, which was never acknowledged: it is closed off and passed over.
The client names each label with a key of its own and repeats it after a failure; a key that is known is not written
again, so a retry is harmless ("idempotent"). Going back does not rewrite history: of the records with the same
(labeler, item, repetition) the last one counts. One process at a time may write; the lock dies with its holder.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.labels.items import Item
from tinyllm.storage import strict_json
from tinyllm.storage.atomic import sync_folder
from tinyllm.storage.json_lines import add_line, open_lines, read_lines
from tinyllm.storage.lock import lock

LOWEST, HIGHEST = 1, 7
FLAGS = ("toxic", "made_up", "not_following")
LONGEST_NAME = 80  # characters of a labeler's name
LONGEST_KEY = 64

Place = tuple[str, str, int]  # labeler, item, repetition: what one record replaces another for

_SCHEMA = {
    "key": str, "item": str, "fingerprint": str, "labeler": str, "repetition": int, "revision": int, "time": float,
    "ratings": ([int], None), "order": [int], **{flag: [bool] for flag in FLAGS},
}  # fmt: skip


@dataclass(frozen=True)
class Label:
    """What one labeler said about one item's K answers. Ratings and flags stand in the item's order, not the shown one.

    ratings      K whole numbers from 1 (worst) to 7 (best), equal ones are a tie; None: skipped
    order        order[i] is the answer that was shown in place i
    toxic ...    K yes/no flags each;   repetition  0, or 1 when the item was shown again to see whether the labeler agrees
    key          the client's own name for this label;   time  seconds since 1970;   revision  earlier labels it replaces
    """

    item: str
    fingerprint: str
    labeler: str
    ratings: tuple[int, ...] | None
    order: tuple[int, ...]
    toxic: tuple[bool, ...]
    made_up: tuple[bool, ...]
    not_following: tuple[bool, ...]
    key: str
    repetition: int = 0
    time: float = 0.0
    revision: int = 0

    def __post_init__(self) -> None:
        for name in ("ratings", "order", *FLAGS):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        _check(self)

    @property
    def place(self) -> Place:
        """(labeler, item, repetition): the newest record of a place counts."""
        return self.labeler, self.item, self.repetition

    @property
    def skipped(self) -> bool:
        """Whether the labeler passed over the item."""
        return self.ratings is None

    def says_the_same(self, other: Label) -> bool:
        """Whether both are one label sent twice: equal but for the clock and the count of revisions."""
        return dataclasses.replace(self, time=0.0, revision=0) == dataclasses.replace(other, time=0.0, revision=0)


def check_labeler(name: str) -> str:
    """The name, if it is one: 1 to 80 printable characters, no space around them. ValueError otherwise."""
    if not (isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()):
        raise ValueError(f"labeler is {str(name)[:40]!r}; expected a name of 1 to {LONGEST_NAME} printable characters")
    return name


def _check(label: Label) -> None:
    """ValueError unless the parts of a label fit together."""
    check_labeler(label.labeler)
    n_answers = len(label.order)
    if sorted(label.order) != list(range(n_answers)):
        raise ValueError(f"order is {label.order}; expected each of 0 to {n_answers - 1} once")
    if label.ratings is not None:
        whole = all(type(rating) is int and LOWEST <= rating <= HIGHEST for rating in label.ratings)
        if not whole or len(label.ratings) != n_answers:
            raise ValueError(f"ratings are {label.ratings}; expected {n_answers} whole numbers from {LOWEST} to {HIGHEST}")
    for flag in FLAGS:
        if len(getattr(label, flag)) != n_answers or not all(type(value) is bool for value in getattr(label, flag)):
            raise ValueError(f"{flag} is {getattr(label, flag)}; expected {n_answers} times true or false")
    if label.repetition not in (0, 1):
        raise ValueError(f"repetition is {label.repetition}; expected 0, or 1 for an item that came again")
    if not (isinstance(label.key, str) and 0 < len(label.key) <= LONGEST_KEY):
        raise ValueError(f"key is {str(label.key)[:40]!r}; expected 1 to {LONGEST_KEY} characters")


@dataclass(frozen=True)
class LabelFile:
    """What a label file holds: every label once, in the order written, and how many lines were passed over."""

    labels: tuple[Label, ...]
    n_duplicates: int  # lines with a key seen before
    n_torn: int  # lines cut short by a crash; none of them was acknowledged

    def newest(self) -> dict[Place, Label]:
        """The labels that count: of each place the last."""
        return {label.place: label for label in self.labels}


def read_labels(path: str | os.PathLike[str], items: Iterable[Item] | None = None) -> LabelFile:
    """Reads a label file, also while a server writes to it. Nothing is changed.

    With `items`, each label must belong to one of them, with the same prompt and answers: ValueError otherwise.
    FormatError if the file holds anything but labels.
    """
    os.stat(path)  # FileNotFoundError: no labels are not the same as no file
    return _read(path, None if items is None else {item.id: item for item in items})


def _read(path: str | os.PathLike[str], items: dict[str, Item] | None) -> LabelFile:
    labels: dict[str, Label] = {}
    n_duplicates = n_torn = 0
    for line in read_lines(path):
        if line.error is not None:
            if not line.torn:
                raise line.error
            n_torn += 1
            continue
        label = _label(line.value, path, line.number)
        _check_item(label, items, where=f"{path}: line {line.number}")
        if label.key in labels:
            n_duplicates += 1
        else:
            labels[label.key] = label
    return LabelFile(tuple(labels.values()), n_duplicates, n_torn)


def _label(value: Any, path: str | os.PathLike[str], number: int) -> Label:
    strict_json.check(value, _SCHEMA, file=path, field=f"line {number}")
    try:
        return Label(**value)
    except ValueError as error:
        raise ValueError(f"{path}: line {number}: {error}") from None


def _check_item(label: Label, items: dict[str, Item] | None, *, where: str) -> None:
    """ValueError if the label is about something else than these items."""
    if items is None:
        return
    item = items.get(label.item)
    advice = "these labels are from another prompt set; give the items that were labeled, or another file for the labels"
    if item is None:
        raise ValueError(f"{where}: the label is of item {label.item[:40]!r}, not among the {len(items)} items: {advice}")
    if item.fingerprint != label.fingerprint:
        prints = f"fingerprint {label.fingerprint[:16]}, expected {item.fingerprint}"
        raise ValueError(f"{where}: item {label.item[:40]!r} had other texts when it was labeled ({prints}): {advice}")
    if len(item.answers) != len(label.order):
        raise ValueError(f"{where}: {len(label.order)} answers labeled, item {label.item[:40]!r} has {len(item.answers)}")


class LabelStore:
    """The label file of some items, open for adding. Use as a context manager, or close it.

    ValueError if another process has it open, or if it holds labels of other items. `newest` are the labels that count.
    """

    def __init__(self, path: str | os.PathLike[str], items: Sequence[Item]):
        self.path = Path(path)
        self.items = {item.id: item for item in items}
        is_new = not self.path.exists()
        self._descriptor: int | None = open_lines(self.path)
        try:
            self._lock(self._descriptor)
            found = _read(self.path, self.items)
            os.fsync(self._descriptor)  # what is read as saved here, a retry will be told is saved
            if is_new:
                sync_folder(self.path.resolve().parent)
        except BaseException:
            self.close()
            raise
        self.n_torn = found.n_torn
        self._by_key = {label.key: label for label in found.labels}
        self.newest = found.newest()

    def _lock(self, descriptor: int) -> None:
        try:
            lock(descriptor)
        except OSError:
            text = f"{self.path} is open in another process: stop that one, or give another file for the labels"
            raise ValueError(text) from None

    def append(self, label: Label) -> Label:
        """Puts the label on the disk and returns it as written. When this returns, a crash can no longer take it.

        A key that is known returns what is already there. ValueError for another item, or a key used for something else.
        """
        return self.extend([label])[0]

    def extend(self, labels: Iterable[Label]) -> list[Label]:
        """Adds several, one write each, and one wait for the disk at the end."""
        if self._descriptor is None:
            raise OSError(f"{self.path} is closed, since the disk failed: open it again to go on")
        saved = [self._add(label) for label in labels]
        try:
            os.fsync(self._descriptor)
        except OSError:
            self.close()  # after a failed fsync nobody knows what is on the disk: only reading the file again tells
            raise
        return saved

    def _add(self, label: Label) -> Label:
        """One label, written but not yet waited for."""
        _check_item(label, self.items, where="label")
        if known := self._by_key.get(label.key):
            if not known.says_the_same(label):
                raise ValueError(f"key {label.key!r} was used for another label; give each label a key of its own")
            return known
        before = self.newest.get(label.place)
        revision = 0 if before is None else before.revision + 1
        label = dataclasses.replace(label, time=label.time or round(time.time(), 3), revision=revision)
        assert self._descriptor is not None
        add_line(self._descriptor, dataclasses.asdict(label))
        self._by_key[label.key] = self.newest[label.place] = label
        return label

    def close(self) -> None:
        """Closes the file and lets go of the lock. May be called again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
