"""Lines and bars as SVG, written by hand: a picture is a few rectangles, paths and words, and needs no library.

Numbers become places by one linear map for each axis; ticks stand at multiples of 1, 2 or 5 times a power of ten. Colours are
CSS variables of the page around (page.py), so a drawing serves a light page, a dark page and paper. Held-out measurements
are few and far between: they get a dot each, so that nobody takes the line between two of them for measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinyllm.evaluation.page import escaped

LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 30.0, 36.0  # room around the drawing, in the units of `size`
_TEXT = 'font-size="12"'


@dataclass(frozen=True)
class Line:
    """One curve: equally many xs and ys. colour: a variable of page.STYLE, such as "--train"."""

    name: str  # for the legend; "" leaves it out
    xs: Sequence[float]
    ys: Sequence[float]
    colour: str = "--train"
    points: bool = False  # a dot at each measurement
    faint: bool = False  # thin and light: single batches, behind their smoothed curve
    joined: bool = True  # a line from point to point


@dataclass(frozen=True)
class _Axis:
    """A linear map from numbers, low to high, to places, start to end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, *, most: int) -> list[float]:
    """At most `most` round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999), 10 * power)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def shown(value: float) -> str:
    """A number at a tick: 20,000 or 0.05, no digits that say nothing."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def line_chart(
    lines: Sequence[Line], *, title: str, across: str = "step", level: tuple[float, str] | None = None,
    size: tuple[float, float] = (360, 240),
) -> str:  # fmt: skip
    """Curves over one pair of axes, as an SVG element; "" if there is nothing to draw.

    level  a height to mark with a dashed line, and what it means; left out where it lies far from all that was measured
    """
    lines = [line for line in lines if len(line.xs)]
    if not lines:
        return ""
    width, height = size
    all_x, all_y = [x for line in lines for x in line.xs], [y for line in lines for y in line.ys]
    low, high = _room(all_y)
    if level and not low - (high - low) / 2 <= level[0] <= high + (high - low) / 2:
        level = None
    if level:
        low, high = _room([*all_y, level[0]])
    left, right = min(all_x), max(all_x)
    x = _Axis(left, right if right > left else left + 1, LEFT, width - RIGHT)
    y = _Axis(low, high, height - BOTTOM, TOP)
    whole = all(float(value).is_integer() for value in all_x)  # there is no step 1.5
    parts = [*_grid(y, width), *_numbers_below(x, height, whole=whole), _heading(title, lines)]
    parts.append(_text(across, (LEFT + width - RIGHT) / 2, height - 4, anchor="middle"))
    parts += [_mark(level, y, width)] if level else []
    parts += [_curve(line, x, y) for line in lines]
    return _svg("\n".join(filter(None, parts)), size, label=title)


def _room(values: Sequence[float]) -> tuple[float, float]:
    """The least and the most, with a little air around them."""
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or max(abs(high) * 0.1, 0.5)
    return (0.0 if 0 <= low < air else low - air), high + air


def _grid(y: _Axis, width: float) -> list[str]:
    parts = []
    for value in ticks(y.low, y.high, most=5):
        place = y(value)
        parts.append(f'<path d="M{LEFT:g} {place:.1f}H{width - RIGHT:g}" style="stroke: var(--grid)" stroke-width="0.8"/>')
        parts.append(_text(shown(value), LEFT - 6, place + 4, anchor="end"))
    return parts


def _numbers_below(x: _Axis, height: float, *, whole: bool) -> list[str]:
    place = height - BOTTOM
    wide = max(len(shown(x.low)), len(shown(x.high)))
    most = max(2, int((x.end - x.start) / (8 * wide + 20)))
    values = [value for value in ticks(x.low, x.high, most=most) if not whole or value.is_integer()]
    found = [_text(shown(value), x(value), place + 16, anchor="middle") for value in values]
    return [f'<path d="M{x.start:g} {place:g}H{x.end:g}" style="stroke: var(--muted)" stroke-width="0.8"/>', *found]


def _heading(title: str, lines: Sequence[Line]) -> str:
    """What goes up, and behind it the names of the curves, each in its colour, if there is more than one."""
    named = [line for line in lines if line.name]
    names = [f'\u2003<tspan style="fill: var({line.colour})" font-weight="600">{escaped(line.name)}</tspan>' for line in named]
    shown = "".join(names) if len(named) > 1 else ""
    return f'<text x="0" y="12" {_TEXT} style="fill: var(--muted)">{escaped(title)}{shown}</text>'


def _mark(level: tuple[float, str], y: _Axis, width: float) -> str:
    place = y(level[0])
    line = f'<path d="M{LEFT:g} {place:.1f}H{width - RIGHT:g}" style="stroke: var(--muted)" stroke-dasharray="5 4"/>'
    return line + _text(level[1], width - RIGHT, place - 5, anchor="end")


def _curve(line: Line, x: _Axis, y: _Axis) -> str:
    places = [(x(a), y(b)) for a, b in zip(line.xs, line.ys, strict=True)]
    style = f'style="stroke: var({line.colour}); fill: none" stroke-width="{0.8 if line.faint else 1.8}"'
    style += ' stroke-opacity="0.35"' if line.faint else ""
    drawn = ""
    if line.joined and len(places) > 1:
        drawn = f'<path d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in places)}" {style}/>'
    if line.points or len(places) == 1:
        radius = 2.0 if line.faint else 3.0
        colour = f'style="fill: var({line.colour})"' + (' fill-opacity="0.45"' if line.faint else "")
        drawn += "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius:g}" {colour}/>' for a, b in places)
    return drawn


def bar(share: float, *, colour: str = "--train", error: float = 0.0) -> str:
    """A share from 0 to 1 as a bar across its cell, with a line of one standard error to each side."""
    full = 100 * min(max(share, 0.0), 1.0)
    low, high = max(full - 100 * error, 0.0), min(full + 100 * error, 100.0)
    whisker = f'<path d="M{low:.1f} 5H{high:.1f}" style="stroke: var(--ink)" stroke-width="1.2"/>' if high > low else ""
    return (
        '<svg class="bar" role="presentation" viewBox="0 0 100 10" preserveAspectRatio="none">'
        '<rect width="100" height="10" style="fill: var(--card)"/>'
        f'<rect width="{full:.1f}" height="10" style="fill: var({colour})" fill-opacity="0.8"/>{whisker}</svg>'
    )


def _text(text: str, x: float, y: float, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_TEXT} style="fill: var(--muted)">{escaped(text)}</text>'


def _svg(body: str, size: tuple[float, float], *, label: str) -> str:
    return f'<svg role="img" aria-label="{escaped(label)}" viewBox="0 0 {size[0]:g} {size[1]:g}">\n{body}\n</svg>'
