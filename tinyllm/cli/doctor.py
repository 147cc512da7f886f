"""`tinyllm doctor`: what this installation has, what it lacks, and how to get it.

A slow or failing program is often a matter of the machine: no OpenMP, a compile cache that cannot be written, half the
cores. This prints what matters for tinyllm, one line each. Exit code 0 if tinyllm can be used, 1 if not.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyllm.cli.parser import lesson
from tinyllm.cli.warmup import is_compiled
from tinyllm.storage import install_command

EPILOG = """example:
  tinyllm doctor      send its output along when you report a problem
"""

NEEDED = ("numpy", "numba", "regex")
LOADED_BY = {"numba": "tinyllm.kernels.jit"}  # which tells it the number of threads first
OPTIONAL = {  # package -> (what it is good for, the extra that brings it)
    "tqdm": ("progress bars", "ui"),
    "matplotlib": ("curves in reports and examples", "ui"),
    "starlette": ("the labeler's page", "serve"),
    "uvicorn": ("the labeler's page", "serve"),
    "pytest": ("running the tests", "test"),
    "hypothesis": ("running the tests", "test"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis. `advice`: what to do about it, "" if all is well; `fatal`: nothing works without it."""

    topic: str
    value: str
    advice: str = ""
    fatal: bool = False


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    subparsers.add_parser("doctor", help="what this machine has, and what is missing", description=lesson(__doc__), epilog=EPILOG)


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis; 0 if tinyllm can be used here."""
    from tinyllm import __version__

    print(f"tinyllm {__version__}, {Path(__file__).parents[1]}")
    findings = []
    for title, section in (("Packages", packages()), ("Machine", machine()), ("Kernels", compute())):
        print(f"\n{title}")
        for finding in section:
            findings.append(finding)
            print(f"  {finding.topic:<17} {finding.value}")
    advice = [finding for finding in findings if finding.advice]
    if advice:
        print("\nAdvice")
        for finding in advice:
            print(f"  {finding.topic:<17} {finding.advice}")
    usable = not any(finding.fatal for finding in findings)
    print("\n" + ("tinyllm can be used." if usable else "tinyllm cannot be used before this is repaired."))
    return 0 if usable else 1


def packages() -> Iterator[Finding]:
    """Python and what is installed."""
    import platform

    old = sys.version_info < (3, 11)
    yield Finding("python", platform.python_version(), "Python 3.11 or newer is needed" if old else "", fatal=old)
    for name in NEEDED:
        yield _package(name, install_command(), fatal=True)
    for name, (purpose, extra) in OPTIONAL.items():
        yield _package(name, f"optional, for {purpose}: {install_command(extra)}", fatal=False)


def _package(name: str, advice: str, *, fatal: bool) -> Finding:
    """A package's version. What is needed is imported too: a broken binary shows only then."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version(name)
        if fatal:
            importlib.import_module(LOADED_BY.get(name, name))
        return Finding(name, found)
    except PackageNotFoundError:
        return Finding(name, "missing", advice, fatal)
    except ImportError as error:
        return Finding(name, "broken", f"it does not load ({error}): {install_command()} --force-reinstall", fatal)


def machine() -> Iterator[Finding]:
    """Processor, cores, memory."""
    import platform

    from tinyllm.kernels.threads import usable_cores
    from tinyllm.training.environment import describe_environment

    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield Finding("processor", describe_environment()["processor"])
    yield Finding("cores", f"{usable_cores()} usable of {os.cpu_count()}")
    yield _memory()


def _memory() -> Finding:
    from tinyllm.training.memory import available_memory

    free = available_memory()
    if free is None:
        return Finding("memory", "unknown on this system")
    return Finding("memory", f"{free / 1e9:.1f} GB available", "too little for more than toys" if free < 1e9 else "")


def compute() -> Iterator[Finding]:
    """What computes: back end, vector width, threads, BLAS, and the compiled code on disk."""
    from tinyllm import kernels

    backend = kernels.backend()
    slow = "plain NumPy kernels are for reading along: unset TINYLLM_KERNELS to be several times faster"
    yield Finding("back end", backend, slow if backend == "numpy" else "")
    yield Finding("BLAS", _blas())
    if backend == "numpy":
        return
    try:
        yield from _numba_findings()
    except ImportError as error:
        yield Finding("numba", f"does not load: {error}", f"{install_command()}, or set TINYLLM_KERNELS=numpy (slow)", fatal=True)


def _blas() -> str:
    """The library behind NumPy's own matrix product; tinyllm's kernels bring theirs."""
    import numpy as np

    try:
        found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
        return f"{found['name']} {found['version']} (NumPy's; the kernels multiply matrices themselves)"
    except (KeyError, TypeError):
        return "unknown (the kernels multiply matrices themselves)"


def _numba_findings() -> Iterator[Finding]:
    from tinyllm import kernels
    from tinyllm.kernels import jit
    from tinyllm.kernels.product.register_tile import vector_registers

    bits = 8 * vector_registers()[0]
    narrow = "" if bits >= 256 else "this processor has no wide vectors: training will be slow"
    yield Finding("vector width", f"{bits} bits, {bits // 32} numbers at once", narrow)
    layer = kernels.threading_layer()
    yield from _thread_findings()
    slow_start = "starting threads is slow: install GNU OpenMP (Debian, Ubuntu: apt install libgomp1) for the layer omp"
    yield Finding("threading layer", layer, slow_start if layer == "workqueue" else "")
    yield _cache(jit.cache_folder(), jit.cache_root())


def _thread_findings() -> Iterator[Finding]:
    """How many threads the kernels use and who says so; then each pool of threads in this process."""
    from tinyllm.kernels import jit
    from tinyllm.kernels.pools import advice, thread_pools
    from tinyllm.kernels.threads import usable_cores

    threads, pools = jit.numba.get_num_threads(), list(thread_pools())
    source = jit.THREADS_FROM if threads == jit.THREADS else "--threads"
    warning = advice(pools, threads=threads, source=source, cores=usable_cores())
    yield Finding("threads", f"{threads} ({source})", warning)
    for pool in pools:
        count = "unknown number of" if pool.threads is None else pool.threads
        parts = [f"{count} threads, {pool.file}", pool.idle, "" if pool.kind == "OpenMP" else "not used by the kernels"]
        yield Finding(f"pool {pool.kind}", "; ".join(filter(None, parts)))


def _cache(folder: Path | None, root: Path | None) -> Finding:
    """The folder of compiled kernels, whether it can be written, and how full it is."""
    if folder is None:
        where = f"{root} cannot be written" if root else "no home folder"
        return Finding("compiled code", where, "kernels compile anew each time: set NUMBA_CACHE_DIR to a writable folder")
    sizes = [file.stat().st_size for file in folder.rglob("*.nbc")]
    advice = "" if is_compiled() else "run tinyllm warmup to compile everything now"
    old = sum(other.is_dir() for other in folder.parent.iterdir()) - 1
    others = f"; {old} of other versions, which may be deleted" if old else ""
    return Finding("compiled code", f"{folder}, writable, {len(sizes)} kernels, {sum(sizes) / 1e6:.1f} MB{others}", advice)
