"""Thread pools: found in the process, asked how many threads they have, and judged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.kernels import pools
from tinyllm.kernels.pools import Pool, advice, loaded_libraries, thread_pools

linux = pytest.mark.skipif(sys.platform != "linux", reason="pools are found in /proc")
ROOT = Path(tinyllm.__file__).parents[1]
SLEEPING = Pool("OpenMP", "libgomp.so.1", 2, "idle threads sleep")
SPINNING = Pool("OpenMP", "libgomp.so.1", 2, "idle threads spin")
BLAS = Pool("OpenBLAS", "libopenblas.so", 2)


def test_libraries_are_read_from_the_map_of_memory(monkeypatch, tmp_path):
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 1   /usr/lib/libgomp.so.1.0.0\n"
        "7f01-7f02 rw-p 00000000 08:01 1   /usr/lib/libgomp.so.1.0.0\n"
        "7f02-7f03 r-xp 0 08:01 2 /a path/with spaces/libtbb.so.12\n"
        "7f03-7f04 rw-p 0 00:00 0 [heap]\n7f04-7f05 r--p 0 08:01 3 /etc/x.conf\n"
    )
    monkeypatch.setattr(pools, "MAPS", maps)
    assert loaded_libraries() == ["/a path/with spaces/libtbb.so.12", "/usr/lib/libgomp.so.1.0.0"]
    assert [pool.kind for pool in thread_pools()] == ["TBB", "OpenMP"]


def test_a_system_that_does_not_tell_has_no_pools(monkeypatch, tmp_path):
    monkeypatch.setattr(pools, "MAPS", tmp_path / "nothing")
    assert list(thread_pools()) == []


@pytest.mark.parametrize(
    ("environment", "idle"),
    [
        ({"OMP_WAIT_POLICY": "active"}, "idle threads spin"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "idle threads sleep"),
        ({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000"}, "idle threads sleep after 5,000 looks"),
        ({}, "idle threads spin for a while, then sleep"),
    ],
)
def test_what_idle_threads_do(monkeypatch, environment, idle):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pools._idle("OpenMP", "libgomp.so.1") == idle
    assert pools._idle("OpenBLAS", "libopenblas.so") == ""


@pytest.mark.parametrize(
    ("found", "threads", "source", "says"),
    [
        ([SLEEPING, BLAS], 2, "usable cores", ""),
        ([SLEEPING, BLAS], 4, "NUMBA_NUM_THREADS", "4 threads share 2 cores: set NUMBA_NUM_THREADS to 2 or less"),
        ([SPINNING, BLAS], 2, "usable cores", "unset OMP_WAIT_POLICY"),
        ([SPINNING, Pool("OpenBLAS", "libopenblas.so", 1)], 2, "usable cores", ""),
        ([SLEEPING, Pool("OpenMP", "libiomp5.so", 2, "idle threads sleep")], 2, "usable cores", "two OpenMP runtimes"),
        ([SLEEPING, Pool("OpenBLAS", "libopenblas.so", 64)], 2, "usable cores", "64 threads on 2 cores: set OMP_NUM_THREADS"),
    ],
)
def test_advice_is_one_line_about_the_worst(found, threads, source, says):
    text = advice(found, threads=threads, source=source, cores=2)
    assert says in text and "\n" not in text and bool(says) == bool(text)


@linux
@pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")
@pytest.mark.parametrize(
    ("environment", "kernel_threads", "source"),
    [
        ({"OMP_NUM_THREADS": "1"}, 1, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "3"}, 3, "NUMBA_NUM_THREADS"),
        ({"OPENBLAS_NUM_THREADS": "1"}, None, "usable cores"),
    ],
)
def test_doctor_shows_who_decided_and_what_every_pool_has(environment, kernel_threads, source):
    settings = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", "tinyllm", "doctor"],
        env={**settings, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    (threads, *_) = (line.split(None, 1)[1] for line in done.stdout.splitlines() if line.startswith("  threads "))
    pool_lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("  pool ")]
    kernel_threads = kernel_threads or len(os.sched_getaffinity(0))
    assert threads.startswith(f"{kernel_threads} ({source})"), done.stdout
    if "threading layer   omp" in done.stdout:
        openmp = [line for line in pool_lines if "OpenMP" in line]
        assert any(f"{kernel_threads} threads" in line and "sleep" in line for line in openmp), pool_lines
    blas = [line for line in pool_lines if "openblas" in line.lower()]
    assert all("1 threads" in line and "not used by the kernels" in line for line in blas), blas
