"""What a recipe tells while it works: one event after the other, to a function of the caller's.

    finetune("runs/mine", ["chats.jsonl"], out="runs/chat", show=print)

Said      a sentence about what was read or left out       Counted   so many done, of so many
Stepped   a step of training, an evaluation on held-out data, or a sample of what the model writes by then
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tinyllm.recipes.samples import SampleRecord
from tinyllm.training import EvalRecord, StepRecord

Record = StepRecord | EvalRecord | SampleRecord


@dataclass(frozen=True)
class Said:
    """A sentence. `aside`: not about the work itself, so it does not belong among a program's results."""

    text: str
    aside: bool = False


@dataclass(frozen=True)
class Counted:
    """`done` of `total` (None: nobody knows) `unit`s of some work are done. `facts`: what is being done, in a word or two."""

    label: str
    done: int
    total: int | None = None
    unit: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stepped:
    """A record of training. `metrics`: the metrics of a step that tell how it goes, each with a short name."""

    label: str
    record: Record
    total: int
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chapter:
    """A stage of a longer work begins: its number, its title, and why it is."""

    number: int
    title: str
    why: str


Event = Said | Counted | Stepped | Chapter
Show = Callable[[Event], None]


def silent(event: Event) -> None:
    """Show nothing."""


def counting(show: Show, label: str, *, total: int | None = None, unit: str = "") -> Callable[..., None]:
    """A callback for a function that reports done, or (done, total)."""

    def report(done: int, of: int | None = None) -> None:
        show(Counted(label, done, total if of is None else of, unit))

    return report


def watched(
    records: Iterator[Record], show: Show, *, label: str, total: int, metrics: Mapping[str, str] | None = None
) -> EvalRecord | None:
    """Go through the records, show each, and return the last evaluation, if there was one."""
    last = None
    for record in records:
        show(Stepped(label, record, total, metrics or {}))
        if isinstance(record, EvalRecord):
            last = record
    return last
