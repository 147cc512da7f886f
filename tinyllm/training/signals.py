"""Ctrl-C and SIGTERM as a request, not an accident: finish the micro-batch, save, leave.

A signal arrives between any two instructions. Its handler only sets a flag; the loop looks at the flag where stopping is
safe, saves, and raises `Stopped`, which ends the process with 128 + the signal's number (130 for SIGINT, 143 for SIGTERM,
as shells expect). The second signal does not wait: KeyboardInterrupt or SystemExit at once.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any


class Stopped(SystemExit):
    """A run was asked to stop and has saved. Attributes: code (130 or 143), checkpoint (folder or None), message.

    `advice` is what to do next, the message's last words; whoever knows the command that goes on puts it there.
    """

    def __init__(self, signal_number: int, *, step: int, checkpoint: Path | None):
        super().__init__(128 + signal_number)
        self.checkpoint = checkpoint
        self.advice = "resume to go on from there" if checkpoint else "no run folder, so nothing was saved"
        saved = f"saved {checkpoint}; " if checkpoint else ""
        self._what = f"stopped by {signal.Signals(signal_number).name} after {step} steps; {saved}"

    @property
    def message(self) -> str:
        """What happened, what was saved, and what to do."""
        return self._what + self.advice

    def __str__(self) -> str:
        return self.message


class StopSignals:
    """Context manager that catches SIGINT and SIGTERM; `.received` is None or the signal's number.

    Outside the main thread Python cannot catch signals: there it does nothing, and the main thread stays in charge.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """First signal: remember it. Second: leave now."""
        if self.received is None:
            self.received = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)
