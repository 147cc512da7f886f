"""Curves of a run: a measurement at every step, faint, its smoothed curve over it, and beside it what to look for.

Smoothing is a mean over as many neighbours before as after, so that a smoothed curve does not lag behind the curve, as an
exponential average would: a falling loss would look too high.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyllm.report.chart import Line
from tinyllm.report.page import figure
from tinyllm.report.page_charts import best, held_out, line_chart
from tinyllm.report.run_record import RunRecord, Series, finite

WIDE = (1000.0, 330.0)  # the size of a figure as wide as the page


@dataclass(frozen=True)
class Curve:
    """One small figure: the measurement's names (the first that is there), its title, and what to look for."""

    names: tuple[str, ...]
    title: str
    hint: str
    level: float | str | None = None  # a dashed line: a number, or the name of a setting
    level_text: str = ""
    bottom: float | None = None  # where the axis begins, if no value is lower; None = where the values do
    other: str = ""  # a second measurement to draw beside, in the other colour
    labels: tuple[str, str] = ("", "")  # what to call the two
    log: bool = False


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to `window` neighbours on each side; as many right as left, but at the end what there is."""
    sums = [0.0, *itertools.accumulate(values)]
    smoothed = []
    for index in range(len(values)):
        left = min(window, index)
        right = min(left, len(values) - 1 - index)
        smoothed.append((sums[index + right + 1] - sums[index - left]) / (left + right + 1))
    return smoothed


def window_for(n_values: int) -> int:
    """A hundredth of the curve each way: calms the noise of single batches, but hides no bend."""
    return max(1, n_values // 100)


def light_and_smooth(name: str, series: Series, colour: int = 0, *, dots: bool = False) -> list[Line]:
    """Each value, faint (as a curve, or as dots), and the smoothed curve over them."""
    xs, ys = series
    if len(ys) < 2:
        return [Line(name, xs, ys, colour)]
    single = Line("", xs, ys, colour, dots=2.2, joined=False) if dots else Line("", xs, ys, colour, faint=True)
    return [single, Line(name, xs, smooth(ys, window_for(len(ys))), colour)]


def curve_chart(run: RunRecord, curve: Curve, measured: Callable[..., Series] = RunRecord.series) -> str:
    """One measurement against the step, with its level; "" if it was not measured.

    measured  how to read it: `measured(run, *names)` gives the steps and the values
    """
    steps, values = measured(run, *curve.names)
    if curve.log:
        steps, values = ([point[i] for point in zip(steps, values, strict=True) if point[1] > 0] for i in (0, 1))
    if not values:
        return ""
    lines = light_and_smooth(curve.labels[0], (steps, values))
    if curve.other and (other := measured(run, curve.other))[1]:
        if curve.other.startswith("val_"):
            lines += [dots := held_out(*other, name=curve.labels[1]), best(dots)]
        else:
            lines += light_and_smooth(curve.labels[1], other, 1)[-1:]
        values = [*values, *other[1]]
    level = finite(run.setting(curve.level)) if isinstance(curve.level, str) else curve.level
    meaning = f"{curve.level_text} {level:g}" if isinstance(curve.level, str) and level is not None else curve.level_text
    low = None if curve.bottom is None or min(values) < curve.bottom else curve.bottom
    high = 1.0 if low == 0 and not max(values) > 0 else None  # all 0: without this the axis would show a thousandth
    return line_chart(
        lines, title=curve.title, level=None if level is None else (level, meaning), far=True, y_range=(low, high), log=curve.log
    )


def curve_row(run: RunRecord, curves: Sequence[Curve], measured: Callable[..., Series] = RunRecord.series) -> str:
    """Small figures side by side, those left out of which nothing was measured; "" if that leaves none."""
    drawn = [figure(svg, curve.hint) for curve in curves if (svg := curve_chart(run, curve, measured))]
    return f'<div class="row">{"".join(drawn)}</div>' if drawn else ""
