"""Turns: every candidate runs a little, then the next one, round after round, and the median of its rounds counts.

A computer is not equally fast all the time: it warms up, other programs come and go. Whoever is timed all at once at a bad
moment looks slow; when all take turns, a bad moment meets everybody, and the median forgets it. Before a turn we wait until
the threads of the last one sleep (NumPy's BLAS, PyTorch and Numba have a pool each, and idle threads spin for a while, on
cores that the next one needs: OpenBLAS's for a tenth of a second); then some calls go untimed: they wake the own threads and
fill the caches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

WARMING = 0.025  # seconds of untimed calls: two threads that were woken on one core must first be moved apart
TURN = 0.008  # seconds of timed calls
SLOW = 0.05  # seconds a call; slower ones need no warming up
MOST = 1.2  # seconds that one candidate may use; from then on it sits out, but never before LEAST rounds
LEAST = 3

Call = Callable[[], object]


def take_turns(calls: Mapping[str, Call], *, rounds: int) -> dict[str, list[float]]:
    """Seconds per call of every candidate, a number for each round. Every second round goes backwards."""
    once = {name: min(seconds(call) for _ in range(2)) for name, call in calls.items()}  # the first one may compile
    measured: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            if turn < LEAST or turn * once[name] < MOST:
                measured[name].append(one_turn(calls[name], slow=once[name] > SLOW))
    return measured


def one_turn(call: Call, *, slow: bool) -> float:
    """Seconds of a call: the median of those in a turn, one right after the other. A slow one is called once."""
    wait_for_quiet()
    if slow:
        return seconds(call)
    calls_for(WARMING, call)
    return statistics.median(calls_for(TURN, call))


def seconds(call: Call) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def calls_for(duration: float, call: Call) -> list[float]:
    """Call again and again for `duration` seconds, three times at least; the seconds of each call."""
    taken: list[float] = []
    total = 0.0
    while len(taken) < 3 or total < duration:
        taken.append(seconds(call))
        total += taken[-1]
    return taken


def wait_for_quiet(*, pause: float = 0.012, longest: float = 0.4) -> None:
    """Return as soon as no thread of this process works: the process's time (of all threads) stands still.

    The time of a thread that runs on another core is brought up to date every 4 or 10 ms only: a shorter pause sees nothing.
    """
    end = time.perf_counter() + longest
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(pause)
        if time.process_time() - before < 0.1 * pause:
            return
