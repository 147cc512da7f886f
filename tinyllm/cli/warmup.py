"""`tinyllm warmup`: compile every kernel now, so that nothing waits for the compiler later.

Numba makes machine code at a kernel's first call. That takes seconds each time, but only once for a machine: the code is
kept on disk. Whoever builds a container image or teaches a class runs this beforehand.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tinyllm.cli.parser import lesson

EPILOG = """examples:
  tinyllm warmup                    compile all for training and generating
  tinyllm warmup --dtype float64    also for gradient checks
"""


def add_parser(subparsers: Any) -> None:
    """Describe the verb to argparse."""
    parser = subparsers.add_parser("warmup", help="compile all kernels, once", description=lesson(__doc__), epilog=EPILOG)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="number type (default: float32)")


def run(args: argparse.Namespace) -> int:
    """Compile or load every kernel; says how many were compiled, how long it took, and where the code is kept."""
    from tinyllm import kernels

    if kernels.backend() == "numpy":
        print("Nothing to compile: TINYLLM_KERNELS=numpy selects the plain NumPy kernels.")
        return 0
    n_compiled, seconds = compile_kernels(args.dtype)
    from tinyllm.kernels.jit import cache_folder

    folder = cache_folder()
    if n_compiled == 0:
        print(f"Nothing to compile: all kernels for {args.dtype} were loaded in {seconds:.1f} s from {folder}")
    elif folder is None:
        print(f"Compiled {n_compiled} kernels in {seconds:.1f} s, but there is no writable folder to keep them: each")
        print("process compiles again. Set NUMBA_CACHE_DIR to a folder that can be written.")
    else:
        print(f"Compiled {n_compiled} kernels in {seconds:.1f} s; they are kept in {folder}")
    return 0


def compile_kernels(dtype: str = "float32") -> tuple[int, float]:
    """Compile or load all kernels, with progress; how many were compiled, and the seconds it took."""
    from tinyllm import kernels
    from tinyllm.cli.progress import Progress

    start = time.monotonic()
    with Progress("compiling", None, unit="kernels") as progress:
        for name, index, total in kernels.warmup(dtype):
            progress.total = total
            progress.show(index - 1, kernel=name)
        progress.show(progress.total or 0)
    from tinyllm.kernels.jit import compilations

    if dtype == "float32":
        _note_compiled()
    return sum(compilations().values()), time.monotonic() - start


def _list_file() -> Path | None:
    """Where the files with the code of all kernels are listed: for these sources, on this processor, with these settings."""
    from tinyllm.kernels import jit

    folder = jit.cache_folder()
    return None if folder is None else folder / f"compiled-{jit.build_fingerprint()}.json"


def _note_compiled() -> None:
    """List the files of all kernels, which this process holds."""
    from tinyllm.kernels.jit import code_files
    from tinyllm.storage import strict_json, write_file

    if (path := _list_file()) is not None and (files := code_files()):
        with contextlib.suppress(OSError):  # a full disk: the next start compiles again
            write_file(path, strict_json.dump({os.path.relpath(file, path.parent): file.stat().st_size for file in files}))


def is_compiled() -> bool:
    """Whether the code of every kernel is on the disk: for these sources, this processor, this Numba and its settings.

    The list of an earlier start is believed only if each file in it is there.
    """
    from tinyllm.storage import FormatError, strict_json

    if (path := _list_file()) is None or not path.exists():
        return False
    try:
        listed = strict_json.read(path, schema=strict_json.MapOf(int))
        return all((path.parent / name).stat().st_size == size for name, size in listed.items())
    except (OSError, FormatError):
        return False


def ensure_compiled() -> None:
    """Compile all kernels with progress unless their code is there, so that a first run does not seem to hang.

    Without a folder to keep the code in, each kernel is left to compile when it is needed; that is said.
    """
    from tinyllm import kernels

    if kernels.backend() == "numpy":
        return
    from tinyllm.kernels import jit

    if jit.cache_folder() is None and not jit.CONFIG.DISABLE_JIT:
        advice = "set NUMBA_CACHE_DIR to a folder that can be written"
        print(
            f"Compiling the kernels, at every start, about a minute: there is no place to keep them; {advice}.", file=sys.stderr
        )
    elif not jit.CONFIG.DISABLE_JIT and not is_compiled():
        print("Compiling the kernels: once on this machine, about a minute.", file=sys.stderr, flush=True)
        if not compile_elsewhere():
            compile_kernels()


def compile_elsewhere() -> bool:
    """Compile all kernels in another process, which shows its progress; False if that did not work.

    In the process that compiled it, code may round a few sums in another order than the same code loaded from the disk: the
    compiler optimises the body of a parallel loop once alone and once within its kernel, and only the latter is kept. A run
    resumed by another process would not be exact to the bit. So whoever trains loads, the first time, too.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    words = [sys.executable, "-m", "tinyllm", "warmup"]
    return subprocess.run(words, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}).returncode == 0
