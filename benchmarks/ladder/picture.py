"""The ladders as a picture: a bar for every rung on a logarithmic scale, a line where the machine ends.

Logarithmic, because the rungs span four or five powers of ten: equal steps to the right are equal factors. The colours say
who computes: the interpreter, NumPy, loops in the lesson's file, tinyllm's kernels, a peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.ladder.rungs import Climb
from benchmarks.ladder.table import digits

WHO = {
    "Python loop": "#a3a3a3", "NumPy": "#6b8fb5", "Numba, in the lesson": "#e0a458", "Numba, tinyllm's kernel": "#c8553d",
    "peer": "#3f4a56",
}  # fmt: skip
INK, MUTED, GRID = "#222222", "#707070", "#e4e4e4"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": GRID, "axes.grid": True,
    "axes.grid.axis": "x", "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "xtick.color": GRID,
    "xtick.labelcolor": MUTED, "ytick.major.size": 0, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "svg.hashsalt": "ladder", "svg.fonttype": "none",
}  # fmt: skip


def who(rung: str) -> str:
    """Who computes: a key of WHO."""
    if rung.endswith("(tinyllm)"):
        return "Numba, tinyllm's kernel"
    if rung.startswith(("PyTorch", "NumPy's BLAS")):
        return "peer"
    return next(key for key in WHO if key.startswith(rung.split()[0].strip(",")))


def draw_ladder(axes: Any, climb: Climb) -> None:
    """One ladder: the slowest rung on top, its rate and share of the limit beside it."""
    names = [result.rung for result in climb.results]
    rates = [result.rate for result in climb.results]
    left, right_end = 10 ** _floor_log(min(rates) / 1.5), climb.limit * 1.3
    places = range(len(names))
    axes.barh(places, rates, left=0, color=[WHO[who(name)] for name in names], height=0.68)
    for place, result in enumerate(climb.results):
        for right, text in ((1.1, digits(result.rate)), (1.21, f"{100 * result.share:.0f} %" if result.share >= 0.005 else "")):
            axes.text(right, place, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8.5)
    axes.axvline(climb.limit, color=INK, linewidth=1, linestyle=(0, (4, 2)), zorder=0.9)
    axes.annotate(
        f"limit {digits(climb.limit)} {climb.unit}", (climb.limit, -0.55), xytext=(-3, 2), textcoords="offset points", ha="right",
        va="bottom", fontsize=8, color=MUTED,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left, right_end)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(list(places), names)
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    axes.minorticks_off()
    axes.set_title(f"{climb.ladder},  {climb.unit}", loc="left", fontsize=10, fontweight="bold", pad=18)


def _floor_log(number: float) -> int:
    """The power of ten at or below a number."""
    power = 0
    while 10.0**power > number:
        power -= 1
    while 10.0 ** (power + 1) <= number:
        power += 1
    return power


def draw(climbs: Sequence[Climb], file: str, *, heading: str) -> None:
    """Write a picture of all ladders, two beside each other; the file's ending says in which format."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = min(2, len(climbs))
    rows = -(-len(climbs) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4 * columns, 0.9 + 2.75 * rows), layout="constrained")
        engine: Any = figure.get_layout_engine()
        engine.set(w_pad=0.15, h_pad=0.12)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, climb in zip(panels, climbs, strict=False):
            draw_ladder(axes, climb)
        for axes in panels[len(climbs) :]:
            axes.set_axis_off()
        figure.suptitle(f"From the Python loop to the fast kernel\n{heading}", x=0.01, ha="left", fontsize=11, linespacing=1.5)
        patches = [Patch(color=colour, label=label) for label, colour in WHO.items()]
        figure.legend(handles=patches, loc="outside lower left", ncols=len(patches), frameon=False, fontsize=9)
        figure.savefig(file, dpi=130, metadata={"Date": None} if file.endswith(".svg") else None)
