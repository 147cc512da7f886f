"""Showing long work: a bar in a terminal (tqdm, where it is installed), otherwise a plain line every few seconds.

A log file or a pipe gets lines, never the control characters of a bar. Time left is elapsed / done · (total - done),
where both count from the first call, so that a resumed run does not credit itself with work that another did.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from tinyllm.recipes.durations import format_seconds

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """`show(done)` as work goes on, `say(text)` for a line of text in between, `close()` or `with` at the end.

    label: what is being done; total: when it is finished, None if unknown; unit: what is counted, "step" say.
    """

    def __init__(
        self, label: str, total: int | None = None, *, unit: str = "", stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        self.label, self.total, self.unit = label, total, unit
        self.stream = stream or sys.stderr
        self.clock = clock
        self._started: tuple[float, int] | None = None  # when, and at which count
        self._last_line = -SECONDS_BETWEEN_LINES
        self._shown: int | None = None
        self._bar: Any = None

    def show(self, done: int, **facts: str) -> None:
        """`done` of `total` is done; `facts` are shown beside it, such as loss="3.21"."""
        now = self.clock()
        if self._started is None:
            self._started = (now, done)
            self._last_line = now - SECONDS_BETWEEN_LINES  # the first line comes at once
            self._bar = _tqdm_bar(self.label, self.total, self.stream)
        if self._bar is not None:
            self._show_bar(done, facts)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES or (done == self.total and done != self._shown):
            self._last_line, self._shown = now, done
            self._print(self._line(done, now, facts))

    def _show_bar(self, done: int, facts: dict[str, str]) -> None:
        if self._started and self._started[1] == done and not self._bar.n:
            self._bar.initial = done
        self._bar.n, self._bar.total = done, self.total
        self._bar.set_postfix_str("  ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()), refresh=False)
        self._bar.update(0)  # draws if enough time has passed

    def _line(self, done: int, now: float, facts: dict[str, str]) -> str:
        if self.total is None:
            parts = [f"{self.label} {done:,} {self.unit}".rstrip()]
        else:
            width = len(f"{self.total:,}")
            percent = 100 * done // max(self.total, 1)
            parts = [f"{self.label} {done:>{width},}/{self.total:,} {self.unit}".rstrip(), f"{percent:>3}%"]
        parts += [f"{name.replace('_', ' ')} {value}" for name, value in facts.items()]
        return "  ".join([*parts, *self._time_left(done, now)])

    def _time_left(self, done: int, now: float) -> list[str]:
        start, first = self._started or (now, done)
        if self.total is None or done <= first or done >= self.total:
            return []
        return [f"{format_seconds((now - start) / (done - first) * (self.total - done))} left"]

    def say(self, text: str) -> None:
        """A line of text on the same stream that does not tear the bar."""
        if self._bar is not None:
            self._bar.clear()
        self._print(text)
        if self._bar is not None:
            self._bar.refresh()

    def _print(self, text: str) -> None:
        """One line. A terminal that was closed takes none, and what is being done shall live to save itself."""
        try:
            print(text, file=self.stream, flush=True)
        except OSError as error:
            if error.errno != errno.EIO:
                raise

    def close(self) -> None:
        """End the bar's line. More than once does no harm."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _tqdm_bar(label: str, total: int | None, stream: TextIO) -> Any:
    """A tqdm bar; None without tqdm, without a terminal, or when the end is not known."""
    if total is None or not stream.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}, {remaining} left"
    return tqdm(total=total, desc=label, file=stream, dynamic_ncols=True, bar_format=form)
