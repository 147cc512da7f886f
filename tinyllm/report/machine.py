"""What this machine and this installation have, what they lack, and how to get it: one finding a line.

A slow or failing program is often a matter of the machine: no OpenMP, a compile cache that cannot be written, half the cores.
"""

import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyllm.storage import install_command

NEEDED = ("numpy", "numba", "regex")
LOADED_BY = {"numba": "tinyllm.kernels.jit"}  # which tells it the number of threads first
OPTIONAL = {  # package -> (what it is good for, the extra that brings it)
    "tqdm": ("progress bars", "ui"),
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


def packages() -> Iterator[Finding]:
    """Python and what is installed."""
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


def compute(*, all_compiled: Callable[[], bool]) -> Iterator[Finding]:
    """What computes: back end, vector width, threads, BLAS, and the compiled code on disk (`all_compiled`: is it complete)."""
    from tinyllm import kernels

    backend = kernels.backend()
    slow = "plain NumPy kernels are for reading along: unset TINYLLM_KERNELS to be several times faster"
    yield Finding("back end", backend, slow if backend == "numpy" else "")
    yield Finding("BLAS", _blas())
    if backend == "numpy":
        return
    try:
        yield from _numba_findings(all_compiled)
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


def _numba_findings(all_compiled: Callable[[], bool]) -> Iterator[Finding]:
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
    yield _cache(jit.cache_folder(), jit.cache_root(), all_compiled)


def _thread_findings() -> Iterator[Finding]:
    """How many threads the kernels use and who says so; then each pool of threads in this process."""
    from tinyllm.kernels import jit
    from tinyllm.kernels.pools import advice, thread_pools
    from tinyllm.kernels.set_up import set_up
    from tinyllm.kernels.threads import usable_cores

    threads, pools = jit.numba.get_num_threads(), list(thread_pools())
    source = set_up().source if threads == set_up().number else "--threads"
    warning = advice(pools, threads=threads, source=source, cores=usable_cores())
    yield Finding("threads", f"{threads} ({source})", warning)
    for pool in pools:
        count = "unknown number of" if pool.threads is None else pool.threads
        parts = [f"{count} threads, {pool.file}", pool.idle, "" if pool.kind == "OpenMP" else "not used by the kernels"]
        yield Finding(f"pool {pool.kind}", "; ".join(filter(None, parts)))


def _cache(folder: Path | None, root: Path | None, all_compiled: Callable[[], bool]) -> Finding:
    """The folder of compiled kernels, whether it can be written, and how full it is."""
    if folder is None:
        where = f"{root} cannot be written" if root else "no home folder"
        return Finding("compiled code", where, "kernels compile anew each time: set NUMBA_CACHE_DIR to a writable folder")
    sizes = [file.stat().st_size for file in folder.rglob("*.nbc")]
    advice = "" if all_compiled() else "run tinyllm warmup to compile everything now"
    old = sum(other.is_dir() for other in folder.parent.iterdir()) - 1
    others = f"; {old} of other versions, which may be deleted" if old else ""
    return Finding("compiled code", f"{folder}, writable, {len(sizes)} kernels, {sum(sizes) / 1e6:.1f} MB{others}", advice)
