"""The whole journey on a small text with a small model: every stage runs, says its sentence and leaves its folder."""

import numpy as np
import pytest

from tinyllm.cli import journey, quickstart
from tinyllm.cli.main import main
from tinyllm.models import GPT, GPTConfig, RewardModel, load_tokenizer_for
from tinyllm.rlhf.labels import read_labels
from tinyllm.training.metrics import read_records

TINY = {"block_size": 160, "n_layers": 1, "n_heads": 2, "d_model": 8, "bias": False}


@pytest.fixture
def small(tmp_path, monkeypatch, text_file):
    """A journey of seconds, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "DATA", (f"prose={text_file}:3", f"more={text_file}:1"))
    monkeypatch.setattr(quickstart, "SHAPE", TINY)
    monkeypatch.setattr(quickstart, "VOCAB_SIZE", 700)
    monkeypatch.setattr(quickstart, "TRAINING", quickstart.TRAINING | {"batch_size": 2, "eval_batches": 1})
    monkeypatch.setattr(quickstart, "SECONDS_OF_TIMING", 0.0)
    monkeypatch.setattr(quickstart, "N_TEST", 20)
    monkeypatch.setattr(journey, "BEST_OF", 2)
    monkeypatch.setattr(journey, "N_TOKENIZER_CONVERSATIONS", 200)
    return tmp_path / "runs" / "quickstart"


def test_it_ends_with_an_assistant_and_leaves_every_stage(small, capsys):
    assert main(["quickstart", "--steps", "4"]) == 0
    shown = capsys.readouterr().out
    numbers = [int(line.split(".")[0]) for line in shown.splitlines() if line.split(".")[0].isdigit()]
    assert numbers == list(range(1, 13))
    last = shown.strip().splitlines()[-1]
    assert last.split("talk with it")[1].strip() == "tinyllm chat runs/quickstart"
    assistant, tokenizer = GPT.from_pretrained(small / "model"), load_tokenizer_for(small / "model")
    assert assistant.config.vocab_size == tokenizer.vocab_size
    for stage in ("base", "tuned", "reward", "improved"):
        assert (small / stage / "report.html").stat().st_size > 10_000
        steps = [record for record in read_records(small / stage / "metrics.jsonl") if record["event"] == "step"]
        assert steps and all(np.isfinite(record["loss"]) for record in steps)
    assert RewardModel.from_pretrained(small / "reward" / "model").config == assistant.config
    assert len(read_labels(small / "labels" / "labels.jsonl").labels) == 20
    changed = [GPT.from_pretrained(small / stage / "model").tokens.weight.data for stage in ("base", "tuned", "improved")]
    assert not np.array_equal(changed[0], changed[1]) and not np.array_equal(changed[1], changed[2])
    page = (small / "report.html").read_text()
    assert all(word in page for word in ("tuned (SFT)", "PPO", 'href="improved/report.html"'))


def test_a_journey_that_was_stopped_goes_on_and_ends_the_same(small, monkeypatch):
    assert main(["quickstart", "--steps", "2", "--out", "whole"]) == 0

    def stop(self):
        raise ValueError("no electricity")

    with monkeypatch.context() as patch:
        patch.setattr(journey.Journey, "improve", stop)
        assert main(["quickstart", "--steps", "2", "--out", "cut"]) == 2
    before = (small.parents[1] / "cut" / "tuned" / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(["quickstart", "--out", "cut", "--resume"]) == 0
    cut, whole = (small.parents[1] / name for name in ("cut", "whole"))
    assert (cut / "tuned" / "model" / "model.safetensors").stat().st_mtime_ns == before  # not done twice
    assert (cut / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--minutes", "nan"], "--minutes"), (["--minutes", "inf"], "--minutes"), (["--minutes", "0"], "--minutes"),
     (["--steps", "0"], "--steps"), (["--seed", "-1"], "--seed"), (["--resume"], "--out"),
     (["--resume", "--out", "nowhere"], "no journey to resume")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_done(small, fails, words, said):
    assert said in fails("quickstart", *words)
    assert not small.parent.exists()


def test_a_used_folder_is_refused(small, fails, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("dear")
    assert "not empty" in fails("quickstart", "--out", "used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["thesis.txt"]


def test_the_next_free_name_is_taken(tmp_path):
    (tmp_path / "quickstart").mkdir()
    assert quickstart._free_folder(tmp_path / "quickstart").name == "quickstart-2"


def test_twice_the_time_affords_twice_the_steps(monkeypatch):
    monkeypatch.setattr(quickstart, "seconds_per_step", lambda config: 0.05)

    def plan(minutes):
        return quickstart.make_plan(quickstart.argparse.Namespace(steps=None, minutes=minutes, seed=1))

    one, two = plan(4.0), plan(8.0)
    assert two.base_steps == pytest.approx(2 * one.base_steps, abs=2)
    assert two.improved_steps == pytest.approx(2 * one.improved_steps, abs=8) and one.improved_steps % 4 == 0


def test_the_time_of_a_step_is_the_median(monkeypatch):
    seconds = iter(range(1_000))
    monkeypatch.setattr(quickstart, "SECONDS_OF_TIMING", 0.0)
    monkeypatch.setattr(quickstart.time, "perf_counter", lambda: next(seconds))  # each step takes one second
    assert quickstart.seconds_per_step(GPTConfig(vocab_size=300, **TINY)) == 1
