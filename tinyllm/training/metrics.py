"""What a run reports, and the file it is written to: metrics.jsonl, one JSON object a line.

Appending a line is the cheapest write that cannot harm what is already there: a crash can tear only the last line, and
a reader skips that one. On resume the log is cut back to the checkpoint's step, so the log of an interrupted run is that
of an uninterrupted one, apart from the fields that measure the machine (`MACHINE_FIELDS`).
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyllm.storage import FormatError, strict_json, write_file


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


Record = StepRecord | EvalRecord
MACHINE_FIELDS = frozenset({"ms_per_step", "tokens_per_second", "memory_bytes", "seconds", "time"})


def append_record(path: str | os.PathLike[str], record: Record) -> None:
    """Adds one line in one write. A torn last line, if there is one, is closed off first."""
    fields = dataclasses.asdict(record)
    event = {"event": "evaluation" if isinstance(record, EvalRecord) else "step"}
    line = strict_json.dump(event | fields.pop("metrics", {}) | fields | event) + b"\n"  # a metric never hides a field
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        if os.fstat(descriptor).st_size:
            os.lseek(descriptor, -1, os.SEEK_END)
            line = line if os.read(descriptor, 1) == b"\n" else b"\n" + line
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read_records(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every whole line as a dict with "event", "step" and the record's fields; lines torn by a crash are left out.

    A missing file reads as no records.
    """
    path = Path(path)
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [record for line in lines if (record := _parse(line, path)) is not None]


def _parse(line: bytes, path: Path) -> dict[str, Any] | None:
    """The record in a line, or None if the line is not whole."""
    try:
        record = strict_json.parse(line, file=path, schema=strict_json.MapOf(object))
    except FormatError:
        return None
    return record if isinstance(record.get("step"), int) and "event" in record else None


def keep_records(path: str | os.PathLike[str], wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites the log atomically with only the records that `wanted` accepts."""
    if Path(path).exists():
        records: Iterable[dict[str, Any]] = filter(wanted, read_records(path))
        write_file(path, b"".join(strict_json.dump(record) + b"\n" for record in records))


def peak_memory_bytes() -> int:
    """The largest resident size of this process so far; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
