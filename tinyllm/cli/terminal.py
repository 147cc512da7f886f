"""The terminal: what a recipe tells (sentences on stdout, progress on stderr), and what a model wrote, made harmless for it."""

from __future__ import annotations

import sys
import textwrap
from types import TracebackType
from unicodedata import category

from tinyllm.cli.progress import Progress
from tinyllm.recipes.events import Chapter, Counted, Event, Said, Stepped
from tinyllm.recipes.samples import SampleRecord
from tinyllm.training import EvalRecord, StepRecord

WIDTH = 96
N_LINES, LONGEST_LINE = 6, 100  # shown of a sample
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # Unicode's direction controls


class Terminal:
    """A recipe's `show`: one progress bar at a time, ended when something else begins. Use it in a `with`."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._facts: dict[str, str] = {}
        self._speed = 0.0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Counted):
            self._on(event.label, event.total, unit=event.unit).show(event.done, **event.facts)
        elif isinstance(event, Stepped):
            self._step(event)
        else:
            self._end()
            if isinstance(event, Said):
                print(event.text, file=sys.stderr if event.aside else sys.stdout, flush=True)
            else:
                print(_heading(event), flush=True)

    def _step(self, event: Stepped) -> None:
        progress, record = self._on(event.label, event.total, unit="steps"), event.record
        if isinstance(record, StepRecord):
            self._speed = 0.9 * self._speed + 0.1 * record.tokens_per_second if self._speed else record.tokens_per_second
            own = {short: f"{record.metrics[name]:.3f}" for name, short in event.metrics.items() if name in record.metrics}
            self._facts |= {"loss": f"{record.loss:.3f}", **own}
            speed = {} if event.metrics else {"speed": f"{self._speed:,.0f} tokens/s"}
            progress.show(record.step, **self._facts, **speed)
        elif isinstance(record, EvalRecord):
            self._facts["val"] = f"{record.val_loss:.3f}"
            progress.say(f"step {record.step:,}: held-out loss {record.val_loss:.3f}")
        else:
            progress.say(sample_as_text(record))

    def _on(self, label: str, total: int | None, *, unit: str) -> Progress:
        """The bar of this label; a new one ends the last."""
        if self._progress is None or self._progress.label != label:
            self._end()
            self._progress = Progress(label, total, unit=unit)
        self._progress.total = total
        return self._progress

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.close()
        self._progress, self._facts, self._speed = None, {}, 0.0


def _heading(chapter: Chapter) -> str:
    why = textwrap.indent(textwrap.fill(chapter.why, WIDTH - 3), "   ")
    return f"\n{chapter.number}. {chapter.title}\n{why}\n"


def sample_as_text(sample: SampleRecord) -> str:
    """The beginning of a sample as an indented block of a few lines."""
    text = harmless(sample.prompt + sample.text).strip("\n")
    text = text if text.strip() else "(nothing: the text ended at once)"
    wrapped = (textwrap.wrap(line, LONGEST_LINE, drop_whitespace=False) or [""] for line in text.splitlines())
    lines = [part for parts in wrapped for part in parts]
    return "\n".join(f"  | {line}".rstrip() for line in [*lines[:N_LINES], *(["..."] if len(lines) > N_LINES else [])])


def harmless(text: str) -> str:
    """`text` for a terminal: what could move the cursor, or turn the writing around, as U+FFFD; a model may write any.

    Other invisible characters stay: joiners, without which an emoji or a Persian word falls apart, and wide spaces.
    """
    return "".join("\ufffd" if c not in "\n\t" and (category(c) in ("Cc", "Cs") or c in TURNING) else c for c in text)
