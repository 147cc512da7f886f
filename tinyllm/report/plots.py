"""The figures of a report, drawn by matplotlib as SVG that takes its colours from the page around it.

Colours are drawn as placeholders (#010101 and so on) and become CSS variables (var(--ink)), so that one drawing serves
a light page, a dark page and paper. Text stays text, in the page's own font. Without matplotlib `draw` gives None and
the report shows its tables alone. Smoothing is a mean over as many neighbours before as after, so that a smoothed
curve does not lag behind the curve, as an exponential average would: a falling loss would look too high.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from tinyllm.report.page import escaped
from tinyllm.report.run_record import RunRecord, Series
from tinyllm.storage import install_command

INK, MUTED, GRID, TRAIN, VALIDATION, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", TRAIN: "--train", VALIDATION: "--validation", PAPER: "--paper"}
_MOST_POINTS = 1500  # of a curve: more than the page has dots across

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "axes.edgecolor": GRID, "axes.labelcolor": MUTED, "text.color": INK,
    "xtick.color": GRID, "ytick.color": GRID, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "ytick.major.size": 0, "ytick.minor.size": 0, "xtick.major.size": 3, "axes.grid": True, "axes.grid.axis": "y",
    "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
    "lines.solid_capstyle": "round", "lines.solid_joinstyle": "round",
}  # fmt: skip

Draw = Callable[[Any, RunRecord], None]  # draws on a matplotlib Axes


def has_matplotlib() -> bool:
    """Whether the extra [ui] is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def how_to_get_curves() -> str:
    """A line of markup for a report that shows tables alone."""
    return f'<p class="note">For curves, install the extra ui: {escaped(install_command("ui"))}</p>'


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


def draw(name: str, drawing: Draw, *, run: RunRecord, size: tuple[float, float]) -> str | None:
    """The figure as an SVG element for a page, size in inches; None without matplotlib."""
    if not has_matplotlib():
        return None
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with rc_context({**_STYLE, "svg.hashsalt": name}):  # a salt for each figure: ids must differ within one page
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=max(4, int(size[0] * 1.3)), integer=True))
        drawing(axes, run)  # may set another scale than steps
        axes.margins(x=0.015)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return for_page(text.getvalue(), label=name)


def for_page(svg: str, *, label: str) -> str:
    """An SVG file made into an element of a page: no prolog, no style of its own, no fixed size, colours as variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg role="img" aria-label="{label}" viewBox="\1">', svg, count=1)
    svg = re.sub(r'font-family: [^;"]*;? ?', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def draw_loss(axes: Any, run: RunRecord) -> None:
    """Training loss of each step (light), smoothed, validation with markers, and the loss of blind guessing."""
    light_and_smooth(axes, run.series("loss"), label="training")
    steps, losses = run.series("val_loss")
    if losses:
        axes.plot(steps, losses, color=VALIDATION, linewidth=1.4, marker="o", markersize=3.6, label="validation")
        best = min(range(len(losses)), key=losses.__getitem__)
        axes.plot(steps[best], losses[best], "o", markersize=8.5, fillstyle="none", color=VALIDATION, markeredgewidth=1.1)
        _annotate(axes, f"best {losses[best]:.3f}", (steps[best], losses[best]))
    vocab_size = run.setting("vocab_size")
    highest = max([*run.series("loss")[1], *losses])
    if isinstance(vocab_size, int) and vocab_size > 1 and math.log(vocab_size) < 1.3 * highest:
        mark_level(axes, math.log(vocab_size), f"guessing blindly: ln {vocab_size:,} = {math.log(vocab_size):.2f}")
    axis_names(axes, "loss (nats per token)")
    axes.legend(loc="lower right", bbox_to_anchor=(1.005, 0.99), ncols=2, borderaxespad=0.2, labelcolor=INK)


def draw_learning_rate(axes: Any, run: RunRecord) -> None:
    """The learning rate of each step."""
    steps, rates = run.series("learning_rate")
    axes.plot(*thin(steps, rates), color=TRAIN, linewidth=1.6)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.yaxis.get_offset_text().set_color(MUTED)
    axis_names(axes, "learning rate")


def draw_gradient_norm(axes: Any, run: RunRecord) -> None:
    """The norm of all gradients before clipping, on a logarithmic scale, with the norm they are clipped to."""
    from matplotlib.ticker import LogLocator

    steps, norms = run.series("grad_norm")
    positive = [(step, norm) for step, norm in zip(steps, norms, strict=True) if norm > 0]
    light_and_smooth(axes, ([step for step, _ in positive], [norm for _, norm in positive]), label=None)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda norm, _: f"{norm:g}")
    axes.yaxis.set_minor_formatter(lambda norm, _: "")
    clip = run.setting("grad_clip")
    if isinstance(clip, int | float) and clip > 0:
        mark_level(axes, float(clip), f"clipped above {clip:g}")
    axis_names(axes, "gradient norm")


def draw_speed(axes: Any, run: RunRecord) -> None:
    """Tokens per second, from zero upwards."""
    steps, speeds = run.series("tokens_per_second")
    light_and_smooth(axes, (steps, speeds), label=None)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda speed, _: f"{speed:,.0f}")
    axis_names(axes, "tokens per second")


def thin(steps: list[float], values: list[float]) -> Series:
    """At most about 1500 points of a curve, evenly spaced, the last one kept."""
    stride = -(-len(steps) // _MOST_POINTS) or 1
    kept = [*range(0, len(steps), stride)]
    if kept and kept[-1] != len(steps) - 1:
        kept.append(len(steps) - 1)
    return [steps[i] for i in kept], [values[i] for i in kept]


def light_and_smooth(axes: Any, series: Series, *, label: str | None) -> None:
    """Each value in a light colour, and their smoothed curve over it."""
    steps, values = series
    if not values:
        return
    if len(values) == 1:
        axes.plot(steps, values, "o", color=TRAIN, markersize=4, label=label)
        return
    axes.plot(*thin(steps, values), color=TRAIN, alpha=0.28, linewidth=0.8)
    axes.plot(*thin(steps, smooth(values, window_for(len(values)))), color=TRAIN, linewidth=1.7, label=label)


def mark_level(axes: Any, height: float, text: str) -> None:
    """A dashed line across the figure, and what it means."""
    axes.axhline(height, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        text, (0.985, height), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
        ha="right", va="bottom", color=MUTED, fontsize=8,
        bbox={"facecolor": PAPER, "alpha": 0.75, "linewidth": 0, "pad": 0.8},
    )  # fmt: skip


def _annotate(axes: Any, text: str, point: tuple[float, float]) -> None:
    axes.annotate(text, point, xytext=(-4, 10), textcoords="offset points", ha="right", va="bottom", color=VALIDATION, fontsize=9)


def axis_names(axes: Any, name: str, *, across: str = "step") -> None:
    """What goes up (as the figure's title) and what goes across."""
    axes.set_xlabel(across)
    axes.set_title(name, loc="left", fontsize=9, color=MUTED, pad=8)
