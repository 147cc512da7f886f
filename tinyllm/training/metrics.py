"""What a run reports, and the file it is written to: metrics.jsonl, one JSON object a line (storage/json_lines.py).

On resume the log is cut back to the checkpoint's step, so the log of an interrupted run is that
of an uninterrupted one, apart from the fields that measure the machine (`MACHINE_FIELDS`). What a loss function tells
besides its loss is gathered in `StepMetrics`, which the checkpoint holds too: a step that is stopped half-way is logged whole.
"""

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.storage.json_lines import append_line, read_lines, write_lines


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step. `loss` in nats a counted token, at the weights before the step."""

    step: int  # steps done, this one included
    loss: float
    learning_rate: float
    grad_norm: float  # of all gradients together, before clipping
    tokens_seen: int  # input tokens since the run began
    ms_per_step: float
    tokens_per_second: float
    memory_bytes: int  # the most the process has held so far
    metrics: dict[str, float] = field(default_factory=dict)  # what `measure` told: a reward, a clip fraction ...
    time: float = field(default_factory=time.time)  # seconds since 1970


@dataclass(frozen=True)
class EvalRecord:
    """One evaluation on the fixed validation batches, in nats a counted token."""

    step: int  # steps done before it
    val_loss: float
    best_val_loss: float  # the lowest so far, this one included
    tokens_seen: int
    seconds: float
    time: float = field(default_factory=time.time)


class StepMetrics:
    """What is told of a step besides its loss. Pass it to `train` as `measure`: called, it gives the values and begins anew.

    add    means over a micro-batch of n examples; the log gets the mean over all examples of the step
    set    values that hold for the step as a whole; the log gets the latest
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}  # name -> (Σ n · value, Σ n)
        self._values: dict[str, float] = {}

    def add(self, n: int, **values: Any) -> None:
        """Means over n examples of one micro-batch."""
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (total + n * float(value), count + n)

    def set(self, **values: Any) -> None:
        """What holds for the whole step."""
        self._values |= {name: float(value) for name, value in values.items()}

    def __call__(self) -> dict[str, float]:
        """All that was told since the last call."""
        told = self._values | {name: total / count for name, (total, count) in self._sums.items()}
        self._sums, self._values = {}, {}
        return told

    def state(self) -> dict[str, Any]:
        """What was told so far, JSON-able."""
        sums = {name: [_plain(total), count] for name, (total, count) in self._sums.items()}
        return {"sums": sums, "values": {name: _plain(value) for name, value in self._values.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; an empty one is a step of which nothing was told yet."""
        sums, values = state.get("sums", {}), state.get("values", {})
        self._sums = {name: (_number(total), float(count)) for name, (total, count) in sums.items()}
        self._values = {name: _number(value) for name, value in values.items()}


def _plain(value: float) -> float | None:
    """A number as JSON can hold it: null if it is not finite."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


Record = StepRecord | EvalRecord
MACHINE_FIELDS = frozenset({"ms_per_step", "tokens_per_second", "memory_bytes", "seconds", "time"})


def append_record(path: str | os.PathLike[str], record: Record) -> None:
    """Adds one line. A metric that is not finite is null."""
    fields = dataclasses.asdict(record)
    event = {"event": "evaluation" if isinstance(record, EvalRecord) else "step"}
    metrics = {name: _plain(value) for name, value in fields.pop("metrics", {}).items()}
    append_line(path, event | metrics | fields | event)  # a metric never hides a field


def read_records(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every whole line as a dict with "event", "step" and the record's fields; lines torn by a crash are left out.

    A missing file reads as no records.
    """
    records = (line.value for line in read_lines(path) if isinstance(line.value, dict))
    return [record for record in records if isinstance(record.get("step"), int) and "event" in record]


def keep_records(path: str | os.PathLike[str], wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites the log atomically with only the records that `wanted` accepts."""
    if Path(path).exists():
        write_lines(path, filter(wanted, read_records(path)))


def peak_memory_bytes() -> int:
    """The largest resident size of this process so far; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
