"""The command: python -m benchmarks.ladder"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.ladder import peers  # PyTorch first, if it is there
from benchmarks.ladder.machine import Machine
from benchmarks.ladder.rungs import Climb, Ladder, WrongRung, climb
from benchmarks.ladder.table import markdown, plain, rows_of, summary

LESSONS = ("matmul", "linear_gelu", "softmax", "layer_norm", "attention", "cross_entropy", "adamw")


def ladders(names: Sequence[str], *, quick: bool, seed: int = 0) -> list[Ladder]:
    """The ladders of the lessons named, with random inputs."""
    rng = np.random.default_rng(seed)
    return [ladder for name in names for ladder in importlib.import_module(f"benchmarks.ladder.{name}").ladders(rng, quick=quick)]


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.ladder", description="From the Python loop to the fast kernel.")
    made.add_argument("--only", nargs="+", choices=LESSONS, default=LESSONS, metavar="LESSON", help=", ".join(LESSONS))
    made.add_argument("--rounds", type=int, help="turns of every rung; the median counts (default 5; products 9)")
    made.add_argument("--picture", metavar="FILE", help="draw the ladders (.png, .svg or .pdf; needs matplotlib)")
    made.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    made.add_argument("--quick", action="store_true", help="tiny inputs: to see that everything works, not how fast")
    made.add_argument("--products", action="store_true", help="instead: our matrix product against NumPy's BLAS, by shape")
    return made


def show_products(options: argparse.Namespace, layout: Callable[[list[list[str]]], str]) -> None:
    """Race the products, print a table for each shape and one of all ratios."""
    from benchmarks.ladder.products import compare, ratios

    tables = []
    for rows in compare(quick=options.quick, rounds=options.rounds or 9):
        tables.append(rows)
        print(layout(rows), end="\n\n", flush=True)
    print(layout(ratios(tables)))


def main(arguments: Sequence[str] | None = None) -> list[Climb]:
    """Measure the machine, climb the ladders, print their tables; returns the figures."""
    options = parser().parse_args(arguments)
    layout = markdown if options.markdown else plain
    begin = time.perf_counter()
    machine = Machine(megabytes=2 if options.quick else 64)
    peers.use_threads(machine.threads)
    print(f"{machine}\n{peers.versions()}\n", flush=True)
    if options.products:
        show_products(options, layout)
        return []
    climbs = []
    for ladder in ladders(options.only, quick=options.quick):
        climbs.append(climb(ladder, machine, rounds=options.rounds or (2 if options.quick else 5)))
        print(layout(rows_of(climbs[-1])), end="\n\n", flush=True)
    print(layout(summary(climbs)), end="\n\n")
    print(f"{time.perf_counter() - begin:.0f} seconds")
    if options.picture:
        from benchmarks.ladder.picture import draw

        draw(climbs, options.picture, heading=str(machine))
    return climbs


if __name__ == "__main__":
    try:
        main()
    except WrongRung as wrong:
        sys.exit(str(wrong))
