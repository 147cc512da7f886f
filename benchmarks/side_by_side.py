"""Two programs on one machine, in turn: each in a process of its own, and only one of them working at a time.

Two libraries in one process share the cores badly: each has a pool of threads, and a thread without work spins for a while
in case more is coming, on the core that the other library needs. So each side is a worker process. The parent asks one,
waits for its answer and until its threads sleep, then asks the other; the order is turned round in every pair, and a turn in
which somebody else used the cores is taken again. Ratios are taken pair by pair, since neighbouring turns see the same
machine, and their median is quoted with its quartiles. A process of its own also has its own peak of memory.
Protocol: a JSON object a line, {"do": name, ...} one way and {"result": ...} or {"error": text} the other.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

ROOT = Path(__file__).parents[1]
Result = TypeVar("Result")


class WorkerError(RuntimeError):
    """A worker could not do what it was asked to; the text is its own last line of error."""


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker:
    """A child process that runs `script --worker <JSON of settings>` and answers; a context manager.

    python: the interpreter, which may be that of another environment; root: the checkout whose tinyllm it imports.
    """

    def __init__(self, script: str, *, threads: int, python: str = sys.executable, root: Path = ROOT, **settings: Any):
        counts = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, **counts, "PYTHONPATH": path}
        command = [python, script, "--worker", json.dumps({"threads": threads, **settings})]
        self.disturbed = 0  # turns that were taken again, see `undisturbed`
        self.process = subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, action: str, **arguments: Any) -> Any:
        """The result of `action` in the worker, once it has gone quiet again; WorkerError with its text if it failed."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"do": action, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the worker ended (exit code {self.process.wait()}) while it was asked to {action!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        self.wait_until_asleep()
        return answer["result"]

    def wait_until_asleep(self, *, pause: float = 0.02, longest: float = 1.0) -> None:
        """Return when no thread of the worker has used a core for `pause` seconds (or after `longest`)."""
        end, before = time.monotonic() + longest, cast("int | None", -1)
        while time.monotonic() < end:
            now = core_time(self.process.pid)
            if now == before:
                return
            before = now
            time.sleep(pause if now is not None else 5 * pause)  # without /proc: simply long enough

    def close(self) -> None:
        """End the worker: it stops when its input ends."""
        self.process.communicate()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def core_time(pid: int) -> int | None:
    """Nanoseconds that all threads of a process have run so far; None where the system does not tell."""
    try:
        return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    except (OSError, ValueError, IndexError):
        return None


def busy_time() -> int | None:
    """Nanoseconds that all cores together were busy, or taken by the host, so far; None where the system does not tell."""
    try:
        user, nice, system, _idle, _waiting, *taken = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + sum(taken)) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def undisturbed(worker: Worker, turn: Callable[[Worker], Result], *, attempts: int = 4) -> Result:
    """The result of `turn(worker)`; taken again while other programs, or other guests of the host, use 5 % of the cores."""
    for _ in range(attempts):
        own, busy, start = core_time(worker.process.pid), busy_time(), time.monotonic()
        result = turn(worker)
        allowed = max(0.05 * available_cores() * (time.monotonic() - start), 0.04)  # the system counts in steps of 0.01 s
        own_after, busy_after = core_time(worker.process.pid), busy_time()
        if own is None or busy is None or own_after is None or busy_after is None:
            return result
        if (busy_after - busy) - (own_after - own) < 1e9 * allowed:
            return result
        worker.disturbed += 1
    return result


def serve(actions: Mapping[str, Callable[..., Any]]) -> None:
    """Be a worker: answer each line of standard input by `actions[name](**arguments)` until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": actions[request.pop("do")](**request)}
        except Exception as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {lines[0]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


# ---- memory


def resident_bytes(*, peak: bool = False) -> int:
    """Memory of this process that lies in RAM now, or its highest so far (since `forget_peak`)."""
    try:
        text = Path("/proc/self/status").read_text()
        return 1024 * int(text.split("VmHWM:" if peak else "VmRSS:")[1].split()[0])
    except (OSError, IndexError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Give back what was freed, and let the peak start again from there; does nothing where the system does not offer it."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
    except (OSError, AttributeError, TypeError):
        pass
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


# ---- turns and ratios


def take_turns(turns: Mapping[str, Callable[[], float]], *, rounds: int) -> Iterator[dict[str, float]]:
    """Yield {name: result} a round; every second round goes through the names backwards."""
    for index in range(rounds):
        names = [*turns] if index % 2 == 0 else [*turns][::-1]
        results = {name: turns[name]() for name in names}
        yield {name: results[name] for name in turns}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def with_quartiles(values: Sequence[float], *, digits: int = 2) -> str:
    """A median and how far it can be trusted: "1.62 (1.60 to 1.65)"."""
    low, middle, high = quartiles(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


# ---- what the machine can do


def product_gflops(size: int = 2048, *, repeats: int = 4) -> float:
    """Best rate of a float32 matrix product (size x size) through NumPy's BLAS, in GFLOP/s: the machine's practical peak."""
    import numpy as np

    left, right = (np.random.default_rng(i).standard_normal((size, size), dtype=np.float32) for i in range(2))
    out = np.empty((size, size), np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        np.matmul(left, right, out=out)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times) / 1e9


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, the first a heading, as columns that are aligned: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        others = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *others]))
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
