"""Learning-rate schedules at the points one can work out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.optim import constant, warmup_cosine, warmup_stable_decay

COSINE = {"peak": 1.0, "floor": 0.1, "warmup_steps": 4, "max_steps": 12}
STABLE = {"peak": 1.0, "floor": 0.1, "warmup_steps": 4, "max_steps": 20, "decay_fraction": 0.2}


def test_warmup_rises_in_equal_steps_to_the_peak():
    for schedule, settings in [(warmup_cosine, COSINE), (warmup_stable_decay, STABLE)]:
        assert [schedule(step, **settings) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [constant(step, peak=2.0, warmup_steps=1) for step in range(3)] == [1.0, 2.0, 2.0]
    assert constant(0, peak=2.0) == 2.0


def test_cosine_is_halfway_down_halfway_through_and_stays_on_the_floor():
    values = {4: 1.0, 6: 0.1 + 0.45 * (1 + math.cos(math.pi / 4)), 8: 0.55, 10: 0.1 + 0.45 * (1 - math.cos(math.pi / 4)),
              12: 0.1, 13: 0.1, 1000: 0.1}  # fmt: skip
    for step, value in values.items():
        assert warmup_cosine(step, **COSINE) == pytest.approx(value)


def test_stable_stays_level_then_falls_in_a_straight_line():
    assert [warmup_stable_decay(step, **STABLE) for step in (4, 10, 16)] == pytest.approx([1.0, 1.0, 1.0])
    assert [warmup_stable_decay(step, **STABLE) for step in (17, 18, 19, 20, 99)] == pytest.approx([0.775, 0.55, 0.325, 0.1, 0.1])


numbers = {"peak": st.floats(1e-6, 10), "warmup_steps": st.integers(0, 50), "max_steps": st.integers(1, 200)}


@given(st.sampled_from([warmup_cosine, warmup_stable_decay]), st.floats(0, 1), *numbers.values())
def test_any_schedule_stays_between_zero_and_the_peak_without_jumps_up(schedule, share, peak, warmup_steps, max_steps):
    settings = {"peak": peak, "floor": share * peak, "warmup_steps": warmup_steps, "max_steps": max_steps}
    values = [schedule(step, **settings) for step in range(max_steps + warmup_steps + 3)]
    assert all(0 <= value <= peak * (1 + 1e-12) for value in values)
    after = values[warmup_steps:]
    assert all(b <= a * (1 + 1e-12) for a, b in zip(after, after[1:], strict=False))  # never rises after warming up
    assert values[-1] == pytest.approx(share * peak) or warmup_steps >= max_steps


@given(st.integers(0, 20), st.integers(40, 200))
def test_cosine_has_no_jump(warmup_steps, max_steps):
    settings = {"peak": 1.0, "floor": 0.0, "warmup_steps": warmup_steps, "max_steps": max_steps}
    values = [warmup_cosine(step, **settings) for step in range(max_steps + 5)]
    steepest = max(1 / (warmup_steps + 1), math.pi / 2 / (max_steps - warmup_steps))
    assert max(abs(b - a) for a, b in zip(values, values[1:], strict=False)) <= steepest * 1.001
