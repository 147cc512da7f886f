"""How time and memory grow, measured: with length, width, batch, layers, threads, and with the context when generating.

    python benchmarks/growth.py                    (--only length context, --plot growth.png; --quick for a glance)

What is expected, and drawn lightly in the plot: attention computes T² products but never stores the T x T matrix, so its
time grows as T² and its memory as T. A training step's time is proportional to the weights (width², layers) and the tokens
(batch); its memory is that of weights, gradients and moments plus the activations, so it grows slower than either at first.
A generated token reads all weights and all keys and values before it: a + b · context. Every point is a fresh process.
Memory is what the process has in RAM at its highest, above what it had after a toy step; it sees what kernels allocate too.
The exponent k of y = x^k is fitted on log-log axes through all points, and between the last two alone, where the limit shows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a file: find the project around it
    sys.path[0] = str(Path(__file__).parents[1])
from benchmarks.side_by_side import Worker, available_cores, forget_peak, resident_bytes, serve, table, undisturbed
from benchmarks.train_step import TOY, TinyTraining, random_batch

BATCH, HEADS, HEAD_WIDTH = 2, 12, 64  # of the attention that is measured: GPT-2 small's
SMALL = {"vocab_size": 65, "block_size": 64, "n_layers": 4, "n_heads": 4, "d_model": 128, "bias": False}
ROWS = 8  # batch of a training step where it does not vary
DECODER: dict[str, Any] = {"vocab_size": 256, "n_layers": 4, "n_heads": 4, "d_model": 256, "bias": False}
NEW_TOKENS = 48


@dataclass(frozen=True)
class Subject:
    """What varies, over which values, and the exponents expected in the end (None: not a power)."""

    title: str
    axis: str
    values: tuple[int, ...]
    time_exponent: float | None
    memory_exponent: float | None

    def quick(self) -> Subject:
        """The same with its first two values."""
        return Subject(self.title, self.axis, self.values[:2], self.time_exponent, self.memory_exponent)


def subjects(cores: int) -> dict[str, Subject]:
    """All that is measured, by name."""
    powers = tuple(2**i for i in range(13))
    threads = tuple(sorted({*(n for n in powers if n <= cores), cores}))
    return {
        "length": Subject("attention, forward and backward", "length T", powers[6:13], 2, 1),
        "context": Subject("generating one token", "tokens in the context", powers[6:13], None, 1),
        "width": Subject("training step", "width C", powers[6:11], 2, 2),
        "batch": Subject("training step", "batch B", powers[:7], 1, 1),
        "layers": Subject("training step", "layers L", powers[:6], 1, 1),
        "threads": Subject("training step", "threads", threads, -1, 0),
    }


# ---- the worker's part


def seconds_per_call(call: Callable[[], object], *, total: float) -> float:
    """Median seconds of a call, repeated for about `total` seconds, at least three times; the first does not count."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < total:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def attention_call(length: int) -> Callable[[], object]:
    """Self-attention of `length` positions to those before them, forward and backward."""
    from tinyllm import Tensor, ops

    rng = np.random.default_rng(0)
    qkv = Tensor(rng.standard_normal((BATCH, length, 3 * HEADS * HEAD_WIDTH), dtype=np.float32), requires_grad=True)
    gradient = rng.standard_normal((BATCH, length, HEADS * HEAD_WIDTH), dtype=np.float32)

    def call() -> None:
        qkv.grad = None
        ops.self_attention(qkv, n_heads=HEADS, visible=ops.CAUSAL).backward(gradient)

    return call


def training_call(config: dict[str, Any], *, batch: int) -> Callable[[], object]:
    """A whole training step."""
    run, rng = TinyTraining(config), np.random.default_rng(1)
    shape = {"vocab_size": config["vocab_size"], "batch": batch, "length": config["block_size"]}
    return lambda: run.step(*random_batch(rng, **shape))


def seconds_per_token(context: int) -> float:
    """Median seconds of a token that is generated after `context` others."""
    from tinyllm.decoding import generate_steps
    from tinyllm.models import GPT, GPTConfig

    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(block_size=context + NEW_TOKENS, **DECODER), rng=rng)
    prompt = rng.integers(0, DECODER["vocab_size"], (1, context - NEW_TOKENS // 2))
    times, start = [], time.perf_counter()
    for _ in generate_steps(model, prompt, temperature=0.0, max_new_tokens=NEW_TOKENS):
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    return statistics.median(times[1:])  # the first one reads the prompt


def load_code() -> None:
    """A toy step and a few toy tokens: whatever these need is compiled, or loaded, from here on."""
    training_call(TOY, batch=2)()
    seconds_per_token(NEW_TOKENS)


def measure_here(subject: str, value: int, total: float) -> dict[str, float]:
    """Seconds and bytes of one point, in this process."""
    load_code()
    forget_peak()
    base = resident_bytes()
    if subject == "context":
        seconds = seconds_per_token(value)
    elif subject == "length":
        seconds = seconds_per_call(attention_call(value), total=total)
    else:
        changes = {"width": {"d_model": value, "n_heads": max(1, value // 32)}, "layers": {"n_layers": value}}
        call = training_call({**SMALL, **changes.get(subject, {})}, batch=value if subject == "batch" else ROWS)
        seconds = seconds_per_call(call, total=total)
    return {"seconds": seconds, "bytes": resident_bytes(peak=True) - base}


# ---- the parent's part


@dataclass(frozen=True)
class Growth:
    """Seconds and bytes at each value."""

    values: tuple[int, ...]
    seconds: tuple[float, ...]
    n_bytes: tuple[float, ...]
    disturbed: int = 0  # how many points were measured while others used the cores, each time


def compile_kernels(threads: int) -> None:
    """Fill the cache of compiled kernels, in a process of its own: a compiler takes memory, and returns little of it."""
    with Worker(__file__, threads=threads) as worker:
        worker.ask("compile")


def measure(name: str, subject: Subject, *, threads: int, total: float, sweeps: int = 1) -> Growth:
    """Every point of a subject, each in a fresh process; of `sweeps` over all values the shortest time counts."""
    points: dict[int, list[dict[str, float]]] = {value: [] for value in subject.values}
    disturbed, attempts = 0, 3 if sweeps > 1 else 1  # a glance waits for nobody
    for value in subject.values * sweeps:
        with Worker(__file__, threads=value if name == "threads" else threads) as worker:
            ask = partial(Worker.ask, action="measure", subject=name, value=value, total=total)
            points[value].append(undisturbed(worker, ask, attempts=attempts))
            disturbed += worker.disturbed == attempts
    seconds = tuple(min(p["seconds"] for p in measured) for measured in points.values())
    n_bytes = tuple(statistics.median(p["bytes"] for p in measured) for measured in points.values())
    return Growth(subject.values, seconds, n_bytes, disturbed)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """k of y ~ x^k by least squares on the logarithms; nan with fewer than two points, or where y is not positive."""
    if len(x) < 2 or min(y) <= 0:
        return math.nan
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def straight_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """a, b of y ≈ a + b·x, errors counted relative to y, and the largest of them."""
    points, weights = np.array(x, float), 1 / np.array(y)
    b, a = np.polyfit(points, y, 1, w=weights)
    return float(a), float(b), float(np.max(np.abs((a + b * points) * weights - 1)))


def report(name: str, subject: Subject, growth: Growth) -> str:
    """A table of the points and a line on the exponents."""
    rows = [[subject.axis, "ms", "MB", "x time", "x memory"]]
    for value, seconds, n_bytes in zip(growth.values, growth.seconds, growth.n_bytes, strict=True):
        relative = [f"{seconds / growth.seconds[0]:.2f}", f"{n_bytes / max(growth.n_bytes[0], 1):.2f}"]
        rows.append([str(value), f"{1000 * seconds:.3f}", f"{n_bytes / 1e6:.1f}", *relative])
    parts = []
    for what, y, expected in (
        ("time", growth.seconds, subject.time_exponent), ("memory", growth.n_bytes, subject.memory_exponent)
    ):  # fmt: skip
        known = "" if expected is None else f", expected {expected:g}"
        parts.append(f"{what} {exponent(growth.values, y):.2f} (last step {exponent(growth.values[-2:], y[-2:]):.2f}{known})")
    lines = [f"\n{subject.title}, by {subject.axis}", table(rows), "exponents: " + "; ".join(parts)]
    if name == "context" and len(growth.values) > 2:
        a, b, worst = straight_line(growth.values, growth.seconds)
        lines.append(f"time of a token = {1e3 * a:.3f} ms + {1e6 * b:.3f} us x context, to within {worst:.0%}")
    if growth.disturbed:
        lines.append(f"{growth.disturbed} points were measured while other programs used the cores: do not trust the times")
    return "\n".join(lines)


# ---- the plot

TIME, MEMORY, LIGHT = "#1f6fb4", "#d9730d", "#b0b0b0"


def draw_panel(axes: Any, name: str, subject: Subject, growth: Growth) -> None:
    """One subject: time and memory, each relative to its first point, and the slopes that were expected."""
    from matplotlib.ticker import LogLocator

    x = np.array(growth.values, float)
    time_, memory = (np.array(y) / max(y[0], 1e-12) for y in (growth.seconds, growth.n_bytes))
    for y, slope in ((time_, subject.time_exponent), (memory, subject.memory_exponent)):
        if slope is not None:
            anchor = -1 if slope > 0 else 0  # growth shows in the end, what threads bring from the first one on
            axes.plot(x, y[anchor] * (x / x[anchor]) ** slope, color=LIGHT, linewidth=1, linestyle="--", zorder=1)
    if name == "context" and len(x) > 2:
        a, b, _ = straight_line(growth.values, growth.seconds)
        axes.plot(x, (a + b * x) / growth.seconds[0], color=LIGHT, linewidth=1, zorder=1)
    if name == "length":
        matrix = 4 * BATCH * HEADS * x**2 / growth.n_bytes[0]
        axes.plot(x, matrix, color=MEMORY, linewidth=0.9, linestyle=":", zorder=1, label="a T x T matrix alone")
    axes.plot(x, time_, "o-", color=TIME, markersize=4, label=f"time, 1 = {1000 * growth.seconds[0]:.3g} ms")
    axes.plot(x, memory, "s-", color=MEMORY, markersize=4, label=f"memory, 1 = {growth.n_bytes[0] / 1e6:.3g} MB")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.set_ylim(0.7 * min(*time_, *memory), 1.5 * max(*time_, *memory))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_title(subject.title, loc="left", fontsize=10)
    axes.set_xlabel(subject.axis)
    axes.grid(color="#ececec", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8)


def draw(path: Path, growths: dict[str, Growth], *, chosen: dict[str, Subject]) -> None:
    """All subjects in one picture."""
    from matplotlib.figure import Figure

    columns = min(3, len(growths))
    rows = -(-len(growths) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, growth) in zip(panels, growths.items(), strict=False):
        draw_panel(axes, name, chosen[name], growth)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in panels[len(growths) :]:
        axes.set_visible(False)
    panels[0].set_ylabel("times the first point")
    figure.savefig(path, dpi=130)


def main(only: list[str], *, threads: int, plot: Path | None, quick: bool = False) -> dict[str, Growth]:
    """Measure the subjects named in `only`, print a table each, draw the plot; returns the points."""
    chosen = {name: subject.quick() if quick else subject for name, subject in subjects(threads).items() if name in only}
    compile_kernels(threads)
    growths = {}
    for name, subject in chosen.items():
        growths[name] = measure(name, subject, threads=threads, total=0.02 if quick else 0.4, sweeps=1 if quick else 3)
        print(report(name, subject, growths[name]), flush=True)
    if plot and importlib.util.find_spec("matplotlib"):
        draw(plot, growths, chosen=chosen)
        print(f"\ndrawn: {plot}")
    elif plot:
        print("\nno plot: matplotlib is not installed (pip install -e '.[test]')")
    return growths


if __name__ == "__main__":
    names = list(subjects(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="what to vary (default: all)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of each point (default: all cores)")
    parser.add_argument("--plot", type=Path, default=Path("growth.png"), help="where to draw (default growth.png)")
    parser.add_argument("--quick", action="store_true", help="two points each, hardly repeated: does it run?")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        serve({"measure": measure_here, "compile": load_code})
    else:
        main(args.only, threads=args.threads, plot=args.plot, quick=args.quick)
