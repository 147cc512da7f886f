"""Facts about the run's log."""

import dataclasses
import json
import math

import pytest

from tinyllm.training.metrics import (
    EvalRecord,
    StepMetrics,
    StepRecord,
    append_record,
    keep_records,
    peak_memory_bytes,
    read_records,
)


def record(step):
    """A step's record."""
    return StepRecord(step, 2.5, 1e-3, 0.5, 100 * step, 10.0, 10_000.0, 1, time=0.0)


def test_records_read_back_as_they_were_written(tmp_path):
    log = tmp_path / "metrics.jsonl"
    append_record(log, EvalRecord(0, 3.1, 3.1, 0, 0.5))
    append_record(log, record(1))
    first, second = read_records(log)
    assert first["event"] == "evaluation" and first["val_loss"] == 3.1
    assert second["event"] == "step" and second["grad_norm"] == 0.5
    assert log.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("n_bytes", [1, 20, 60])
def test_a_torn_last_line_costs_only_itself(tmp_path, n_bytes):
    log = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        append_record(log, record(step))
    log.write_bytes(log.read_bytes()[:-n_bytes])
    whole = [1, 2] if n_bytes == 1 else [1]  # only the newline is missing: the record is whole
    assert [r["step"] for r in read_records(log)] == whole
    append_record(log, record(3))
    assert [r["step"] for r in read_records(log)] == [*whole, 3]


def test_a_missing_log_is_an_empty_one_and_garbage_is_not_a_record(tmp_path):
    assert read_records(tmp_path / "none") == []
    (tmp_path / "log").write_bytes(b'[1]\n{"step": "1", "event": "step"}\n\xff\xfe\n{"step": 1}\n\n')
    assert read_records(tmp_path / "log") == []


def test_the_log_is_cut_back_to_the_wanted_records(tmp_path):
    log = tmp_path / "metrics.jsonl"
    for step in range(1, 6):
        append_record(log, record(step))
    kept = b"".join(log.read_bytes().splitlines(keepends=True)[:3])
    keep_records(log, lambda r: r["step"] <= 3)
    assert log.read_bytes() == kept
    keep_records(tmp_path / "none", lambda r: True)
    assert not (tmp_path / "none").exists()


def test_the_peak_of_memory_is_in_bytes():
    assert 10e6 < peak_memory_bytes() < 1e12


def test_step_metrics_are_means_over_the_examples_and_the_latest_of_what_holds_for_the_step():
    metrics = StepMetrics()
    metrics.add(3, accuracy=1.0)
    metrics.add(1, accuracy=0.0, loss=2.0)
    metrics.set(rollout=1)
    metrics.set(rollout=2)
    assert metrics() == {"rollout": 2.0, "accuracy": 0.75, "loss": 2.0} and metrics() == {}


def test_step_metrics_go_on_in_the_middle_of_a_step():
    whole, half, again = StepMetrics(), StepMetrics(), StepMetrics()
    whole.add(3, margin=0.1)
    half.add(3, margin=0.1)
    again.restore(json.loads(json.dumps(half.state(), allow_nan=False)))
    for metrics in (whole, again):
        metrics.add(2, margin=0.7)
    assert whole() == again()
    again.add(1, margin=5.0)
    again.restore({})
    assert again() == {}


def test_a_metric_that_is_no_number_is_null_in_every_file(tmp_path):
    metrics = StepMetrics()
    metrics.add(2, ratio=math.inf)
    metrics.set(explained=math.nan)
    state = json.loads(json.dumps(metrics.state(), allow_nan=False))
    append_record(tmp_path / "log", dataclasses.replace(record(1), metrics=metrics()))
    again = StepMetrics()
    again.restore(state)
    append_record(tmp_path / "log", dataclasses.replace(record(2), metrics=again()))
    assert [(one["ratio"], one["explained"]) for one in read_records(tmp_path / "log")] == [(None, None)] * 2
