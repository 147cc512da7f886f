"""Facts about run folders: one trainer at a time, and no run is overwritten by another."""

import json
import os
import subprocess
import sys

import pytest
import tiny_run

from tinyllm.training import open_run

SETTINGS = {"training": tiny_run.CONFIG}
STEP = '{"event": "step", "step": 2}\n'


def test_a_second_trainer_on_a_folder_is_refused(tmp_path):
    with open_run(tmp_path, settings=SETTINGS):
        with pytest.raises(ValueError, match=f"in use by another trainer .process {os.getpid()}.: wait for it, or choose"):
            with open_run(tmp_path, settings=SETTINGS, resume=True):
                pass
    with open_run(tmp_path, settings=SETTINGS, resume=True):
        pass


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path):
    program = "import sys; from tinyllm.training import open_run; c = open_run(sys.argv[1], settings={}); c.__enter__();"
    program += "print('locked', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=f"process {holder.pid}"), open_run(tmp_path, settings={}, resume=True):
            pass
        holder.kill()
    with open_run(tmp_path, settings={}, resume=True):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_folder_with_a_run_in_it_is_refused_unless_resuming(tmp_path):
    with open_run(tmp_path, settings=SETTINGS) as run:
        assert not run.resuming
        run.metrics_path.write_text(STEP)
    with pytest.raises(ValueError, match="already holds a run: resume it, or choose another folder"):
        with open_run(tmp_path, settings=SETTINGS):
            pass
    with open_run(tmp_path, settings=SETTINGS, resume=True) as run:
        assert run.resuming


@pytest.mark.parametrize(
    ("trace", "text"),
    [
        ("metrics.jsonl", STEP),
        ("checkpoints/step-00000001/x", ""),
        ("model/model.safetensors", ""),
        ("model.safetensors", ""),
        ("config.json", '{"model_type": "gpt2"}'),
    ],
)
def test_what_must_not_be_overwritten_counts_as_a_run(tmp_path, trace, text):
    (tmp_path / trace).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / trace).write_text(text)
    with pytest.raises(ValueError, match="already holds a run"), open_run(tmp_path, settings={}):
        pass
    assert (tmp_path / trace).read_text() == text


def test_a_start_that_failed_can_be_repeated_with_other_settings(tmp_path):
    with open_run(tmp_path, settings=SETTINGS) as run:
        run.metrics_path.write_text('{"event": "evaluation", "step": 0}\n{"event": "step", "step": 1}\n')
    (tmp_path / ".gitkeep").touch()
    with open_run(tmp_path, settings={"training": {"seed": 2}}) as run:
        assert not run.resuming and not run.metrics_path.exists()
    assert json.loads((tmp_path / "config.json").read_text())["settings"] == {"training": {"seed": 2}}


def test_the_config_file_tells_settings_and_environment(tmp_path):
    with open_run(tmp_path / "a" / "b", settings={"training": tiny_run.CONFIG, "model": tiny_run.MODEL, "data": {"n": (1, 2)}}):
        pass
    content = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert content["settings"]["training"]["learning_rate"] == 0.01
    assert content["settings"]["model"]["vocab_size"] == 13
    assert content["settings"]["data"] == {"n": [1, 2]}
    assert content["environment"].keys() >= {"python", "numpy", "numba", "threads", "processor"}


def test_leftovers_of_a_dead_run_are_cleared_at_the_start(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    leftover = tmp_path / "checkpoints" / f".tmp-step-00000002-{int(dead.stdout)}-00000000"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("x")
    with open_run(tmp_path, settings={}):
        assert list((tmp_path / "checkpoints").iterdir()) == []
