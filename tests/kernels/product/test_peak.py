"""The measured peak: the arithmetic that is timed is really done, and the figure is what was done over the time it took."""

from types import SimpleNamespace

import numpy as np
import pytest

from tinyllm import kernels

pytestmark = pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")


@pytest.fixture
def peak():
    from tinyllm.kernels.product import peak

    return peak


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_steps", [0, 1, 2, 5])
def test_each_thread_does_every_step_of_all_twelve_sums(peak, n_steps, dtype):
    x = np.array([0.5, 0.25, 2.0], dtype)
    sums = x.copy()
    for _ in range(n_steps):
        sums = sums * x + x
    peak._work(n_steps, x)
    np.testing.assert_allclose(x, peak.VECTORS * sums, rtol=1e-6)


def test_the_peak_is_what_was_done_over_the_shortest_time_of_five(peak, monkeypatch):
    """A made machine: a million steps a second on every thread, and each fifth run is slowed down to a half."""
    runs, now = [], [0.0]

    def work(n_steps, x):
        runs.append((n_steps, x.size))
        now[0] += n_steps / 1e6 * (2 if len(runs) % 5 == 0 else 1)

    monkeypatch.setattr(peak, "_work", work)
    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    lanes, threads = peak.lanes_of(peak.types.float32), peak.get_num_threads()
    assert peak.peak_flops() == pytest.approx(2 * peak.VECTORS * lanes * threads * 1e6)
    assert {size for _, size in runs} == {threads} and len(runs) == 5


def test_runs_grow_until_they_are_long_enough_to_time(peak, monkeypatch):
    steps, now = [], [0.0]

    def work(n_steps, x):
        steps.append(n_steps)
        now[0] += n_steps / 1e8  # the first size takes 0.0007 s

    monkeypatch.setattr(peak, "_work", work)
    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    peak.peak_flops()
    assert steps == [size for size in (1 << 16, 1 << 18, 1 << 20) for _ in range(5)]
    assert steps[-6] / 1e8 < peak.SHORTEST <= steps[-1] / 1e8
