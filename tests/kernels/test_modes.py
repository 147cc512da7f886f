"""Numba's two debugging modes: NUMBA_BOUNDSCHECK=1 (indices are checked), NUMBA_DISABLE_JIT=1 (kernels run as plain Python).

A small selection of tests passes under each, in a process of its own. A third test shows that the first mode is really on.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm import kernels

pytestmark = pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")
ROOT = Path(kernels.__file__).parents[2]


def python(*words, **environment):
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300)


def selection(*files, warnings, **environment):
    """Run these files of tests/kernels with five examples each; fails with their output."""
    paths = [f"tests/kernels/{file}.py" for file in files]
    options = ["-q", "-p", "no:cacheprovider", "--hypothesis-profile=few", *(f"-Wignore::{name}" for name in warnings)]
    done = python("-m", "pytest", *paths, *options, **environment)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "[100%]" in done.stdout  # something ran


def test_kernels_pass_with_every_index_checked():
    selection("test_embedding", "test_rotary", "test_cross_entropy", warnings=(), NUMBA_BOUNDSCHECK="1")


def test_kernels_pass_as_plain_python():
    """Python warns where infinity minus infinity becomes nan; compiled code does not."""
    files = ("test_softmax", "test_rotary", "test_embedding", "reference/test_layers")
    selection(*files, warnings=("RuntimeWarning",), NUMBA_DISABLE_JIT="1")


READ_BEYOND = """
import numpy as np
from tinyllm.kernels import embedding, jit
print(jit.cache_folder())
embedding.embedding_forward(np.ones((3, 4), "f"), np.array([5]))
"""


def test_a_wrong_index_is_found_when_indices_are_checked_and_the_code_is_kept_apart():
    checked = python("-c", READ_BEYOND, NUMBA_BOUNDSCHECK="1")
    assert checked.returncode == 1 and "IndexError" in checked.stderr
    folder = python("-c", "from tinyllm.kernels import jit; print(jit.cache_folder())").stdout
    assert folder and folder.strip() != checked.stdout.strip()


WHICH_CODE = """
from numba.core.registry import cpu_target
from tinyllm.kernels import pointers
print(*pointers.vector_registers(), cpu_target.target_context.codegen().magic_tuple()[1])
"""


@pytest.mark.parametrize(
    "name, features, expected",
    [
        ("haswell", "+avx2,+fma,+bmi,+bmi2,+popcnt,+f16c", "32 6 haswell"),
        ("skylake-avx512", "+avx2,+fma,+avx512f", "64 12 skylake-avx512"),
        ("generic", "", "16 6 generic"),
    ],
)
def test_numba_s_switch_chooses_the_tile_too(name, features, expected):
    """A machine that has more can be told to make the code of one that has AVX2 alone; nothing is run here."""
    done = python("-c", WHICH_CODE, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)
    assert done.stdout.strip() == expected, done.stderr
