"""Profiling: it finds where time is spent, its parts add up, and it leaves no trace.

The clock is a made one where times are looked at: each look at it takes a microsecond, a slow kernel what the test says. So
nothing here depends on how busy the machine is.
"""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tinyllm import kernels
from tinyllm.autograd import backward, modes, tensor
from tinyllm.kernels import observe
from tinyllm.models import GPT, GPTConfig
from tinyllm.ops import cross_entropy
from tinyllm.optim import AdamW
from tinyllm.report import profile as profiling
from tinyllm.report.profile import BACKWARD, CODE, KERNEL, OP, Profile, Row, Span, profile, recording, summarize
from tinyllm.training.step import update_weights

IDS = np.random.default_rng(0).integers(0, 11, (2, 9))


def make_step(width=16):
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layers=2, n_heads=2, d_model=width), rng=np.random.default_rng(0))
    optimizer = AdamW(model.parameters())

    def step():
        cross_entropy(model(IDS[:, :-1]), IDS[:, 1:]).backward()
        update_weights(optimizer, learning_rate=1e-3, grad_clip=1.0)

    step()
    return step


def everything_that_is_wrapped():
    """(owner, name) -> what is there now."""
    places = [(kernels, name) for name in kernels.TABLE if name in vars(kernels)] + observe._compiled()
    return {(str(owner), name): getattr(owner, name) for owner, name in [*places, (modes.MODE, "observers")]}


def test_everything_is_as_before_also_after_an_error():
    make_step()
    before = everything_that_is_wrapped()
    with pytest.raises(ZeroDivisionError), recording():
        assert everything_that_is_wrapped() != before
        _ = 1 / 0
    assert everything_that_is_wrapped() == before


def test_each_op_is_seen_forward_and_backward_with_its_kernels():
    step = make_step()
    with recording() as spans:
        step()
    ops = [span.name for span in spans if span.level == OP]
    assert ops.count("self_attention") == 2 * 2 and ops.count("layer_norm") == 2 * 5 and ops.count("cross_entropy") == 2
    assert ops.count("optimizer step") == 1
    assert [span.name for span in spans if span.level == BACKWARD] == ["backward"]
    assert {"attention_forward", "layer_norm_backward"} <= {span.name for span in spans if span.level == KERNEL}
    assert kernels.backend() == "numpy" or any(span.level == CODE for span in spans)


@pytest.mark.skipif(kernels.backend() == "numpy", reason="needs the compiled kernels")
def test_every_compiled_function_that_is_loaded_is_timed():
    from tinyllm.kernels import jit
    from tinyllm.kernels.examples import warmup

    list(warmup())
    reachable = {id(getattr(module, name)) for module, name in observe._compiled()}
    ours = [kernel for kernel in jit.KERNELS if kernel.py_func.__module__.startswith("tinyllm.")]
    assert [kernel.py_func.__name__ for kernel in ours if id(kernel) not in reachable] == []


class Clock:
    """Seconds that pass by a microsecond a look, and by what is added to them."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for module in (profiling, observe, modes, tensor, backward):
            monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=self.look))

    def look(self):
        self.now += 1e-6
        return self.now

    def slow(self, function, seconds):
        """`function`, which now takes so many seconds longer."""

        def slowly(*args):
            self.now += seconds
            return function(*args)

        return slowly


def test_a_slow_kernel_is_found_in_its_op_and_phase(monkeypatch):
    step, clock = make_step(), Clock(monkeypatch)
    monkeypatch.setattr(kernels, "layer_norm_backward", clock.slow(kernels.layer_norm_backward, 0.004))
    found = profile(step, shrunk_step=lambda: None, n_steps=3)
    longest = max(found.rows, key=lambda row: row.milliseconds)
    assert (longest.phase, longest.op, longest.calls) == ("backward", "layer_norm", 5)
    assert 20 < longest.milliseconds < 20.1 and longest.milliseconds < found.recorded_ms[0] < 21


def test_the_parts_and_the_rows_add_up_to_a_step(monkeypatch):
    step, shrunk_step, clock = make_step(64), make_step(2), Clock(monkeypatch)
    monkeypatch.setattr(kernels, "layer_norm_backward", clock.slow(kernels.layer_norm_backward, 0.001))
    found = profile(step, shrunk_step=shrunk_step, n_steps=4)
    assert found.milliseconds == pytest.approx(5, rel=0.01)  # five layer norms; without wrappers the clock is looked at twice
    assert sum(found.parts().values()) == pytest.approx(found.milliseconds)
    assert all(value >= 0 for value in found.parts().values())
    assert 5 < sum(row.milliseconds for row in found.rows) == pytest.approx(found.recorded_ms[0])
    assert all(row.kernel_ms <= row.milliseconds for row in found.rows)


def test_spans_become_rows():
    """A step of 10 s: op a 1..3 with a kernel 1.5..2.5 and its code 1.6..2.4, backward 4..8 with a 5..6, a bare kernel 9..9.5."""
    spans = [
        Span(OP, "a", 1.0, 2.0, 100), Span(KERNEL, "k", 1.5, 1.0, 30), Span(CODE, "_k", 1.6, 0.8),
        Span(BACKWARD, "backward", 4.0, 4.0), Span(OP, "a", 5.0, 1.0, 7), Span(KERNEL, "update", 9.0, 0.5, 1),
        Span(CODE, "_update", 9.1, 0.25),
    ]  # fmt: skip
    rows = {(row.phase, row.op): row for row in summarize([spans], [10_000.0])}
    assert rows["forward", "a"] == Row("forward", "a", 1, 2000, {"k": pytest.approx(800)}, 30)
    assert rows["backward", "a"] == Row("backward", "a", 1, 1000, {}, 7)
    assert rows["optimizer", "update"] == Row("optimizer", "update", 1, 500, {"update": pytest.approx(250)}, 1)
    assert [rows[phase, "between"].milliseconds for phase in ("forward", "backward", "optimizer")] == [2000, 3000, 1500]


def test_one_interrupted_step_does_not_spoil_the_rows():
    def step(seconds):
        return [Span(OP, "a", 0.0, seconds)]

    rows = summarize([step(0.001), step(0.001), step(0.001), step(5.0)], [1.0, 1.0, 1.0, 5000.0])
    assert rows[0].milliseconds == pytest.approx(1.0)


def test_the_shrunk_step_is_python_s_part():
    found = Profile([10.0, 12.0, 11.0], [12.0, 13.0, 12.5], [1.0, 1.5, 1.2], [Row("forward", "a", 1, 9, {"k": 8.0}, 0)], 0, 0, [])
    assert found.parts() == {"kernels": 8.0, "python": 1.2, "numpy and memory": pytest.approx(1.8)}
    assert found.recording_ms == 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux counts")
def test_page_faults_are_counted_where_memory_is_touched_first():
    before = profiling.page_faults()
    import mmap

    with mmap.mmap(-1, 400 * mmap.PAGESIZE) as fresh:
        for page in range(400):
            fresh[page * mmap.PAGESIZE] = 1
    assert 300 <= profiling.page_faults() - before  # or fewer where the system hands out huge pages


def test_a_page_fault_costs_what_the_first_walk_takes_longer(monkeypatch):
    """Walks of 5 ms and 1 ms over 256 pages: 4 ms are the faults'."""
    looks, counts = itertools.cycle([0.0, 0.005, 0.005, 0.006]), itertools.cycle([0, 256])
    monkeypatch.setattr(profiling, "time", SimpleNamespace(perf_counter=lambda: next(looks)))
    monkeypatch.setattr(profiling, "page_faults", lambda: next(counts))
    assert profiling.fault_microseconds() == pytest.approx(1e6 * 0.004 / 256)
