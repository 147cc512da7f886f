"""Compiling all kernels before they are needed, so that nothing seems to hang, and so that runs are exact.

Numba makes machine code at a kernel's first call. In the process that compiled it, code may round a few sums in another order
than the same code loaded from the disk: the compiler optimises the body of a parallel loop once alone and once within its
kernel, and only the latter is kept. A run resumed by another process would then not be exact to the bit. So whoever trains has
the kernels compiled by another process, and loads them, the first time too.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from tinyllm import kernels
from tinyllm.kernels.examples import warmup
from tinyllm.recipes.events import Counted, Said, Show, silent
from tinyllm.storage import FormatError, strict_json, write_file


def ensure_compiled(show: Show = silent) -> None:
    """Compile all kernels unless their code is on the disk.

    Without a folder to keep the code in, each kernel is left to compile when it is needed; that is said.
    """
    if kernels.backend() == "numpy":
        return
    from tinyllm.kernels import jit

    if jit.CONFIG.DISABLE_JIT:
        return
    if jit.cache_folder() is None:
        advice = "set NUMBA_CACHE_DIR to a folder that can be written"
        text = f"Compiling the kernels, at every start, about a minute: there is no place to keep them; {advice}."
        show(Said(text, aside=True))
    elif not is_compiled():
        show(Said("Compiling the kernels: once on this machine, about a minute.", aside=True))
        if not compile_elsewhere():
            compile_kernels(show=show)


def compile_elsewhere() -> bool:
    """Compile all kernels in another process, which shows its progress on stderr; False if that did not work."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    words = [sys.executable, "-m", "tinyllm", "warmup"]
    return subprocess.run(words, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}).returncode == 0


def compile_kernels(dtype: str = "float32", *, show: Show = silent) -> tuple[int, float]:
    """Compile or load all kernels in this process; how many were compiled, and the seconds it took."""
    start = time.monotonic()
    for name, index, total in warmup(dtype):
        show(Counted("compiling", index - 1, total, "kernels", {"kernel": name}))
    show(Counted("compiling", total, total, "kernels"))
    from tinyllm.kernels.jit import compilations

    if dtype == "float32":
        _note_compiled()
    return sum(compilations().values()), time.monotonic() - start


def is_compiled() -> bool:
    """Whether the code of every kernel is on the disk: for these sources, this processor, this Numba and its settings.

    The list of an earlier start is believed only if each file in it is there.
    """
    if (path := _list_file()) is None or not path.exists():
        return False
    try:
        listed = strict_json.read(path, schema=strict_json.MapOf(int))
        return all((path.parent / name).stat().st_size == size for name, size in listed.items())
    except (OSError, FormatError):
        return False


def _list_file() -> Path | None:
    """Where the files with the code of all kernels are listed: for these sources, on this processor, with these settings."""
    from tinyllm.kernels import jit

    folder = jit.cache_folder()
    return None if folder is None else folder / f"compiled-{jit.build_fingerprint()}.json"


def _note_compiled() -> None:
    """List the files of all kernels, which this process holds."""
    from tinyllm.kernels.jit import code_files

    if (path := _list_file()) is not None and (files := code_files()):
        with contextlib.suppress(OSError):  # a full disk: the next start compiles again
            write_file(path, strict_json.dump({os.path.relpath(file, path.parent): file.stat().st_size for file in files}))
