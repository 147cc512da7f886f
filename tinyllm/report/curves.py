"""Curves of a run: a measurement at every step, faint, its smoothed curve over it, and beside it what to look for.

Smoothing is a mean over as many neighbours before as after, so that a smoothed curve does not lag behind the curve, as an
exponential average would: a falling loss would look too high.

A rollout is learned from in several steps: the step that sampled reports the answers (score, KL, length), every step
reports its update (clip fraction, ratio). Updates are therefore averaged over each rollout, whose first step has ratio 1.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinyllm.report.chart import Line
from tinyllm.report.page import figure
from tinyllm.report.page_charts import best, held_out, line_chart
from tinyllm.report.run_record import RunRecord, Series, finite

WIDE = (1000.0, 330.0)  # the size of a figure as wide as the page


@dataclass(frozen=True)
class Curve:
    """One small figure: the measurement's name, its title, and what to look for."""

    name: str
    title: str
    hint: str
    level: float | str | None = None  # a dashed line: a number, or the name of a setting
    level_text: str = ""
    bottom: float | None = None  # where the axis begins, if no value is lower; None = where the values do
    other: str = ""  # a second measurement to draw beside, in the other colour
    labels: tuple[str, str] = ("", "")  # what to call the two
    log: bool = False
    each_step: bool = False  # rather than its mean over the steps of a rollout
    noisy: bool = True  # False: as it is, not smoothed


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to `window` neighbours on each side; as many right as left, but at the end what there is."""
    sums, last = [0.0, *itertools.accumulate(values)], len(values) - 1
    reach = [(min(window, i), min(window, i, last - i)) for i in range(len(values))]
    return [(sums[i + right + 1] - sums[i - left]) / (left + right + 1) for i, (left, right) in enumerate(reach)]


def window_for(n_values: int) -> int:
    """A hundredth of the curve each way: calms the noise of single batches, but hides no bend."""
    return max(1, n_values // 100)


def light_and_smooth(name: str, series: Series, colour: int = 0, *, dots: bool = False) -> list[Line]:
    """Each value, faint (or as a dot: for few, far from each other, that are smoothed more), and the smoothed curve over them."""
    xs, ys = series
    if len(ys) < 2:
        return [Line(name, xs, ys, colour)]
    single = Line("", xs, ys, colour, dots=2.2, joined=False) if dots else Line("", xs, ys, colour, faint=True)
    return [single, Line(name, xs, smooth(ys, max(1, len(ys) // 12) if dots else window_for(len(ys))), colour)]


def per_rollout(run: RunRecord, name: str) -> Series:
    """(steps, values): means over the steps of each rollout, at the step that sampled it; single steps where none is told."""
    if not any("rollout" in record for record in run.records):
        return run.series(name)
    groups: list[tuple[float, list[float]]] = []
    for record in run.records:
        if finite(record.get("rollout")) is not None or not groups:
            groups.append((float(record["step"]), []))
        if (value := finite(record.get(name))) is not None:
            groups[-1][1].append(value)
    kept = [(step, math.fsum(values) / len(values)) for step, values in groups if values]
    return [step for step, _ in kept], [value for _, value in kept]


def curve_chart(run: RunRecord, curve: Curve) -> str:
    """One measurement against the step, with its level; "" if it was not measured."""
    steps, values = run.series(curve.name) if curve.each_step else per_rollout(run, curve.name)
    if curve.log:
        steps, values = ([point[i] for point in zip(steps, values, strict=True) if point[1] > 0] for i in (0, 1))
    if not values:
        return ""
    lines = light_and_smooth(curve.labels[0], (steps, values)) if curve.noisy else [Line(curve.labels[0], steps, values)]
    if curve.other and (other := per_rollout(run, curve.other))[1]:
        dots = held_out(*other, name=curve.labels[1])
        lines += [dots, best(dots)] if curve.other.startswith("val_") else light_and_smooth(curve.labels[1], other, 1)[-1:]
    level = finite(run.setting(curve.level)) if isinstance(curve.level, str) else curve.level
    meaning = f"{curve.level_text} {level:g}" if isinstance(curve.level, str) and level is not None else curve.level_text
    marked = None if level is None else (level, meaning)
    return line_chart(lines, title=curve.title, level=marked, far=True, bottom=curve.bottom, log=curve.log)


def curve_row(run: RunRecord, curves: Sequence[Curve]) -> str:
    """Small figures side by side, those left out of which nothing was measured; "" if that leaves none."""
    drawn = [figure(svg, curve.hint) for curve in curves if (svg := curve_chart(run, curve))]
    return f'<div class="row">{"".join(drawn)}</div>' if drawn else ""
