"""Charts within a page: the panels of `chart.py` in the page's own colours, and bars that fill a cell of a table.

A figure of a file brings its colours along; within a page the same drawing takes those of the page's style sheet (page.py), so
that one page is light, dark or on paper as a whole. Held-out measurements are few and far between: they get a dot each, so that
nobody takes the line between two of them for measured.
"""

from collections.abc import Sequence
from dataclasses import replace

from tinyllm.report.chart import Box, Line, Plot, text
from tinyllm.report.page import escaped

GREY = 2  # the page's third colour of a line
_HEAD = 20.0  # height of the title


def held_out(xs: Sequence[float], ys: Sequence[float], *, name: str = "held out") -> Line:
    """What was measured now and then, on what was not trained on."""
    return Line(name, xs, ys, 1, dots=3.0)


def best(line: Line) -> Line:
    """A mark at the lowest of a line's points, with its number."""
    i = min(range(len(line.ys)), key=line.ys.__getitem__)
    return Line("", [line.xs[i]], [line.ys[i]], line.colour, dots=4.5, note=f"best {line.ys[i]:.3f}")


def line_chart(
    lines: Sequence[Line], *, title: str, across: str = "step", level: tuple[float, str] | None = None, far: bool = False,
    size: tuple[float, float] = (360, 240), bottom: float | None = None, log: bool = False,
) -> str:  # fmt: skip
    """Curves over one pair of axes, as an SVG element of a page; "" if there is nothing to draw.

    level   a height to mark with a dashed line, and what it means
    far     whether it is marked also where it lies far from all that was measured
    bottom  where the axis begins, unless a value is lower (None: where the values do); log: whether it is logarithmic
    """
    shown = [replace(line, dots=line.dots or 3.0) if len(line.xs) == 1 else line for line in lines if len(line.xs)]
    if not shown:
        return ""
    ys = [y for line in shown for y in line.ys]
    reach = max(ys) - min(ys) or 1.0
    marked = level and (far or min(ys) - reach / 2 <= level[0] <= max(ys) + reach / 2)
    if sum(bool(line.name) for line in shown) < 2:  # the title says what it is
        shown = [replace(line, name="") for line in shown]
    low = None if bottom is None or min(ys) < bottom else bottom
    high = 1.0 if low == 0 == max(ys) and not marked else None  # of zeros alone the axis would show a thousandth
    levels = [level] if level and marked else []
    panel = Plot(title, across, shown, levels=levels, y_range=(low, high), log="y" if log else "")
    body = "\n".join(panel.draw(Box(0, _HEAD, size[0], size[1] - 4)))
    head = text(0, 12, title, kind="muted")
    view = f'viewBox="0 0 {size[0]:g} {size[1]:g}"'
    return f'<svg class="chart" role="img" aria-label="{escaped(title)}" {view}>\n{head}\n{body}\n</svg>'


def bar(share: float, *, colour: int | None = 0, error: float = 0.0) -> str:
    """A share from 0 to 1 as a bar across its cell, with a line of one standard error to each side; colour None: grey."""
    full = 100 * min(max(share, 0.0), 1.0)
    low, high = max(full - 100 * error, 0.0), min(full + 100 * error, 100.0)
    whisker = f'<path d="M{low:.1f} 5H{high:.1f}" class="whisker"/>' if high > low else ""
    kind = "grey" if colour is None else f"f{colour}"
    return (
        '<svg class="bar" role="presentation" viewBox="0 0 100 10" preserveAspectRatio="none">'
        f'<rect width="100" height="10" class="back"/><rect width="{full:.1f}" height="10" class="{kind}"/>{whisker}</svg>'
    )
