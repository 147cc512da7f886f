"""A ladder as a table: for the terminal, or as Markdown for a README."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.ladder.rungs import LIMIT, Climb


def time_of(seconds: float) -> str:
    """Three digits and a unit that suits them: "1.23 ms"."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * scale:
            return f"{digits(seconds / scale)} {unit}"
    return f"{digits(seconds / 1e-6)} us"


def digits(number: float) -> str:
    """About three digits: 0.0123, 1.23, 12.3, 1,230."""
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"


def times(factor: float) -> str:
    """How many times as fast: "12x"."""
    return f"{digits(factor)}x"


def rows_of(climb: Climb) -> list[list[str]]:
    """Heading and a row for every rung, as text."""
    rows = [[climb.ladder, "time", climb.unit, "of the limit", "rung above", "first rung"]]
    first = above = climb.results[0]
    for result in climb.results:
        time = ("~" if result.scaled else "") + time_of(result.seconds)
        share = f"{100 * result.share:.{2 if result.share < 0.01 else 0 if result.share >= 0.1 else 1}f} %"
        gains = ["", ""] if result is first else [times(above.seconds / result.seconds), times(first.seconds / result.seconds)]
        rows.append([result.rung, time, digits(result.rate), share, *gains])
        above = result
    return rows + [[LIMIT, "", digits(climb.limit), "100 %", "", ""]]


def summary(climbs: Sequence[Climb]) -> list[list[str]]:
    """All ladders in one table: a line each, the rates of its main rungs."""
    columns = ("Python loop", "NumPy", "NumPy's BLAS", "Numba serial", "Numba parallel", "PyTorch")
    rows = [["", "", *columns, "tinyllm", "limit", "tinyllm of the limit"]]
    for climb in climbs:
        rates = []
        for column in columns:
            found = [r.rate for r in climb.results if r.rung == column or r.rung.startswith(column + ",")]
            rates.append(digits(found[0]) if found else "")
        ours = [result for result in climb.results if result.rung.endswith("(tinyllm)")][-1]
        rows.append([climb.ladder, climb.unit, *rates, digits(ours.rate), digits(climb.limit), f"{100 * ours.share:.0f} %"])
    return rows


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the first to the left, the others to the right, a line under the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [f"{cell:{'>' if column else '<'}{width}}" for column, (cell, width) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same for a README."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]])
