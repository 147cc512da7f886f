"""How many threads there are, who says so, and that their number changes no bit of any kernel's result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm import kernels
from tinyllm.kernels import threads

ROOT = Path(kernels.__file__).parents[2]

# Every example, blown up beyond the sizes below which a kernel stays on one core; then on 1, 2 and 4 threads, twice each.
EVERY_KERNEL = """
import hashlib, json
import numba, numpy as np
from tinyllm import kernels
from tinyllm.kernels import examples

examples.B, examples.T, examples.C, examples.H, examples.G, examples.D, examples.V = 8, 96, 256, 4, 2, 64, 200
ids = np.random.default_rng(0).integers(0, 200, (8, 96))
values = np.random.default_rng(1).standard_normal((4, 8 * 96 * 256)).astype("f")


def adamw():
    weights, gradients, means, squares = ([row[:70], row[70:].reshape(2, -1)] for row in (*values[:3].copy(), abs(values[3])))
    settings = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decays": [0.0, 0.1], "step": 3}
    kernels.adamw_update(weights, gradients, means, squares, **settings)
    return *weights, *means, *squares


ours = {"adamw_update": adamw}  # in place: its example gives nothing back
ours["embedding_backward"] = lambda: kernels.embedding_backward(values[0].reshape(8, 96, 256), ids, 200)
found = {}
for n in (1, 2, 4, 1, 2, 4):
    numba.set_num_threads(n)
    for name, call in (examples.examples() | ours).items():  # made anew: some kernels write into what they are given
        result = call()
        arrays = result if isinstance(result, tuple) else (result,)
        bits = b"".join(np.asarray(x).tobytes() for x in arrays if x is not None)
        found.setdefault(name, []).append(hashlib.sha256(bits).hexdigest() if bits else "")
print(json.dumps(found))
"""


@pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")
def test_every_kernel_gives_the_same_bits_on_one_two_and_four_threads():
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", EVERY_KERNEL], env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert set(found) == set(kernels.TABLE)
    assert [name for name, bits in found.items() if "" in bits] == [], "gives nothing back: add its arrays, as for adamw_update"
    assert [name for name, bits in found.items() if len(set(bits)) > 1] == []


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 6 cores without limits; returns the file in which a container's limit would stand."""
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "allowed_cores", lambda: 6)
    monkeypatch.setattr(threads, "QUOTAS", (str(tmp_path / "cpu.max"), str(tmp_path / "limit"), str(tmp_path / "period")))
    return tmp_path / "cpu.max"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (6, "usable cores")),
        ({"OMP_NUM_THREADS": "1"}, (1, "OMP_NUM_THREADS")),
        ({"OMP_NUM_THREADS": "3,2"}, (3, "OMP_NUM_THREADS")),
        ({"OMP_NUM_THREADS": "16"}, (6, "usable cores")),
        ({"OMP_NUM_THREADS": "all"}, (6, "usable cores")),
        ({"OMP_NUM_THREADS": "0"}, (6, "usable cores")),
        ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "4"}, (4, "NUMBA_NUM_THREADS")),
        ({"OMP_NUM_THREADS": "4", "NUMBA_NUM_THREADS": "1"}, (1, "NUMBA_NUM_THREADS")),
    ],
)
def test_numba_s_variable_counts_before_openmp_s_before_the_cores(machine, monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert threads.wanted_threads() == expected


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 6), ("200000 100000", 2), ("150000 100000", 2), ("20000 100000", 1), ("-1 100000", 6), ("?", 6)],
)
def test_a_container_s_limit_counts(machine, limit, cores):
    machine.write_text(limit + "\n")
    assert threads.usable_cores() == cores


def test_the_older_kind_of_limit_counts_too(machine):
    (machine.parent / "limit").write_text("300000\n")
    (machine.parent / "period").write_text("100000\n")
    assert threads.usable_cores() == 3


@pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")
@pytest.mark.parametrize(
    ("environment", "expected"), [({"OMP_NUM_THREADS": "1"}, 1), ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}, 2)]
)
def test_the_kernels_run_on_as_many_threads_as_were_asked_for(environment, expected):
    settings = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    code = "from tinyllm import kernels; from tinyllm.kernels import jit; kernels.threading_layer(); print(jit.max_threads())"
    settings = {**settings, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == (str(expected), 0), done.stderr
