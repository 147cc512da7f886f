"""Quickstart stopped in its first training goes on from there; `tests/random_stops.py` stops it everywhere else."""

import signal

import pytest
import small_journey

from tinyllm.recipes import journey
from tinyllm.training import latest_checkpoint, loop, read_records
from tinyllm.training.signals import StopSignals


@pytest.mark.parametrize("looks", [2, 4])  # for a signal: in the first evaluation or just after it, and a step or two later
def test_a_stop_in_pre_training_is_saved_and_the_journey_goes_on(looks, tmp_path, monkeypatch):
    class Signals(StopSignals):
        seen = 0

        @property
        def received(self):
            Signals.seen += 1
            return signal.SIGTERM if Signals.seen >= looks else None

        @received.setter
        def received(self, value):
            pass

    def far_enough(self):
        raise ValueError("far enough")

    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignals", Signals)
        with pytest.raises(SystemExit) as stop:
            small_journey.run(folder)
    assert stop.value.code == 143 and latest_checkpoint(folder / "base" / "checkpoints") is not None
    monkeypatch.setattr(journey.Journey, "tune", far_enough)
    with pytest.raises(SystemExit) as stop:
        small_journey.run(folder, resume=True)
    assert stop.value.code == 2 and (folder / "base" / "report.html").exists()
    steps = [record["step"] for record in read_records(folder / "base" / "metrics.jsonl") if record["event"] == "step"]
    assert steps == list(range(1, small_journey.STEPS + 1))
