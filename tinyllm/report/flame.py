"""A training step as a picture: one bar as long as the step, cut into ever smaller parts, row below row (an icicle).

    step  >  forward, backward, optimizer  >  ops, the longest first  >  compiled kernels

What has no kernel below it is Python, NumPy or memory. A flame graph stands on its root (Gregg 2016, "The Flame Graph");
this one hangs from it, as time is read downwards in our tables, too. Below it the same step as it ran, from left to right.
Drawn by hand as SVG, a rectangle a box, with the colours of the page; pointing at a box tells its numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tinyllm.report.chart import Axis
from tinyllm.report.page import cards, escaped, figure, page, section, table
from tinyllm.report.profile import BACKWARD, CODE, KERNEL, OP, PHASES, Profile, Row, Span, leaf_of

WIDTH, HEIGHT, GAP = 1000.0, 34.0, 3.0  # of the picture, of a row, between rows
NARROWEST = 0.6  # a box thinner than this is not drawn: less than the line of its border
LETTER = 6.3  # width of a letter at the size of the boxes' text, about

# One hue for each family of work, in every row alike: the eye then finds the same work again. Words that a name may contain.
FAMILIES = {
    "products": (214, ("linear", "matmul")),
    "attention": (268, ("attention",)),
    "feed-forward": (24, ("feedforward", "gelu", "silu")),
    "norms": (158, ("layer_norm", "rms_norm")),
    "embedding": (46, ("embedding",)),
    "loss": (340, ("cross_entropy", "softmax")),
    "optimizer": (190, ("optimizer step", "adamw", "grad_norm", "sum_of_squares")),
}

_HINT = (
    "Each row divides the one above it: the step into its phases, a phase into its ops, an op into the compiled kernels it "
    "called. White below an op is what no kernel does: Python, NumPy, memory."
)
_TIMELINE_HINT = "The same step as it ran, from left to right: ops above, their kernels below. One step, the one of median time."
_TABLE_HINT = "A mean step. Between: what a phase does outside its ops, such as recording the graph and walking back along it."


@dataclass(frozen=True)
class Box:
    """A rectangle: its row from the top, its start and length in milliseconds, its text, what to tell when pointed at."""

    row: int
    start: float
    length: float
    text: str
    title: str


def profile_page(found: Profile, *, title: str) -> str:
    """The whole profile as a self-contained HTML page."""
    return page(
        f"{title} · profile of a training step",
        f'<h1>A training step</h1>\n<p class="about">{escaped(title)}</p>',
        cards(_headline(found)),
        section("Where the time goes", _HINT, figure(icicle(found), wide=True)),
        section("As it ran", _TIMELINE_HINT, figure(timeline(found), wide=True)),
        section("By op", _TABLE_HINT, _op_table(found)),
        section("How it was measured", "", f'<p class="note">{escaped(_method(found))}</p>'),
    )


def _headline(found: Profile) -> list[tuple[str, str, str]]:
    whole = found.milliseconds
    names = {"kernels": "in compiled kernels", "python": "Python", "numpy and memory": "NumPy, memory"}
    facts = [(f"{whole:.1f} ms", "a step", f"median of {len(found.plain_ms)}")]
    for part, milliseconds in found.parts().items():
        facts.append((f"{milliseconds / whole:.1%}", names[part], f"{milliseconds:.2f} ms"))
    n_bytes = sum(row.n_bytes for row in found.rows)
    facts.append((f"{n_bytes / 1e6:.0f} MB", "of new arrays", "made by ops and kernels in a step"))
    facts.append((f"{found.faults:,.0f}", "page faults", f"about {found.faults * found.fault_us / 1000:.2f} ms of the step"))
    return facts


def icicle_boxes(found: Profile) -> Iterator[Box]:
    """The boxes of the icicle: row 0 the step, 1 its phases, 2 their ops, 3 the ops' kernels, each the longest first."""
    total = sum(found.phase_ms(phase) for phase in PHASES) or 1.0
    told = f"a step: {found.milliseconds:.2f} ms (recorded: {total:.2f} ms)"
    yield Box(0, 0.0, total, f"step {found.milliseconds:.1f} ms", told)
    start = 0.0
    for phase in PHASES:
        length = found.phase_ms(phase)
        yield Box(1, start, length, f"{phase} {length / total:.0%}", _told(phase, length, total))
        inner = start
        for row in (row for row in found.rows if row.phase == phase):
            yield from _op_boxes(row, inner, total)
            inner += row.milliseconds
        start += length


def _op_boxes(row: Row, start: float, total: float) -> Iterator[Box]:
    calls = f", {row.calls:.0f} calls, {row.n_bytes / 1e6:.1f} MB of new arrays" if row.calls else ": Python between the ops"
    yield Box(2, start, row.milliseconds, row.op, _told(f"{row.phase}, {row.op}", row.milliseconds, total) + calls)
    for kernel, milliseconds in sorted(row.kernels.items(), key=lambda item: -item[1]):
        yield Box(3, start, milliseconds, kernel, _told(f"kernel {kernel} in {row.op}", milliseconds, total))
        start += milliseconds


def _told(name: str, milliseconds: float, total: float) -> str:
    return f"{name}: {milliseconds:.2f} ms, {milliseconds / total:.1%}"


def icicle(found: Profile) -> str:
    """The icicle as an SVG element."""
    return _svg(list(icicle_boxes(found)), n_rows=4, label="a step, its phases, their ops, their kernels")


def timeline_boxes(found: Profile) -> Iterator[Box]:
    """The boxes of one step in time: row 0 the phases, 1 ops, 2 compiled kernels."""
    spans = found.timeline
    leaf = leaf_of(spans)
    walk = next((span for span in spans if span.level == BACKWARD), None)
    end = max((span.end for span in spans), default=0.0)
    if walk:
        for name, start, stop in zip(PHASES, (0.0, walk.start, walk.end), (walk.start, walk.end, end), strict=True):
            yield Box(0, 1000 * start, 1000 * (stop - start), name, f"{name}: {1000 * (stop - start):.2f} ms")
    for span in spans:
        if span.level in (OP, leaf):
            name = _kernel_around(span, spans) if span.level == CODE else span.name
            told = f"{name}: {1e6 * span.seconds:,.0f} µs, from {1000 * span.start:.2f} ms"
            yield Box(1 if span.level == OP else 2, 1000 * span.start, 1000 * span.seconds, name, told)


def _kernel_around(inner: Span, spans: list[Span]) -> str:
    """The kernel whose machine code this is, by the name under which ops call it."""
    around = (span.name for span in spans if span.level == KERNEL and span.start <= inner.start < span.end)
    return next(around, inner.name.lstrip("_"))


def timeline(found: Profile) -> str:
    """The step as it ran, as an SVG element."""
    return _svg(list(timeline_boxes(found)), n_rows=3, label="the step from left to right")


# ---- drawing ----


def _svg(boxes: list[Box], *, n_rows: int, label: str) -> str:
    end = max((box.start + box.length for box in boxes), default=1.0) or 1.0
    drawn = "\n".join(part for box in boxes if (part := _drawn(box, WIDTH / end)))
    height = n_rows * (HEIGHT + GAP)
    axis, legend = "\n".join(_ticks(end, height)), "\n".join(_legend(boxes, height + 42))
    return (
        f'<svg role="img" aria-label="{escaped(label)}" viewBox="0 0 {WIDTH:.0f} {height + 48:.0f}" font-size="12">\n'
        f"{axis}\n{drawn}\n{legend}\n</svg>"
    )


def _drawn(box: Box, scale: float) -> str:
    """One box, with as much of its text as fits; "" if it would be too thin to see."""
    x, width, y = box.start * scale, box.length * scale, box.row * (HEIGHT + GAP)
    if width < NARROWEST:
        return ""
    fits = int((width - 8) / LETTER)
    text = box.text if len(box.text) <= fits else box.text[: fits - 1] + "…" if fits >= 4 else ""
    words = f'<text x="{x + 5:.1f}" y="{y + HEIGHT / 2 + 4:.1f}" fill="var(--ink)">{escaped(text)}</text>' if text else ""
    return (
        f'<g><title>{escaped(box.title)}</title><rect x="{x:.2f}" y="{y:.1f}" width="{width - min(0.8, width / 4):.2f}" '
        f'height="{HEIGHT:.0f}" rx="{min(3.0, width / 4):.1f}" {_fill(box.text)}/>{words}</g>'
    )


def _family(text: str) -> str | None:
    """The family that a box belongs to by its text; None for what is no op."""
    found = (name for name, (_, words) in FAMILIES.items() if any(word in text for word in words))
    return next(found, None)


def _fill(text: str) -> str:
    """The colour of a box: the hue of its family, grey for what is no op."""
    family = _family(text)
    if family is None:
        return 'fill="var(--muted)" fill-opacity="0.22"'
    return f'fill="hsl({FAMILIES[family][0]} 70% 50%)" fill-opacity="0.42"'


def _legend(boxes: list[Box], y: float) -> Iterator[str]:
    """A coloured square and a name for each family in the picture: most boxes are too narrow for their text."""
    present, x = {_family(box.text) for box in boxes}, 0.0
    for name in (name for name in FAMILIES if name in present):
        yield f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="12" height="12" rx="2" {_fill(FAMILIES[name][1][0])}/>'
        yield f'<text x="{x + 17:.0f}" y="{y:.0f}" fill="var(--muted)">{name}</text>'
        x += 17 + LETTER * len(name) + 26


def _ticks(end: float, height: float) -> Iterator[str]:
    """Lines at round milliseconds behind the boxes, with their numbers below."""
    for tick in Axis(0, end, 0, WIDTH).ticks():
        x, anchor = tick / end * WIDTH, "middle" if tick else "start"
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:.0f}" stroke="var(--grid)" stroke-width="0.7"/>'
        if x < WIDTH - 20:
            yield f'<text x="{x:.1f}" y="{height + 14:.0f}" text-anchor="{anchor}" fill="var(--muted)">{tick:g} ms</text>'


# ---- words and numbers ----


def _op_table(found: Profile) -> str:
    whole = sum(found.phase_ms(phase) for phase in PHASES) or 1.0
    rows = [
        (row.phase, row.op, f"{row.calls:.0f}" if row.calls else "", f"{row.milliseconds:.2f}",
         f"{row.milliseconds / whole:.1%}", f"{row.kernel_ms:.2f}", f"{row.n_bytes / 1e6:.1f}")
        for row in found.rows
    ]  # fmt: skip
    return table(("phase", "op", "calls", "ms", "share", "in kernels, ms", "new arrays, MB"), rows, n_text=2)


def _method(found: Profile) -> str:
    return (
        f"The {len(found.plain_ms)} steps that give the total run without any wrapper. As many others run with a clock around "
        f"each op, kernel and machine-code function, which makes a step {found.recording_ms:.2f} ms longer; ops and kernels are "
        "timed there. Python is the time of the same step on a model with the same layers but a handful of numbers, taken right "
        "after a full step, without its compiled code: every line of Python runs, every call into NumPy is made, but has "
        "nothing to do. NumPy and memory are what is left of the total. A page fault is the system handing out a page of memory "
        f"at its first use; one costs {found.fault_us:.2f} µs here, measured on fresh memory. Faults happen inside kernels and "
        "NumPy alike."
    )
