"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) as a request, not an accident: finish the micro-batch, save, leave.

A signal arrives between any two instructions. Its handler only sets a flag; the loop looks at the flag where stopping is
safe, saves, and raises `Stopped`, which ends the process with 128 + the signal's number (130 for SIGINT, 143 for SIGTERM,
129 for SIGHUP, as shells expect). The second signal does not wait: KeyboardInterrupt or SystemExit at once. Only SIGHUP is
never impatient: a terminal that closes sends it more than once.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    """Context manager that catches SIGINT, SIGTERM and SIGHUP; `.received` is None or the signal's number.

    A SIGHUP that the process was started to ignore, as `nohup` does, stays ignored. Outside the main thread Python cannot
    catch signals: there it does nothing, and the main thread stays in charge.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """First signal: remember it. Second: leave now."""
        first, self.received = self.received is None, self.received or number
        if number == signal.SIGHUP:
            leave_terminal()
        elif not first:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def leave_terminal() -> None:
    """Send what is printed from now on nowhere: a write to a closed terminal fails, and the run would end before it has saved."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):  # isatty says no to one that was closed
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
