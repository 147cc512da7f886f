"""Where a training step's time goes: which op, which kernel, and how much is Python itself.

    step  =  compiled kernels  +  Python  +  NumPy and memory

Ops tell how long they took (`observe_ops`), and so do kernels and their compiled code (`observe_kernels`). Python: the same step
of a model shrunk to a handful of numbers (`shrunk_step`), where every line of Python still runs, every NumPy function is still
called, but has nothing to do; taken right after a full step, less what its compiled code takes. Calls into NumPy count as Python,
so it is rather too high than too low. What is left is NumPy's work on arrays, page faults, and what Python loses when kernels
push its data out of the caches. Recording costs about a microsecond a call; how much longer the recorded steps take is measured,
too (`Profile.recording_ms`), and a step's total comes from steps without it.
"""

import mmap
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyllm.autograd import Call, observe_ops
from tinyllm.autograd.modes import FORWARD
from tinyllm.kernels.observe import KernelCall, observe_kernels

PHASES = ("forward", "backward", "optimizer")
BACKWARD, OP, KERNEL, CODE = range(4)  # levels of a span: Tensor.backward, an op, a kernel's door, its machine code
Step = Callable[[], Any]


@dataclass(frozen=True)
class Span:
    """One timed call: its level, its name, when it began and how long it took (seconds), bytes of the arrays it made."""

    level: int
    name: str
    start: float
    seconds: float
    n_bytes: int = 0

    @property
    def end(self) -> float:
        return self.start + self.seconds


@dataclass(frozen=True)
class Row:
    """One op in one phase, in a mean step: calls, milliseconds in all, of these in compiled kernels, bytes of new arrays.

    kernels: milliseconds of compiled code by kernel.
    """

    phase: str
    op: str
    calls: float
    milliseconds: float
    kernels: dict[str, float]
    n_bytes: float

    @property
    def kernel_ms(self) -> float:
        return sum(self.kernels.values())


@dataclass(frozen=True)
class Profile:
    """What `profile` found; times in milliseconds a step.

    plain_ms      of each step without wrappers        recorded_ms  of each step with them
    python_ms     of each shrunk step without kernels  rows         per phase and op, the longest first
    faults        page faults a step                   fault_us     what one costs here, in microseconds
    timeline      the spans of the recorded step that took the median time, from its start
    """

    plain_ms: list[float]
    recorded_ms: list[float]
    python_ms: list[float]
    rows: list[Row]
    faults: float
    fault_us: float
    timeline: list[Span]

    @property
    def milliseconds(self) -> float:
        """A step, the median."""
        return statistics.median(self.plain_ms)

    @property
    def recording_ms(self) -> float:
        """What recording added to a step, the median of neighbours' differences."""
        return statistics.median(b - a for a, b in zip(self.plain_ms, self.recorded_ms, strict=True))

    def parts(self) -> dict[str, float]:
        """ "kernels", "python" and "numpy and memory": milliseconds that add up to those of a step."""
        compiled = min(sum(row.kernel_ms for row in self.rows), self.milliseconds)
        python = min(statistics.median(self.python_ms), self.milliseconds - compiled)
        return {"kernels": compiled, "python": python, "numpy and memory": self.milliseconds - compiled - python}

    def phase_ms(self, phase: str) -> float:
        """All of a phase: its ops, and what lies between them."""
        return sum(row.milliseconds for row in self.rows if row.phase == phase)


# ---- recording ----


def _n_bytes(result: Any) -> int:
    """Bytes of the arrays in a kernel's or op's result that own their memory."""
    arrays = result if isinstance(result, tuple) else (result,)
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray) and array.base is None)


def _span_of(call: Call) -> Span:
    """What autograd tells of a call, as a span; its one walk backward is a level of its own."""
    level = BACKWARD if call.op == "backward" else OP
    return Span(level, call.op, call.start, call.seconds, _n_bytes(call.out.data if call.phase == FORWARD else call.out))


@contextmanager
def recording() -> Iterator[list[Span]]:
    """Inside, every op, kernel and backward is timed; the list that is given grows by a Span a call, inner calls first."""
    spans: list[Span] = []

    def note(call: KernelCall) -> None:
        spans.append(Span(CODE if call.compiled else KERNEL, call.name, call.start, call.seconds, _n_bytes(call.result)))

    with observe_kernels(note), observe_ops(lambda call: spans.append(_span_of(call))):
        yield spans


# ---- measuring ----


def time_steps(step: Step, *, n_steps: int, n_warm: int = 3) -> list[float]:
    """Milliseconds of each of `n_steps` steps, after `n_warm` that do not count."""
    for _ in range(n_warm):
        step()
    times = []
    for _ in range(n_steps):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    return times


def profile(step: Step, *, shrunk_step: Step, n_steps: int = 20) -> Profile:
    """Profiles `step`, a whole training step with one backward(), over 2·n_steps calls of it.

    shrunk_step  the same step of a model with the same layers, but of the smallest width, batch and context there is

    Plain, recorded and shrunk steps take turns, so that whatever else the machine does falls on all three.
    """
    for warm in (step, shrunk_step) * 3:
        warm()
    plain, recorded, shrunk, records, faults = [], [], [], [], []
    for _ in range(n_steps):
        before = page_faults()
        plain += time_steps(step, n_steps=1, n_warm=0)
        faults.append(page_faults() - before)
        (bare,) = time_steps(shrunk_step, n_steps=1, n_warm=0)
        with recording() as spans:
            shrunk_step()
        shrunk.append(max(bare - 1000 * sum(span.seconds for span in spans if span.level == leaf_of(spans)), 0.0))
        with recording() as spans:
            start = time.perf_counter()
            step()
            recorded.append(1000 * (time.perf_counter() - start))
        ordered = sorted(spans, key=lambda span: (span.start, -span.seconds))
        records.append([Span(s.level, s.name, s.start - start, s.seconds, s.n_bytes) for s in ordered])
    middle = recorded.index(statistics.median_low(recorded))
    rows = summarize(records, recorded)
    return Profile(plain, recorded, shrunk, rows, statistics.median(faults), fault_microseconds(), records[middle])


def phase_of(span: Span, timeline: list[Span]) -> str:
    """Forward until backward() begins, optimizer after it has ended."""
    walk = next((s for s in timeline if s.level == BACKWARD), None)
    if walk is None or span.start < walk.start:
        return PHASES[0]
    return PHASES[1] if span.start < walk.end else PHASES[2]


def leaf_of(spans: list[Span]) -> int:
    """The level that computes: compiled code, or a kernel's door where nothing is compiled (the NumPy twins)."""
    return CODE if any(span.level == CODE for span in spans) else KERNEL


def summarize(records: list[list[Span]], milliseconds: list[float]) -> list[Row]:
    """Rows of a mean step: for each phase its ops by time, then "between" (the phase without its ops).

    The mean is over the half of the steps nearest to the median: one that another program interrupted says nothing.
    """
    middle = statistics.median(milliseconds)
    nearest = sorted(zip(milliseconds, records, strict=True), key=lambda pair: abs(pair[0] - middle))
    chosen = nearest[: (len(nearest) + 1) // 2]
    totals: dict[tuple[str, str], list[Any]] = {}
    lengths = dict.fromkeys(PHASES, 0.0)
    for whole, spans in chosen:
        for phase, seconds in zip(PHASES, _phase_lengths(spans, whole / 1000), strict=True):
            lengths[phase] += seconds
        _add_spans(totals, spans, leaf=leaf_of(spans))
    n = len(chosen)
    rows = []
    for phase in PHASES:
        own = [
            Row(phase, op, calls / n, 1000 * seconds / n, {k: 1000 * s / n for k, s in by_kernel.items()}, n_bytes / n)
            for (where, op), (calls, seconds, by_kernel, n_bytes) in totals.items()
            if where == phase
        ]
        own.sort(key=lambda row: -row.milliseconds)
        rest = 1000 * lengths[phase] / n - sum(row.milliseconds for row in own)
        rows += [*own, Row(phase, "between", 0, max(rest, 0.0), {}, 0)]
    return rows


def _phase_lengths(spans: list[Span], whole: float) -> tuple[float, float, float]:
    walk = next((span for span in spans if span.level == BACKWARD), None)
    return (whole, 0.0, 0.0) if walk is None else (walk.start, walk.seconds, whole - walk.end)


def _add_spans(totals: dict[tuple[str, str], list[Any]], spans: list[Span], *, leaf: int) -> None:
    """One step's spans, in order of their start, added to (phase, op) -> [calls, seconds, seconds by kernel, bytes].

    A kernel outside any op is its own op; an op or kernel inside another of its kind belongs to the outer one.
    """
    ends, names = [0.0] * 4, [""] * 4  # by level: until when the last one runs, and its name
    for span in spans:
        level = span.level
        inside = [outer for outer in range(OP, level + 1) if span.start < ends[outer]]
        if level > BACKWARD and level not in inside:
            ends[level], names[level] = span.end, span.name
        if level == BACKWARD or level in inside:
            continue
        owner = names[min(inside)] if inside else span.name
        entry = totals.setdefault((phase_of(span, spans), owner), [0, 0.0, {}, 0])
        if not inside:
            entry[0] += 1
            entry[1] += span.seconds
        if level == leaf:
            kernel = names[KERNEL] if KERNEL in inside else span.name
            entry[2][kernel] = entry[2].get(kernel, 0.0) + span.seconds
        if level == KERNEL or (level == OP and not any(_within(s, span) for s in spans)):
            entry[3] += span.n_bytes


def _within(inner: Span, outer: Span) -> bool:
    return inner.level == KERNEL and outer.start <= inner.start < outer.end


# ---- memory ----


def page_faults() -> int:
    """Times so far that this process touched a page of memory that the system then had to find; 0 where nobody counts."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def fault_microseconds(n_bytes: int = 1 << 20) -> float:
    """What a page fault costs here: the first walk over fresh memory minus the second, over the faults of the first."""
    costs = []
    for _ in range(9):
        with mmap.mmap(-1, n_bytes) as fresh:
            pages = np.frombuffer(fresh, np.uint8)[:: mmap.PAGESIZE]
            times, faults = [], page_faults()
            for _ in range(2):
                start = time.perf_counter()
                pages[:] = 1
                times.append(time.perf_counter() - start)
            n = page_faults() - faults
            del pages
        costs.append(1e6 * (times[0] - times[1]) / n if n else 0.0)
    return max(statistics.median(costs), 0.0)
