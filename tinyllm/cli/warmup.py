"""`tinyllm warmup`: compile every kernel now, so that nothing waits for the compiler later.

Numba makes machine code at a kernel's first call. That takes seconds each time, but only once for a machine: the code is
kept on disk. Whoever builds a container image or teaches a class runs this beforehand.
"""

import argparse
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
    from tinyllm.cli.terminal import Terminal
    from tinyllm.kernels.jit import cache_folder
    from tinyllm.recipes.compile_ahead import compile_kernels

    with Terminal() as show:
        n_compiled, seconds = compile_kernels(args.dtype, show=show)
    folder = cache_folder()
    if n_compiled == 0:
        print(f"Nothing to compile: all kernels for {args.dtype} were loaded in {seconds:.1f} s from {folder}")
    elif folder is None:
        print(f"Compiled {n_compiled} kernels in {seconds:.1f} s, but there is no writable folder to keep them: each")
        print("process compiles again. Set NUMBA_CACHE_DIR to a folder that can be written.")
    else:
        print(f"Compiled {n_compiled} kernels in {seconds:.1f} s; they are kept in {folder}")
    return 0
