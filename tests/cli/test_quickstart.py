"""The whole journey on a small text with a small model: every stage runs, says its sentence and leaves its folder."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import assistant_suggestions
from tinyllm.cli import quickstart
from tinyllm.cli.main import build_parser, main
from tinyllm.labels.store import read_labels
from tinyllm.models import GPT, RewardModel, load_tokenizer_for
from tinyllm.recipes import journey
from tinyllm.recipes import quickstart as recipe
from tinyllm.recipes.plan import MINUTES, Plan, read_plan
from tinyllm.storage import FormatError
from tinyllm.storage.out_folder import free_folder
from tinyllm.training.metrics import read_records


@pytest.fixture
def small(tmp_path, monkeypatch, text_file):
    """small(words) goes on a journey of seconds, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe, "SECONDS_OF_TIMING", 0.0)
    plan = Plan(
        data=(f"prose={text_file}:3", f"more={text_file}:1"), vocab_size=700, block_size=160, n_layers=1, n_heads=2, d_model=8,
        base_batch=2, tuned_batch=4, n_tokenizer_conversations=200, n_test=20, best_of=2,
    )  # fmt: skip

    def travel(*words):
        return quickstart.run(build_parser().parse_args(["quickstart", *words]), plan)

    return travel


def test_it_ends_with_an_assistant_and_leaves_every_stage(small, capsys, tmp_path):
    assert small("--steps", "4") == 0
    out = tmp_path / "runs" / "quickstart"
    shown = capsys.readouterr().out
    numbers = [int(line.split(".")[0]) for line in shown.splitlines() if line.split(".")[0].isdigit()]
    assert numbers == list(range(1, 13))
    last = shown.strip().splitlines()[-1]
    assert last.split("talk with it")[1].strip() == "tinyllm chat runs/quickstart"
    assistant, tokenizer = GPT.from_pretrained(out / "model"), load_tokenizer_for(out / "model")
    assert assistant.config.vocab_size == tokenizer.vocab_size
    for stage in ("base", "tuned", "reward", "improved"):
        assert (out / stage / "report.html").stat().st_size > 10_000
        steps = [record for record in read_records(out / stage / "metrics.jsonl") if record["event"] == "step"]
        assert steps and all(np.isfinite(record["loss"]) for record in steps)
    assert RewardModel.from_pretrained(out / "reward" / "model").config == assistant.config
    assert len(read_labels(out / "labels" / "labels.jsonl").labels) == 20
    changed = [GPT.from_pretrained(out / stage / "model").tokens.weight.data for stage in ("base", "tuned", "improved")]
    assert not np.array_equal(changed[0], changed[1]) and not np.array_equal(changed[1], changed[2])
    page = (out / "report.html").read_text()
    assert all(word in page for word in ("tuned (SFT)", "PPO", 'href="improved/report.html"'))


def test_what_it_says_it_can_do_is_measured(small, tmp_path, capsys):
    assert small("--steps", "1", "--out", "brief") == 0
    out, shown = tmp_path / "brief", capsys.readouterr().out
    assert "The whole journey takes about" in shown and "learned no kind of question well enough" in shown
    results = json.loads((out / "results.json").read_text())
    assert results["suggestions"] == [] and [row["name"] for row in results["rows"]][-1] == "PPO"
    asked = results["rows"][-1]["by_kind"]
    assert sum(one["n"] for one in asked.values()) == 20 and all(0 <= one["n_right"] <= one["n"] for one in asked.values())
    (out / "results.json").write_text('{"suggestions": [{"question": "Sort 3 1", "answer": "1 3"}]}')
    (found,) = assistant_suggestions.main([str(out)], n_seeds=1, n=2, json_file=str(tmp_path / "found.json"))
    assert found["suggestions"] == [{"question": "Sort 3 1", "answer": "1 3", "right": 0}]
    assert len(found["after_turns"]) == 6 and set(found["after_turns"]) <= {0.0, 1 / 2, 1.0}
    assert "0 of 1   Sort 3 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text()) == [found]


def test_a_journey_that_was_stopped_goes_on_and_ends_the_same(small, monkeypatch, tmp_path):
    assert small("--steps", "2", "--out", "whole") == 0

    def stop(self):
        raise ValueError("no electricity")

    with monkeypatch.context() as patch:
        patch.setattr(journey.Journey, "improve", stop)
        with pytest.raises(ValueError, match="no electricity"):
            small("--steps", "2", "--out", "cut")
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    before = (cut / "tuned" / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(["quickstart", "--out", "cut", "--resume"]) == 0  # the plan is that of the folder
    assert (cut / "tuned" / "model" / "model.safetensors").stat().st_mtime_ns == before  # not done twice
    assert (cut / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()


def test_the_speed_of_the_machine_is_said_and_changes_no_plan(small, monkeypatch, tmp_path, capsys):
    def leave(self):
        raise ValueError("enough")

    monkeypatch.setattr(journey.Journey, "pretrain", leave)
    for name, seconds in (("fast", 0.001), ("slow", 9.0)):
        monkeypatch.setattr(recipe, "seconds_per_step", lambda plan, seconds=seconds: seconds)
        with pytest.raises(ValueError, match="enough"):
            small("--out", name)
    assert (tmp_path / "fast" / "plan.json").read_bytes() == (tmp_path / "slow" / "plan.json").read_bytes()
    fast, slow = re.findall(r"takes about (\S+)", capsys.readouterr().out)
    assert fast != slow


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--minutes", "nan"], "--minutes"), (["--minutes", "inf"], "--minutes"), (["--minutes", "0"], "--minutes"),
     (["--steps", "0"], "--steps"), (["--seed", "-1"], "--seed"), (["--resume"], "--out"),
     (["--resume", "--out", "nowhere"], "no journey to resume")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_done(fails, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in fails("quickstart", *words)
    assert not list(tmp_path.iterdir())


def test_a_used_folder_is_refused(fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("dear")
    assert "not empty" in fails("quickstart", "--out", "used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["thesis.txt"]


def test_the_next_free_name_is_taken(tmp_path):
    (tmp_path / "quickstart").mkdir()
    assert free_folder(tmp_path / "quickstart").name == "quickstart-2"


def test_twice_the_minutes_are_twice_the_steps():
    one, two = (Plan().for_minutes(minutes) for minutes in (MINUTES, 2 * MINUTES))
    assert one == Plan()
    for name in ("base_steps", "tuned_steps", "improved_steps"):
        assert getattr(two, name) == 2 * getattr(one, name)
    assert two.n_demonstrations == one.n_demonstrations and two.cost() > 1.5 * one.cost()
    half = Plan().for_minutes(MINUTES / 4)
    assert half.n_demonstrations == one.n_demonstrations // 2 and half.n_test < one.n_test


def test_exactly_so_many_steps():
    plan = Plan().for_steps(8)
    assert (plan.base_steps, plan.tuned_steps, plan.improved_steps) == (8, 8, 8)
    assert Plan().for_steps(2).improved_steps == 4  # a whole rollout


def test_a_plan_is_read_as_it_was_saved(tmp_path):
    plan = replace(Plan(), data=("a.txt:2",), seed=5)
    plan.save(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").write_text('{"seed": 1}')
    with pytest.raises(FormatError, match="plan.json"):
        read_plan(tmp_path / "plan.json")


def test_the_time_of_a_step_is_the_median(monkeypatch):
    seconds = iter(range(1_000))
    monkeypatch.setattr(recipe, "SECONDS_OF_TIMING", 0.0)
    monkeypatch.setattr(recipe.time, "perf_counter", lambda: next(seconds))  # each step takes one second
    assert recipe.seconds_per_step(Plan(vocab_size=300, block_size=16, n_layers=1, n_heads=2, d_model=8)) == 1
