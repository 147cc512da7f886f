"""Going on with a run: nothing has to be repeated, other inputs are refused by name, a longer run is said, a stop tells how."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from tiny_models import stop_after

from tinyllm.cli.main import main
from tinyllm.cli.resuming import resumable
from tinyllm.training import Stopped, read_records

CHATS = Path(__file__).parents[1] / "fixtures" / "chat"
TUNED = "--max-steps 4 --warmup-steps 0 --batch-size 2 --checkpoint-interval 2".split()
RL = (
    "--max-steps 4 --warmup-steps 0 --n-answers 4 --group-size 2 --max-new-tokens 4 --minibatch-size 2 --checkpoint-interval 2"
).split()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def words_of(base, judge, pairs_file, prompts_file, text_file, tmp_path):
    """verb -> the words of a run of four steps that saves every second one."""
    reward = tmp_path / "my_reward.py"
    reward.write_text("def score(prompt, answer):\n    return len(answer)\n")
    tiny = "--tokenizer character --block-size 16 --n-layers 1 --n-heads 2 --d-model 8 --warmup-steps 1 --num-samples 0".split()
    return {
        "train": [text_file, *tiny, *TUNED[:2], *TUNED[4:]],
        "finetune": [base, CHATS / "alpaca.json", CHATS / "messages.jsonl", *TUNED],
        "finetune --lora-rank": [base, CHATS / "alpaca.json", "--lora-rank", 2, *TUNED],
        "reward": [base, pairs_file, *TUNED[:2], *TUNED[4:]],
        "dpo": [base, pairs_file, *TUNED],
        "rl": [base, prompts_file, "--reward-model", judge, *RL],
        "rl --method grpo": [base, prompts_file, "--reward", f"{reward}:score", "--method", "grpo", *RL],
    }


def weights(run):
    return (run / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("case", ["train", "finetune", "finetune --lora-rank", "reward", "dpo", "rl", "rl --method grpo"])
def test_a_run_goes_on_with_nothing_but_its_folder_and_can_be_made_longer(case, words_of, out, capsys):
    verb, words = case.split()[0], [str(word) for word in words_of[case]]
    assert main([verb, *words, "--out", str(out)]) == 0
    whole = weights(out)
    for name in ("model", "checkpoints/step-00000004"):
        shutil.rmtree(out / name)
    assert main([verb, "--out", str(out), "--resume"]) == 0
    assert weights(out) == whole
    assert main([verb, "--out", str(out), "--resume", "--max-steps", "6"]) == 0
    shown = capsys.readouterr().out
    assert "Longer: 4 steps become 6. From step 4 on the learning rate is that of the cosine schedule over 6 steps: " in shown
    steps = [record for record in read_records(out / "metrics.jsonl") if record["event"] == "step"]
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[4]["learning_rate"] > steps[3]["learning_rate"]  # the cosine of a longer run
    assert json.loads((out / "config.json").read_text())["settings"]["training"]["max_steps"] == 6  # its length from now on


def test_a_longer_run_of_a_constant_rate_is_the_run_that_was_long_from_the_start(words_of, tmp_path):
    words = [*map(str, words_of["train"]), "--schedule", "constant"]
    long, extended = tmp_path / "long", tmp_path / "extended"
    assert main(["train", *words, "--max-steps", "6", "--out", str(long)]) == 0
    assert main(["train", *words, "--out", str(extended)]) == 0
    assert main(["train", "--out", str(extended), "--resume", "--max-steps", "6"]) == 0
    assert weights(long) == weights(extended)


def test_a_run_is_not_made_shorter(trained, fails):
    line = fails("train", "--out", trained, "--resume", "--max-steps", "3")
    assert "training.max_steps was 4" in line and "it can be made longer, not shorter" in line


@pytest.mark.parametrize("verb", ["finetune", "reward", "dpo", "rl"])
def test_a_missing_model_is_named(verb, out, fails):
    assert fails(verb, "--out", out).startswith("MODEL is missing")
    assert f"there is no run in {out} to take it from" in fails(verb, "--out", out, "--resume")
    assert not out.exists()


def test_a_model_that_changed_since_is_refused_by_the_verb(byte_model, base, out, fails, tmp_path):
    folder = shutil.copytree(base, tmp_path / "model")
    assert main(["finetune", str(folder), str(CHATS / "alpaca.json"), "--out", str(out), *TUNED]) == 0
    shutil.rmtree(folder)
    shutil.copytree(byte_model("other", d_model=4), folder)
    assert "has changed since the run in" in fails("finetune", "--out", out, "--resume")


def test_a_stop_tells_the_command_that_goes_on(tmp_path):
    stop = Stopped(signal.SIGINT, step=3, checkpoint=tmp_path / "checkpoints" / "step-00000003")
    with pytest.raises(Stopped):
        with resumable("dpo", tmp_path / "a run"):
            raise stop
    assert stop.message.endswith(f"; go on with:  tinyllm dpo --out '{tmp_path / 'a run'}' --resume")


def test_a_full_disk_tells_the_command_too_if_something_was_saved(words_of, out, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    words = [*map(str, words_of["finetune"]), "--out", str(out)]
    monkeypatch.setattr("tinyllm.recipes.finetune.finish_run", full)
    assert main(["finetune", *words]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("tinyllm: error: No space left on device") and "tinyllm finetune --out" in last
    monkeypatch.undo()
    assert main(["finetune", "--out", str(out), "--resume"]) == 0


def test_an_error_before_anything_was_saved_tells_no_command(out):
    with pytest.raises(OSError) as error:
        with resumable("dpo", out):
            raise OSError("full")
    assert not hasattr(error.value, "__notes__")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_what_a_stopped_run_prints_goes_on(words_of, out, monkeypatch, capsys):
    stop_after(monkeypatch, 2)
    assert main(["dpo", *map(str, words_of["dpo"]), "--out", str(out)]) == 143
    command = capsys.readouterr().err.splitlines()[-1].partition("go on with:  tinyllm ")[2]
    monkeypatch.undo()
    assert main(command.split()) == 0
    assert len([record for record in read_records(out / "metrics.jsonl") if record["event"] == "step"]) == 4


def test_a_stop_in_a_stage_tells_the_command_of_the_whole(tmp_path):
    checkpoint = tmp_path / "base" / "checkpoints" / "step-00000003"
    stop = Stopped(signal.SIGTERM, step=3, checkpoint=checkpoint)
    with pytest.raises(Stopped), resumable("quickstart", tmp_path, runs=("base",)):
        raise stop
    assert stop.message.endswith(f"; go on with:  tinyllm quickstart --out {tmp_path} --resume")
    checkpoint.mkdir(parents=True)
    with pytest.raises(OSError) as error, resumable("quickstart", tmp_path, runs=("base",)):
        raise OSError("full")
    assert error.value.__notes__[0].endswith(f"tinyllm quickstart --out {tmp_path} --resume")
