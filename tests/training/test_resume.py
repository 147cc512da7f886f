"""Facts about going on: a run stopped anywhere, any number of times, ends with the bits of one that never stopped."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import tiny_run

from tinyllm.models import GPT
from tinyllm.storage import FormatError, manifest
from tinyllm.training import Stopped, latest_checkpoint

ALL_CALLS = 3 * 2 + 8 * 3  # calls of the loss function in a whole run: 3 evaluations of 2 batches, 8 steps of 3


def stop_at(*calls, number=signal.SIGTERM):
    """A loss function that sends this process a signal at these calls, counted from 1 over all runs it is used in."""
    made = []

    def loss_fn(model, batch, *, n_counted):
        made.append(batch)
        if len(made) in calls:
            signal.raise_signal(number)
        return tiny_run.loss_fn(model, batch, n_counted=n_counted)

    return loss_fn


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that is never stopped: its folder."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_run.run_in(folder)
    return folder


def test_a_run_stopped_at_any_call_of_the_loss_ends_with_the_same_bits(whole, memory_path):
    in_the_middle = 0
    for call in range(1, ALL_CALLS + 1):
        folder = memory_path / str(call)
        with pytest.raises(Stopped) as caught:
            tiny_run.run_in(folder, loss_fn=stop_at(call))
            pytest.fail("the last signal came after the last poll")
        assert caught.value.code == 143 and caught.value.checkpoint == latest_checkpoint(folder / "checkpoints")
        in_the_middle += "micro" in caught.value.checkpoint.name
        tiny_run.run_in(folder, resume=True)
        assert tiny_run.final_bytes(folder) == tiny_run.final_bytes(whole), call
        assert tiny_run.final_log(folder) == tiny_run.final_log(whole), call
    assert in_the_middle == 8 * 2  # after the first and the second of three micro-batches of each step


def test_a_run_stopped_again_and_again_ends_with_the_same_bits(whole, memory_path):
    loss_fn, stops = stop_at(*range(2, 200, 4)), 0
    while True:
        try:
            tiny_run.run_in(memory_path, resume=True, loss_fn=loss_fn)
            break
        except Stopped:
            stops += 1
    assert stops > 5
    assert tiny_run.final_bytes(memory_path) == tiny_run.final_bytes(whole)
    assert tiny_run.final_log(memory_path) == tiny_run.final_log(whole)


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(memory_path):
    """kill -9, thirty times. A program of its own forks the runs, so that each does not have to start Python anew."""
    command = [sys.executable, tiny_run.__file__, str(memory_path), "--kill", "30", "--max-steps", "40"]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"TINYLLM_KERNELS": "numpy", "PYTHONPATH": root}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] >= 30 and report["saved"] > 15, report
    assert report["same"] == report["same_log"] == report["runs"] and report["torn"] == 0 and report["leftovers"] == 0, report


def test_what_was_logged_after_the_checkpoint_is_logged_once(whole, tmp_path):
    """Without a signal nothing is saved: the log is ahead of the checkpoint, as after kill -9."""

    class Crash(BaseException):
        pass

    def crash_at(call):
        made = []

        def loss_fn(model, batch, *, n_counted):
            made.append(batch)
            if len(made) == call:
                raise Crash
            return tiny_run.loss_fn(model, batch, n_counted=n_counted)

        return loss_fn

    rarely = dataclasses.replace(tiny_run.CONFIG, checkpoint_interval=0)
    with pytest.raises(Stopped):  # in the second evaluation, which is therefore still to come
        tiny_run.run_in(tmp_path / "run", config=rarely, loss_fn=stop_at(2 + 4 * 3 + 1))
    for _ in range(2):
        with pytest.raises(Crash):  # after that evaluation and two more steps
            tiny_run.run_in(tmp_path / "run", config=rarely, resume=True, loss_fn=crash_at(2 + 2 * 3 + 1))
        assert [r["step"] for r in tiny_run.final_log(tmp_path / "run")] == [0, 1, 2, 3, 4, 4, 5, 6]
    tiny_run.run_in(tmp_path / "run", config=rarely, resume=True)
    assert tiny_run.final_bytes(tmp_path / "run") == tiny_run.final_bytes(whole)
    assert tiny_run.final_log(tmp_path / "run") == tiny_run.final_log(whole)


def test_a_finished_run_resumes_to_nothing(whole):
    log, weights = (whole / "metrics.jsonl").read_bytes(), tiny_run.final_bytes(whole)
    model, records = tiny_run.run_in(whole, resume=True)
    assert records == [] and (whole / "metrics.jsonl").read_bytes() == log and tiny_run.final_bytes(whole) == weights
    saved = GPT.from_pretrained(latest_checkpoint(whole / "checkpoints") / "model").state_dict()
    assert {name: array.tobytes() for name, array in model.state_dict().items()} == {n: a.tobytes() for n, a in saved.items()}
    assert model.state_dict()["tokens.weight"].tobytes() != tiny_run.make()[0].state_dict()["tokens.weight"].tobytes()


def test_resuming_an_empty_folder_starts_a_run(tmp_path, whole):
    tiny_run.run_in(tmp_path / "new", resume=True)
    assert tiny_run.final_bytes(tmp_path / "new") == tiny_run.final_bytes(whole)


@pytest.fixture
def stopped(tmp_path):
    """A run that was stopped after the first micro-batch of its sixth step."""
    with pytest.raises(Stopped):
        tiny_run.run_in(tmp_path / "run", loss_fn=stop_at(2 * 2 + 5 * 3 + 1))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"learning_rate": 0.02}, "training.learning_rate was 0.01 in .*, but is 0.02 now; resume with the same settings"),
        ({"gradient_accumulation": 2}, "training.gradient_accumulation was 3"),
        ({"max_steps": 7}, "training.max_steps was 8 in .*, but is 7 now; it can be made longer, not shorter"),
        ({"seed": 1}, "training.seed was 1337"),
    ],
)
def test_a_changed_setting_is_refused_by_name(stopped, change, text):
    with pytest.raises(ValueError, match=text):
        tiny_run.run_in(stopped, resume=True, config=dataclasses.replace(tiny_run.CONFIG, **change))


def test_how_often_to_save_may_change(stopped, whole):
    tiny_run.run_in(stopped, resume=True, config=dataclasses.replace(tiny_run.CONFIG, keep_last=5, checkpoint_interval=3))
    assert tiny_run.final_bytes(stopped) == tiny_run.final_bytes(whole)


def test_another_environment_is_a_warning_that_names_the_difference(stopped, monkeypatch):
    monkeypatch.setattr("tinyllm.training.environment._processor", lambda: "Z80")
    with pytest.warns(UserWarning, match="not exact to the bit: processor was .*, is Z80"):
        tiny_run.run_in(stopped, resume=True)


def test_another_number_of_threads_is_no_reason_to_warn(stopped, monkeypatch):
    monkeypatch.setenv("TINYLLM_KERNELS", "numba")
    monkeypatch.setattr("tinyllm.training.environment._n_threads", lambda: 96)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_run.run_in(stopped, resume=True)


class Tokenizer:
    """As much of a tokenizer as a checkpoint asks for."""

    vocab_size = 13

    def __init__(self, name):
        self.name = name

    def fingerprint(self):
        """A sha256's stand-in."""
        return self.name * 64

    def save(self, folder):
        """One file."""
        (Path(folder) / "tokenizer.json").write_text(f'"{self.name}"')


def test_another_tokenizer_is_refused(tmp_path):
    from tinyllm.training import open_run

    with open_run(tmp_path / "r", settings={}, tokenizer=Tokenizer("a")):
        pass
    with pytest.raises(ValueError, match=r"sha256 aaaaaaaaaaaa\.\.\., but bbbbbbbbbbbb\.\.\. came; resume with the run's own"):
        with open_run(tmp_path / "r", settings={}, tokenizer=Tokenizer("b"), resume=True):
            pass
    with pytest.raises(ValueError, match="but absent came"), open_run(tmp_path / "r", settings={}, resume=True):
        pass


def test_other_data_is_refused(stopped, monkeypatch):
    make = tiny_run.make

    def other_text(config):
        model, source, evaluation = make(config)
        source.tokens = source.tokens[::-1].copy()
        return model, source, evaluation

    monkeypatch.setattr(tiny_run, "make", other_text)
    with pytest.raises(ValueError, match="tokens_crc32"):
        tiny_run.run_in(stopped, resume=True)


def test_a_state_that_does_not_fit_the_model_is_a_format_error(stopped, monkeypatch):
    monkeypatch.setattr("tinyllm.training.checkpoint.random_generators", lambda model: {})
    with pytest.raises(FormatError, match="state.json: random: expected none, found dropout"):
        tiny_run.run_in(stopped, resume=True)


@pytest.mark.parametrize("broken", ["x", {"bit_generator": "PCG64"}, None])
def test_a_source_state_edited_by_hand_is_a_format_error(stopped, broken):
    checkpoint = latest_checkpoint(stopped / "checkpoints")
    state = json.loads((checkpoint / "state.json").read_text())
    state["source"]["rng"] = broken
    (checkpoint / "state.json").write_text(json.dumps(state))
    (checkpoint / "manifest.json").write_bytes(manifest.build(checkpoint))
    with pytest.raises(FormatError, match="state.json: source: expected a state of RandomWindows"):
        tiny_run.run_in(stopped, resume=True)


def test_a_run_whose_checkpoints_are_all_torn_says_that_it_starts_over(stopped, whole):
    for checkpoint in (stopped / "checkpoints").iterdir():
        (checkpoint / "state.json").write_text("")
    with pytest.warns(UserWarning) as warned:
        tiny_run.run_in(stopped, resume=True)
    assert "skipping checkpoint" in str(warned[0].message)
    assert str(warned[-1].message) == f"no whole checkpoint in {stopped / 'checkpoints'}: the run starts over from step 0"
    assert tiny_run.final_bytes(stopped) == tiny_run.final_bytes(whole)
