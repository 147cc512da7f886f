"""Figures as plain SVG, written line by line: curves, bars, heat maps and words, side by side. Nothing to install.

A figure is a row of panels. Each panel knows how to draw itself into a box of given size; `picture` puts the boxes beside
each other under one title. The result is a file of a few kilobytes that looks the same in every browser, light or dark.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tinyllm.report.page import escaped

COLOURS = (("#2563b8", "#6ea8f5"), ("#c2410c", "#fb8f54"), ("#15803d", "#5cc98a"), ("#7c3aed", "#b794f6"))  # light, dark
_GREYS = {
    "paper": ("#ffffff", "#14171b"),
    "ink": ("#1b1f24", "#e6e9ed"),
    "muted": ("#5c6570", "#9aa4b0"),
    "grid": ("#d5dae0", "#3a424c"),
}
LETTER = 0.58  # mean width of a letter, in sizes of the font
STRETCHES = 150  # of a long curve; of each the lowest and the highest value is drawn: no spike is lost, and the file stays small


def _style() -> str:
    def rules(shade: int) -> str:
        numbered = "".join(f".s{i}{{stroke:{c[shade]}}}.f{i}{{fill:{c[shade]}}}" for i, c in enumerate(COLOURS))
        greys = {name: shades[shade] for name, shades in _GREYS.items()}
        return numbered + (
            f".chart text{{fill:{greys['ink']}}}.chart .muted{{fill:{greys['muted']}}}.paper{{fill:{greys['paper']}}}"
            f".chart .onpaper{{fill:{greys['paper']}}}.grid{{stroke:{greys['grid']}}}.level{{stroke:{greys['muted']}}}"
            f".rim{{stroke:{greys['paper']};stroke-width:4px;paint-order:stroke}}"
        )

    font = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Liberation Sans',Arial,sans-serif"
    return (
        f".chart{{font-family:{font};font-size:12px}}.chart .mono{{font-family:ui-monospace,Menlo,Consolas,monospace}}"
        f"{rules(0)}@media (prefers-color-scheme:dark){{{rules(1)}}}"
    )


# ---- small parts


def text(x: float, y: float, words: object, *, anchor: str = "", size: float = 12, kind: str = "", bold: bool = False) -> str:
    """A line of text; `kind` is a class of the style sheet ("muted", "mono")."""
    extra = f' class="{kind}"' if kind else ""
    extra += f' text-anchor="{anchor}"' if anchor else ""
    extra += f' font-size="{size:g}"' if size != 12 else ""
    extra += ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra} xml:space="preserve">{escaped(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str, *, width: float = 1, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}" stroke-width="{width:g}"{dash}/>'


def _rect(x: float, y: float, width: float, height: float, kind: str, *, opacity: float = 1, round_by: float = 0) -> str:
    extra = (f' fill-opacity="{opacity:.2f}"' if opacity < 1 else "") + (f' rx="{round_by:g}"' if round_by else "")
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" class="{kind}"{extra}/>'


def width_of(words: str, size: float = 12) -> float:
    """About how wide a text is drawn."""
    return LETTER * size * len(words)


@dataclass(frozen=True)
class Box:
    """A rectangle of the picture, in its units; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left


@dataclass(frozen=True)
class Axis:
    """A scale from values to places; the same for across and up, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def has(self, value: float) -> bool:
        """Whether there is such a place: not for NaN and infinity, nor for 0 and less on a logarithmic scale."""
        return math.isfinite(value) and (value > 0 or not self.log)

    def ticks(self) -> list[float]:
        """Round numbers within the scale, four or so."""
        if self.log and self.high >= 8 * self.low:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            powers = range(first, last + 1, max(1, (last - first) // 5))
            factors = (1,) if self.high >= 100 * self.low else (1, 2, 5)
            return [v for p in powers for f in factors if self.low <= (v := f * 10.0**p) <= self.high]
        each = 40 if self.end > self.start else 25  # a number is wider than it is high; y grows downwards
        room = (self.high - self.low) / max(3, min(6, abs(self.end - self.start) / each))
        unit = 10.0 ** math.floor(math.log10(room))
        step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= room * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def _span(values: Sequence[float], *, low: float | None, high: float | None, log: bool) -> tuple[float, float]:
    """Lowest and highest value with a little air, unless they are given."""
    kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [0.0 if not log else 0.1, 1.0]
    least, most = min(kept), max(kept)
    air = 0.04 * (most - least) or 0.5 * abs(most) or 0.5
    if log:
        return low or least / 1.15, high or most * 1.15
    return (least - air if low is None else low), (most + air if high is None else high)


def plain(value: float) -> str:
    """A number as a tick shows it."""
    return f"{value:,.6g}".replace("e-0", "e-").replace("-", "−")


def per_cent(value: float) -> str:
    """A share as a tick shows it."""
    return f"{100 * value:.4g} %"


# ---- panels


class Panel(Protocol):
    """What `picture` puts side by side."""

    title: str

    def draw(self, box: Box) -> Iterator[str]:
        """Elements that stay within the box."""
        ...


@dataclass(frozen=True)
class Line:
    """A curve: its name in the legend ("" = none), its points, its colour (0 to 3)."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: int = 0
    dashed: bool = False
    faint: bool = False
    dots: float | Sequence[float] = 0  # radius of a dot at each point, or one for each; 0 = none
    joined: bool = True  # False: dots alone
    filled: bool = False  # the area within the points, faint
    note: str = ""  # stands beside the first point


@dataclass(frozen=True)
class Plot:
    """Curves and dots over two scales."""

    title: str
    across: str
    lines: Sequence[Line]
    levels: Sequence[tuple[float, str]] = ()  # dashed lines across, each with its meaning
    diagonal: bool = False  # a thin line y = x
    x_range: tuple[float | None, float | None] = (None, None)
    y_range: tuple[float | None, float | None] = (None, None)
    log: str = ""  # "x", "y" or "xy"
    form: Callable[[float], str] = plain

    def draw(self, box: Box) -> Iterator[str]:
        """Grid, levels, curves, legend."""
        ys = [y for line in self.lines for y in line.ys] + [level for level, _ in self.levels]
        low, high = _span(ys, low=self.y_range[0], high=self.y_range[1], log="y" in self.log)
        legend, used = _legend([(line.name, line) for line in self.lines if line.name], box)
        up = Axis(low, high, box.bottom - 34, box.top + used + 8, "y" in self.log)
        labels = [(tick, self.form(tick)) for tick in up.ticks()]
        left = box.left + max((width_of(label, 12) for _, label in labels), default=0) + 12  # digits are wide
        xs = [x for line in self.lines for x in line.xs]
        low, high = _span(xs, low=self.x_range[0], high=self.x_range[1], log="x" in self.log)
        along = Axis(low, high, left, box.right - 8, "x" in self.log)
        for tick, label in labels:
            yield _line(left, up.at(tick), box.right, up.at(tick), "grid", width=0.7)
            yield text(left - 6, up.at(tick) + 4, label, anchor="end", size=11, kind="muted")
        whole = all(float(x).is_integer() for x in xs)  # steps: no half ones
        for tick in (tick for tick in along.ticks() if not whole or abs(tick - round(tick)) < 1e-9):
            yield text(along.at(tick), box.bottom - 18, plain(tick), anchor="middle", size=11, kind="muted")
        yield text((left + box.right) / 2, box.bottom - 1, self.across, anchor="middle", size=11, kind="muted")
        if self.diagonal:
            a, b = max(along.low, up.low), min(along.high, up.high)
            yield _line(along.at(a), up.at(a), along.at(b), up.at(b), "level", dashed=True)
        levels = [(up.at(level), meaning) for level, meaning in self.levels if up.has(level)]
        for y, _ in levels:
            yield _line(left, y, box.right, y, "level", dashed=True)
        for line in self.lines:
            yield from _curve(line, along, up)
        notes = [(box.right - 2, y, "end", 5, meaning) for y, meaning in levels]
        for line in (line for line in self.lines if line.note and along.has(line.xs[0]) and up.has(line.ys[0])):
            x, reach = along.at(line.xs[0]), width_of(line.note, 11) / 2
            anchor = "" if x < left + reach else "end" if x > box.right - reach else "middle"
            notes.append((x, up.at(line.ys[0]), anchor, 10, line.note))
        for x, y, anchor, away, words in notes:  # above its place, or below it if there is no room
            y += -away if y - away - 11 > up.end else away + 9
            yield text(x, y, words, anchor=anchor, size=11, kind="muted rim")
        yield from legend


def _curve(line: Line, along: Axis, up: Axis) -> Iterator[str]:
    kept = [i for i, (x, y) in enumerate(zip(line.xs, line.ys, strict=True)) if along.has(x) and up.has(y)]
    if line.joined and len(kept) > 1:
        stride = max(1, math.ceil(len(kept) / STRETCHES))
        stretches = [sorted(kept[i : i + stride], key=line.ys.__getitem__) for i in range(0, len(kept), stride)]
        ends = sorted({kept[0], kept[-1], *(end for stretch in stretches for end in (stretch[0], stretch[-1]))})
        points = " ".join(f"{along.at(line.xs[i]):.1f},{up.at(line.ys[i]):.1f}" for i in ends)
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        width, opacity = (1, ' stroke-opacity="0.35"') if line.faint else (2, "")
        style = f'fill="none" class="s{line.colour}" stroke-width="{width}" stroke-linejoin="round"{dash}{opacity}'
        style = f'class="f{line.colour}" fill-opacity="0.12"' if line.filled else style
        yield f'<polyline points="{points}" {style}/>'
    radii = [line.dots] * len(line.xs) if isinstance(line.dots, int | float) else line.dots
    for i in (i for i in kept if radii[i]):
        opacity = "" if line.joined else ' fill-opacity="0.65"'
        x, y = along.at(line.xs[i]), up.at(line.ys[i])
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radii[i]:.1f}" class="f{line.colour}"{opacity}/>'


def _legend(entries: Sequence[tuple[str, Line]], box: Box) -> tuple[list[str], float]:
    """Names beside their colours, in as many rows as they need, and the height these take."""
    drawn, x, y = [], box.left, box.top + 12
    for name, line in entries:
        needed = 24 + width_of(name) + 14
        if x > box.left and x + needed > box.right + 14:
            x, y = box.left, y + 17
        if line.joined:
            drawn.append(_line(x, y - 4, x + 18, y - 4, f"s{line.colour}", width=2.5, dashed=line.dashed))
        else:
            drawn.append(f'<circle cx="{x + 9:.1f}" cy="{y - 4:.1f}" r="4" class="f{line.colour}"/>')
        drawn.append(text(x + 24, y, name))
        x += needed
    return drawn, (y - box.top + 6 if entries else 0.0)


@dataclass(frozen=True)
class Bars:
    """A bar to the right for each row, or one for each series in each row; with a whisker of one standard error."""

    title: str
    rows: Sequence[str]
    series: Mapping[str, Sequence[float]]  # name ("" if there is one only) -> a value for each row
    errors: Mapping[str, Sequence[float]] | None = None
    levels: Sequence[tuple[float, str]] = ()
    high: float | None = None
    form: Callable[[float], str] = plain
    paint: Sequence[int] | None = None  # a colour for each row, where there is one series

    def draw(self, box: Box) -> Iterator[str]:
        """Names on the left, bars from a common zero, values behind them."""
        entries = [(name, Line(name, (), (), colour)) for colour, name in enumerate(self.series) if name]
        legend, used = _legend(entries, box)
        values = [v for series in self.series.values() for v in series] + [level for level, _ in self.levels]
        off = [e for errors in (self.errors or {}).values() for e in errors] or [0.0]
        most = max(0.0, max(values) + max(off)) if self.high is None else self.high
        least = min(0.0, min(values) - max(off)) if min(values) < 0 else 0.0
        left = box.left + max(width_of(row, 12) for row in self.rows) + 8
        room = max(width_of(self.form(v), 11) for v in values) + 10
        along = Axis(least, most, left, box.right - room)
        top, n = box.top + used + (18 if self.levels else 4), len(self.series)
        each = (box.bottom - top - 4) / len(self.rows)
        thick = min(26.0, 0.74 * each / n)
        for level, meaning in self.levels:
            yield _line(along.at(level), top - 4, along.at(level), box.bottom, "level", dashed=True)
            yield text(along.at(level), top - 8, meaning, anchor="middle", size=11, kind="muted")
        for i, row in enumerate(self.rows):
            middle = top + (i + 0.5) * each
            yield text(left - 8, middle + 4, row, anchor="end")
            for j, (name, series) in enumerate(self.series.items()):
                y = middle + (j - n / 2) * thick
                colour = self.paint[i] if self.paint else j
                yield from self._bar(along, y, thick - 2, series[i], f"f{colour}", self.errors[name][i] if self.errors else 0.0)
        yield _line(along.at(0), top, along.at(0), box.bottom, "level")
        yield from legend

    def _bar(self, along: Axis, y: float, thick: float, value: float, kind: str, error: float) -> Iterator[str]:
        zero, tip = along.at(0), along.at(value)
        yield _rect(min(zero, tip), y, abs(tip - zero), thick, kind, opacity=0.85)
        beyond = max(tip, zero, along.at(value + error))
        if error:
            ends = along.at(value - error), along.at(value + error)
            yield _line(ends[0], y + thick / 2, ends[1], y + thick / 2, "level", width=1.4)
        yield text(beyond + 5, y + thick / 2 + 4, self.form(value), size=11, kind="muted")


@dataclass(frozen=True)
class HeatMap:
    """A square for each value from 0 to 1, the more the darker; `marked` squares have a frame."""

    title: str
    values: Sequence[Sequence[float]]
    rows: Sequence[str]
    columns: Sequence[str]
    across: str = ""
    numbers: Sequence[Sequence[object]] | None = None  # written into the squares
    marked: Sequence[tuple[int, int]] = ()

    def draw(self, box: Box) -> Iterator[str]:
        """Squares as large as the box allows."""
        size = 11 if len(self.columns) <= 16 else 9
        left = box.left + max(width_of(row, size) for row in self.rows) + 8
        top, under = box.top + 18, 16 if self.across else 0
        wide = (box.right - left) / len(self.columns)
        high = min((box.bottom - under - top) / len(self.rows), wide)
        for j, name in enumerate(self.columns):
            yield text(left + (j + 0.5) * wide, top - 5, name, anchor="middle", size=size, kind="muted")
        yield _rect(left, top, wide * len(self.columns), high * len(self.rows), "f0", opacity=0.06)
        for i, row in enumerate(self.rows):
            yield text(left - 6, top + (i + 0.5) * high + 4, row, anchor="end", size=size, kind="muted")
            for j, value in enumerate(self.values[i]):
                if value >= 0.01:
                    yield _rect(left + j * wide + 0.5, top + i * high + 0.5, wide - 1, high - 1, "f0", opacity=min(1.0, value))
                if self.numbers is not None:
                    x, y, kind = left + (j + 0.5) * wide, top + (i + 0.5) * high + 4, "onpaper" if value > 0.6 else ""
                    yield text(x, y, self.numbers[i][j], anchor="middle", kind=kind)
        for i, j in self.marked:
            x, y = left + j * wide, top + i * high
            frame = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"'
            yield f'<rect {frame} fill="none" class="s1" stroke-width="1.6"/>'
        if self.across:
            x, y = (left + box.right) / 2, top + high * len(self.rows) + 15
            yield text(x, y, self.across, anchor="middle", size=11, kind="muted")


@dataclass(frozen=True)
class Words:
    """Lines of text in a fixed-width font, each with a label and pieces; pieces (two or more) stand in boxes."""

    title: str
    rows: Sequence[tuple[str, Sequence[str]]]
    size: float = 12

    def draw(self, box: Box) -> Iterator[str]:
        """One row below the other, as high as the box allows."""
        left = box.left + max(width_of(label, 11) for label, _ in self.rows) + 10
        each = min(26.0, (box.bottom - box.top) / len(self.rows))
        letter = 0.61 * self.size
        for i, (label, pieces) in enumerate(self.rows):
            x, y = left, box.top + i * each
            yield text(left - 8, y + each / 2 + 4, label, anchor="end", size=11, kind="muted")
            for j, piece in enumerate(pieces):
                if len(pieces) > 1:
                    wide = letter * len(piece) + 8
                    yield _rect(x, y + 2, wide, each - 5, f"f{j % 2}", opacity=0.18, round_by=3)
                    yield text(x + 4, y + each / 2 + 4, piece, size=self.size, kind="mono")
                    x += wide + 3
                else:
                    fits = int((box.right - x) / letter)
                    shown = piece if len(piece) <= fits else piece[: fits - 1] + "…"
                    yield text(x, y + each / 2 + 4, shown, size=self.size, kind="mono")


# ---- the whole


def picture(
    panels: Sequence[Panel], *, title: str, width: float = 900, height: float = 300, shares: Sequence[float] = (),
    columns: int = 0,
) -> str:  # fmt: skip
    """The panels side by side as an SVG file, `height` high for each row of them.

    shares    how the width is divided (default: evenly)
    columns   panels in a row (default: all)
    """
    columns = columns or len(panels)
    weights = list(shares) or [1.0] * columns
    gap, edge, head = 34.0, 18.0, 44.0
    room, drawn = width - 2 * edge - gap * (columns - 1), []
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        left = edge + gap * column + room * sum(weights[:column]) / sum(weights)
        top = head + row * (height - head) + 18
        box = Box(left, top + 10, left + room * weights[column] / sum(weights), head + (row + 1) * (height - head) - 14)
        drawn += [text(box.left, top, panel.title, kind="muted head"), *panel.draw(box)]
    height = head + math.ceil(len(panels) / columns) * (height - head)
    frame = [_rect(0, 0, width, height, "paper", round_by=8), text(edge, 31, title, size=16, bold=True, kind="head")]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{escaped(title)}" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">\n<style>{_style()}</style>\n'
        + "\n".join([*frame, *drawn, "</svg>\n"])
    )
