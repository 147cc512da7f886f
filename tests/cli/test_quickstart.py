"""The whole journey on a small text with a small model: every stage runs, says its sentence and leaves its file."""

import numpy as np
import pytest

from tinyllm.cli import quickstart
from tinyllm.cli.main import main
from tinyllm.evaluation.run_record import read_run
from tinyllm.models import GPT, GPTConfig, load_tokenizer_for
from tinyllm.training.metrics import read_records

TINY = {"block_size": 16, "n_layers": 1, "n_heads": 2, "d_model": 8, "bias": False}


@pytest.fixture
def small(tmp_path, monkeypatch, text_file):
    """A journey of seconds, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "DATA", (f"prose={text_file}:3", f"more={text_file}:1"))
    monkeypatch.setattr(quickstart, "SHAPE", TINY)
    monkeypatch.setattr(quickstart, "TRAINING", quickstart.TRAINING | {"batch_size": 2, "eval_batches": 1})
    monkeypatch.setattr(quickstart, "SECONDS_OF_TIMING", 0.0)
    return tmp_path / "runs" / "quickstart"


def test_it_ends_with_a_model_samples_and_a_report(small, capsys):
    assert main(["quickstart", "--steps", "10"]) == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line[:2] in {f"{i}." for i in range(1, 8)}] == [
        "1. The kernels", "2. The text", "3. The tokenizer", "4. The mixture", "5. The model", "6. Pre-training", "7. Your turn",
    ]  # fmt: skip
    model, tokenizer = GPT.from_pretrained(small / "model"), load_tokenizer_for(small / "model")
    assert model.config.vocab_size == tokenizer.vocab_size and (small / "report.html").stat().st_size > 10_000
    run = read_run(small)
    assert [sample["step"] for sample in run.samples] == [0, 2, 4, 6, 8, 10]
    assert [round(row["proportion"], 2) for row in run.mixture] == [0.75, 0.25]
    steps = [record for record in read_records(small / "metrics.jsonl") if record["event"] == "step"]
    assert len(steps) == 10 and all(np.isfinite(record["loss"]) for record in steps)


def test_a_second_journey_takes_the_next_free_name(small):
    assert main(["quickstart", "--steps", "1"]) == main(["quickstart", "--steps", "1"]) == 0
    assert sorted(path.name for path in small.parent.iterdir()) == ["quickstart", "quickstart-2"]


def test_it_is_resumed_by_train_as_it_promises(small):
    assert main(["quickstart", "--steps", "2"]) == 0
    assert main(["train", "--out", str(small), "--resume"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--minutes", "nan"], "--minutes"), (["--minutes", "inf"], "--minutes"), (["--minutes", "0"], "--minutes"),
     (["--steps", "0"], "--steps"), (["--seed", "-1"], "--seed")],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused_before_anything_is_done(small, fails, words, said):
    assert said in fails("quickstart", *words)
    assert not small.parent.exists()


def test_twice_the_time_affords_about_twice_the_steps(monkeypatch):
    seconds = iter(range(1_000))
    monkeypatch.setattr(quickstart, "SECONDS_OF_TIMING", 0.0)
    monkeypatch.setattr(quickstart.time, "perf_counter", lambda: next(seconds))  # each step takes one second
    config = GPTConfig(vocab_size=300, **TINY)
    assert [quickstart.affordable_steps(config, seconds=n) for n in (5, 400, 850)] == [100, 400, 800]
