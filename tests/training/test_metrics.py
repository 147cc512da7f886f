"""Facts about the run's log."""

import pytest

from tinyllm.training.metrics import EvalRecord, StepRecord, append_record, keep_records, peak_memory_bytes, read_records


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
