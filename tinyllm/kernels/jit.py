"""The one place that knows Numba: how a Python loop becomes machine code, where that code is kept, how it is counted.

`@jit` turns a function into a kernel, `@jit(parallel=True)` shares its `prange` loops among the cores, `@inlined` makes a
piece that melts into the kernels calling it. Code is made at the first call, once per dtype (float64 costs nothing until it
is used), and kept on disk. `fastmath` is cut down to what cannot hurt: sums may be reordered (`reassoc`) and a*b+c fused
(`contract`), but NaN and infinity keep their meaning. What is set before Numba is loaded: `set_up.py`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyllm.kernels.set_up import set_up

set_up()  # before Numba is loaded

import numba  # noqa: E402
import numba.extending  # noqa: E402
import numpy as np  # noqa: E402
from llvmlite import binding  # noqa: E402
from numba.core import caching, sigutils  # noqa: E402
from numba.core.ccallback import CFunc  # noqa: E402
from numba.core.registry import cpu_target  # noqa: E402

from tinyllm.storage.lock import lock  # noqa: E402

prange: Any = numba.prange
intrinsic: Any = numba.extending.intrinsic  # a function given as LLVM instructions

# Without "nnan" and "ninf": they would let the compiler delete every check for NaN and infinity.
FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp", "afn"})
OPTIONS: dict[str, Any] = {"fastmath": set(FASTMATH), "error_model": "numpy"}
IN_ORDER: dict[str, Any] = {**OPTIONS, "fastmath": set()}

CONFIG: Any = numba.config
CODE_SETTINGS = ("BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")  # NUMBA_... that change the code
KERNELS: list[Any] = []  # every dispatcher made by `jit`, in the order of definition
SYMBOLS: dict[str, Any] = {}  # machine code that kernels call by name


def _sources() -> dict[str, bytes]:
    """Every file that holds code to be compiled, by its name in this package: "norm", "product.packing". The twins are not."""
    root = Path(__file__).parent
    files = {path.relative_to(root): path.read_bytes() for path in root.rglob("*.py")}
    return {".".join(path.with_suffix("").parts): source for path, source in files.items() if path.parts[0] != "reference"}


def _fingerprint(sources: dict[str, bytes], *more: object) -> str:
    """A short hash of these sources, of the versions and settings that change what is made of them, and of `more`."""
    settings = {name: getattr(CONFIG, name, None) for name in CODE_SETTINGS}
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info[:2]} {settings} {more}".encode())
    for name, source in sorted(sources.items()):
        digest.update(name.encode() + b"\0" + source)
    return digest.hexdigest()[:16]


def source_fingerprint() -> str:
    """Return a short hash of what is compiled into kernels of other files: Numba's settings and every file another imports.

    Numba looks only at the kernel's own file when it decides whether code on disk is stale; this covers the rest.
    """
    sources = _sources()
    shared = {name.decode() for source in sources.values() for name in re.findall(rb"from tinyllm\.kernels\.([\w.]+)", source)}
    return _fingerprint({name: source for name, source in sources.items() if name in shared})


def build_fingerprint() -> str:
    """Return a short hash of all that decides the machine code of all kernels: every source, and the processor it is made for."""
    return _fingerprint(_sources(), cpu_target.target_context.codegen().magic_tuple())


def cache_root() -> Path | None:
    """Return the folder of compiled kernels: NUMBA_CACHE_DIR if set, else the user's own cache folder; None without a home."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        home = os.environ.get("HOME")
        base = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else None)
    return Path(base) / "tinyllm" / "kernels" if base else None


@functools.cache
def kernel_folder() -> Path | None:
    """Return the folder in which this process keeps its kernels, made when the first of them is defined."""
    return cache_folder()


def cache_folder() -> Path | None:
    """Make and return the folder for this very version of the kernels, or None if it cannot be written."""
    root = cache_root()
    if root is None:
        return None
    try:
        folder = root / source_fingerprint()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.touch()  # the folder's date tells when it was last used
        return folder if os.access(folder, os.W_OK) else None
    except OSError:
        return None


class ContentLocator(caching._CacheLocator):
    """Where Numba keeps the code of a kernel: by what its source says, not by where the source lies.

    So a second checkout, or one that was moved, loads the code of the first. That saves a minute, and keeps the bits: code that
    was just compiled may round a few sums in another order than the same code loaded from the disk (`recipes/compile_ahead.py`).
    """

    def __init__(self, function: Callable, file: str) -> None:
        self._stamp = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        self._line = function.__code__.co_firstlineno
        self._path = os.path.join(CONFIG.CACHE_DIR, f"{Path(file).stem}-{self._stamp[:12]}")

    def get_cache_path(self) -> str:
        """The folder of all kernels of this source file."""
        return self._path

    def get_source_stamp(self) -> str:
        """What must be equal for code on the disk to be used."""
        return self._stamp

    def get_disambiguator(self) -> str:
        """What tells kernels of one name and file apart."""
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable, file: str) -> ContentLocator | None:
        """The locator, None if there can be no folder."""
        try:
            locator = cls(function, file)
            locator.ensure_cache_path()
        except OSError:
            return None
        return locator


class ContentImpl(caching.CompileResultCacheImpl):
    """Numba's way to pack compiled code, with our way to find its place."""

    _locator_classes = [ContentLocator]


class SealedFile(caching.IndexDataCacheFile):
    """Numba's files of one kernel, except that machine code is followed by a hash of whose it is and what it is.

    Code that a crash has torn, that belongs to another kernel or to an older source is not even looked at: run, it could do
    anything. (A seal against accidents: whoever can write to the folder can also write a right one.)
    """

    def _seal(self, name: str, packed: bytes) -> bytes:
        return hashlib.sha256(f"{name} {self._source_stamp} ".encode() + packed).digest()

    def _save_data(self, name: str, data: Any) -> None:
        packed = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(packed + self._seal(name, packed))

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        if content[-32:] != self._seal(name, content[:-32]):
            raise OSError(f"{name} is damaged")  # like a file that is gone: the kernel is compiled again
        return super()._load_data(name)  # which reads up to the seal


class ForgivingCache(caching.FunctionCache):
    """Numba's cache on disk, except that a damaged or unwritable file means compiling again, never an error."""

    _impl_class = ContentImpl

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = SealedFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code for `sig`, or None if there is none or it cannot be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a torn file can raise almost anything while it is decoded
            with contextlib.suppress(OSError):
                os.unlink(self._cache_file._index_path)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled code for `sig`; a full or read-only disk only means compiling again next time."""
        with contextlib.suppress(Exception):
            self._impl.locator.ensure_cache_path()
            with open(os.path.join(self.cache_path, "lock"), "w") as file:
                lock(file.fileno(), wait=True)  # two who write one index could pair it with the other's code
                super().save_overload(sig, data)


def _attach_cache(compiled: Any, function: Callable, folder: Path | None) -> None:
    """Give `compiled` its place in `folder`; other users of Numba in this process keep their own."""
    if folder is None:
        return
    previous = CONFIG.CACHE_DIR
    CONFIG.CACHE_DIR = str(folder)
    try:
        compiled._cache = ForgivingCache(function)
    except (RuntimeError, OSError):  # "no locator available"
        pass
    finally:
        CONFIG.CACHE_DIR = previous


def jit(function: Callable | None = None, *, parallel: bool = False, in_order: bool = False) -> Any:
    """Turn `function` into a kernel, compiled at its first call for each dtype and kept on disk.

    Give it arrays of one layout only (see `rows`), or Numba compiles it again for every new layout. In a parallel kernel
    each iteration of `prange` must write only its own rows; a sum across iterations goes through an array of partial sums
    whose number does not depend on the number of threads, so that 1 and 16 threads give the same bits. in_order: sums are
    rounded in the order that is written, as in a twin that must choose alike between equal sums.
    """
    if function is None:
        return lambda decorated: jit(decorated, parallel=parallel, in_order=in_order)
    dispatcher = numba.njit(parallel=parallel, **(IN_ORDER if in_order else OPTIONS))(function)
    if hasattr(dispatcher, "py_func"):  # NUMBA_DISABLE_JIT leaves a plain function
        _attach_cache(dispatcher, function, kernel_folder())
        KERNELS.append(dispatcher)
    return dispatcher


def inlined(function: Callable, *, in_order: bool = False) -> Any:
    """Turn `function` into a piece of other kernels: the compiler copies it into each caller (and can vectorise it there)."""
    return numba.njit(**(IN_ORDER if in_order else OPTIONS))(function)


def register_symbol(name: str, function: Callable, signature: Any) -> None:
    """Compile `function` for one C `signature`, once, and let the machine code of all kernels call it by `name`."""
    native = CFunc(function, sigutils.normalize_signature(signature), locals={}, options=OPTIONS)
    _attach_cache(native, function, kernel_folder())
    native.compile()
    binding.add_symbol(name, native.address)
    SYMBOLS[name] = native  # keeps the machine code alive


def rows(x: np.ndarray) -> np.ndarray:
    """Return x (..., C) as a C-contiguous, writeable-typed (N, C) array; the same memory whenever x already lies so.

    One layout means one compiled signature per dtype. A read-only x is copied: Numba takes it for another type.
    """
    if not (x.flags.c_contiguous and x.flags.writeable and x.flags.aligned):
        x = np.array(x, order="C")
    if x.ndim == 2:
        return x
    width = x.shape[-1]
    return x.reshape(x.size // width if width else int(np.prod(x.shape[:-1])), width)


def code_files() -> list[Path]:
    """Return the files on the disk with the code of the kernels of this process; empty if one of them has no file."""
    found: list[Path] = []
    for owner in (*KERNELS, *SYMBOLS.values()):
        cache = owner._cache
        own = [*Path(cache.cache_path).glob(f"{cache._impl.filename_base}.*.nbc")] if cache.cache_path else []
        if not own:
            return []
        found += own
    return sorted(found)


def compilations() -> dict[str, int]:
    """Return how many signatures of each kernel were compiled in this process (loading from the disk is not compiling)."""
    return {f"{k.py_func.__module__}.{k.py_func.__name__}": sum(k.stats.cache_misses.values()) or 0 for k in KERNELS}


def signatures() -> dict[str, int]:
    """Return how many signatures of each kernel this process holds, compiled or loaded: one per dtype in use."""
    return {f"{k.py_func.__module__}.{k.py_func.__name__}": len(k.overloads) for k in KERNELS}


def max_threads() -> int:
    """Return the largest number of threads a parallel kernel can be told to use in this process."""
    return CONFIG.NUMBA_NUM_THREADS


def threading_layer() -> str:
    """Return the name of the threading layer in use: "omp", "tbb" or "workqueue"; starts it if nothing has yet."""
    try:
        return numba.threading_layer()
    except ValueError:  # not started yet
        from numba.np.ufunc import parallel

        parallel._launch_threads()
        return numba.threading_layer()
