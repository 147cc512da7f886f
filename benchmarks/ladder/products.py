"""Our matrix product against NumPy's BLAS, shape by shape, plain and transposed: is anything lost without BLAS?

A transposed operand is a view (`x.T`): BLAS is told so, our kernel reads it where it lies. Both write into the same array
and take turns; a ratio is made of the two neighbours of a round, so that it sees one machine, and the median is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np

from benchmarks.ladder.rungs import WrongRung
from benchmarks.ladder.table import digits
from benchmarks.ladder.timing import take_turns
from tinyllm import kernels

SHAPES = [(768, 128, 128), (768, 512, 128), (768, 128, 512), (1024, 768, 768), (1024, 3072, 768), (2048, 2048, 2048)]
HEADING = ["M x K x N", "operands", "tinyllm GFLOP/s", "BLAS GFLOP/s", "tinyllm : BLAS", "lowest and highest round"]


def operand(rng: np.random.Generator, shape: tuple[int, int], *, transposed: bool) -> np.ndarray:
    """A random matrix of this shape, if transposed as the view of one that lies the other way round."""
    rows, columns = shape
    if transposed:
        return rng.standard_normal((columns, rows), dtype=np.float32).T
    return rng.standard_normal((rows, columns), dtype=np.float32)


def compare(*, quick: bool, rounds: int) -> Iterator[list[list[str]]]:
    """A table for each shape: the four ways its operands can lie. Speed ratios: above 1 we are faster."""
    rng = np.random.default_rng(0)
    for m, k, n in [(24, 32, 40)] if quick else SHAPES:
        rows = [HEADING]
        for names, turned in {"A B": (0, 0), "A Bᵀ": (0, 1), "Aᵀ B": (1, 0), "Aᵀ Bᵀ": (1, 1)}.items():
            a = operand(rng, (m, k), transposed=bool(turned[0]))
            b = operand(rng, (k, n), transposed=bool(turned[1]))
            ours, theirs = race(a, b, rounds=rounds)
            ratios = [y / x for x, y in zip(ours, theirs, strict=True)]
            rates = [digits(2e-9 * m * n * k / statistics.median(seconds)) for seconds in (ours, theirs)]
            extremes = f"{min(ratios):.2f} to {max(ratios):.2f}"
            rows.append([f"{m} x {k} x {n}", names, *rates, f"{statistics.median(ratios):.2f}", extremes])
        yield rows


def ratios(tables: list[list[list[str]]]) -> list[list[str]]:
    """The ratios of all tables in one: a line for each shape."""
    heading = ["tinyllm : BLAS", *[row[1] for row in tables[0][1:]]]
    return [heading, *[[rows[1][0], *[row[4] for row in rows[1:]]] for rows in tables]]


def race(a: np.ndarray, b: np.ndarray, *, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds per product, ours and BLAS's, of each round in which both took their turn; checked first."""
    expected = a.astype(np.float64) @ b.astype(np.float64)
    error = np.max(np.abs(kernels.matmul(a, b) - expected)) / np.sqrt(np.mean(expected**2))
    if not error < 1e-4:
        raise WrongRung(f"matmul {a.shape} {b.shape}: off by {error:.1e} of the product in float64, 1e-4 is allowed")
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    seconds = take_turns({"ours": lambda: kernels.matmul(a, b, out), "BLAS": lambda: np.matmul(a, b, out=out)}, rounds=rounds)
    both = min(map(len, seconds.values()))  # on a busy machine one of them may have used up its time and sit out the last rounds
    return seconds["ours"][:both], seconds["BLAS"][:both]
