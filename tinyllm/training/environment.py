"""What else than the settings can change a run's bits: versions, processor, and which kernels compute.

A checkpoint carries this list. Going on elsewhere is allowed, since it is often the point of a checkpoint, but is no
longer exact to the bit, so a difference is worth a warning. The number of threads is noted too, but makes no difference: the
kernels cut their sums into pieces whose number does not depend on it. (The NumPy twins leave sums to BLAS, which does not.)
"""

import hashlib
import importlib.metadata
import os
import platform
import sys

from tinyllm import kernels
from tinyllm.kernels.threads import wanted_threads


def describe_environment() -> dict[str, str]:
    """Name -> value of everything outside the settings on which the bits of a run may depend. Does not import Numba."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in ("numpy", "numba", "llvmlite")},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "instructions": _instructions(),
        "threads": str(_n_threads()),
        "kernels": kernels.backend(),
    }


def environment_differences(saved: dict[str, str]) -> list[str]:
    """What is different now, as texts like "numpy was 2.3.1, is 2.4.0"; empty if nothing."""
    now = describe_environment()
    harmless = {"threads"} if now["kernels"] == "numba" else set()
    different = [name for name in now if name not in harmless and saved.get(name) != now[name]]
    return [f"{name} was {saved.get(name)}, is {now[name]}" for name in different]


def _version(package: str) -> str:
    """The installed version of a package, or "absent"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def _instructions() -> str:
    """What the compiler makes code for: vector width, and with it the order of sums, depends on it.

    Two virtual machines may both be called "AMD EPYC" and differ here; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES choose it freely.
    """
    from llvmlite import binding

    name = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES") or binding.get_host_cpu_features().flatten()
    words = set(features.split(","))
    widest = next((word for word in ("avx512f", "avx2", "avx", "sse2", "sve", "neon") if "+" + word in words), "no vectors")
    return f"{name} {widest} {hashlib.sha256(features.encode()).hexdigest()[:8]}"


def _n_threads() -> int:
    """How many threads the kernels use: Numba's own count if it is loaded, else what it would choose."""
    if "numba" in sys.modules and kernels.backend() == "numba":
        return sys.modules["numba"].get_num_threads()
    return wanted_threads()[0]
