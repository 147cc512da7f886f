"""`tinyllm dpo`: a policy from pairs in any public format, exact resume, bad input in one line."""

import json
import math
from pathlib import Path

import pytest

from tinyllm.cli.main import main
from tinyllm.evaluation.before_after import read_comparisons
from tinyllm.models import GPT, load_tokenizer_for
from tinyllm.recipes.dpo import DPOConfig
from tinyllm.rlhf.dpo import LOSSES
from tinyllm.training import read_records

CHATS = Path(__file__).parents[1] / "fixtures" / "chat"
PAIRS = ["preferences_trl.jsonl", "preferences_explicit.jsonl", "preferences_implicit.jsonl", "preferences_hh.jsonl"]
SHORT = "--max-steps 3 --warmup-steps 0 --batch-size 4 --eval-interval 3".split()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize("name", PAIRS)
def test_preferences_in_public_formats_run_through(name, base, out, capsys):
    assert main(["dpo", str(base), "--preferences", str(CHATS / name), "--out", str(out), *SHORT]) == 0
    assert f"{name}: " in capsys.readouterr().out
    GPT.from_pretrained(out / "model")
    assert load_tokenizer_for(out / "model").vocab_size == 263
    assert (out / "report.html").exists()


def test_beta_is_the_loss_s_own_unless_given():
    assert [DPOConfig(loss).own_beta for loss in ("dpo", "ipo", "simpo")] == [0.1, 0.1, 2.0]
    assert DPOConfig("simpo", beta=0.5).own_beta == 0.5


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_runs_and_shows_margin_and_accuracy(loss, base, pairs_file, out, capsys):
    words = ["--preferences", str(pairs_file), "--out", str(out), "--loss", loss, *SHORT]
    assert main(["dpo", str(base), *words]) == 0
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("margin", "accuracy", "chosen", "held-out loss"))
    steps = [record for record in read_records(out / "metrics.jsonl") if record["event"] == "step"]
    if loss in ("dpo", "length-normalised"):
        assert math.isclose(steps[0]["loss"], math.log(2), abs_tol=1e-5)


def test_the_report_shows_the_held_out_loss_and_answers_before_and_after(base, pairs_file, out):
    words = ["--preferences", str(pairs_file), "--out", str(out), *SHORT, "--learning-rate", "0.1"]
    assert main(["dpo", str(base), *words]) == 0
    compared, n_torn = read_comparisons(out)
    assert n_torn == 0 and [pair.prompt for pair in compared] == [f"What is {compared[0].prompt.split()[2][:-1]}?"]
    assert compared[0].before != compared[0].after
    page = (out / "report.html").read_text()
    assert "best held-out loss" in page and "Before and after" in page and "held-out loss</th>" in page


def test_the_probability_of_chosen_against_rejected_answers_grows(base, pairs_file, out):
    words = ["--preferences", str(pairs_file), "--out", str(out), *SHORT, "--learning-rate", "0.01", "--max-steps", "10"]
    assert main(["dpo", str(base), *words]) == 0
    margins = [record["reward_margin"] for record in read_records(out / "metrics.jsonl") if record["event"] == "step"]
    assert abs(margins[0]) < 1e-5 and margins[-1] > 0.1


@pytest.mark.parametrize("model", ["base", "dropout"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(model, byte_model, pairs_file, resumed, same_model):
    folder = byte_model("dropout", dropout=0.2) if model == "dropout" else byte_model("base")
    words = [*SHORT, "--max-steps", "5", "--checkpoint-interval", "2"]
    assert same_model(*resumed("dpo", folder, "--preferences", pairs_file, *words, after=3))


@pytest.mark.parametrize("after", [4, 5, 6])  # an epoch of 18 pairs in batches of 4 ends in step 5
def test_a_run_that_was_stopped_before_at_or_after_the_end_of_an_epoch_ends_with_the_same_bits(
    after, base, pairs_file, resumed, same_model
):
    assert same_model(*resumed("dpo", base, "--preferences", pairs_file, *SHORT, "--max-steps", "11", after=after))


def test_resuming_with_other_settings_is_refused_by_name(base, pairs_file, out, fails):
    assert main(["dpo", str(base), str(pairs_file), "--out", str(out), *SHORT]) == 0
    assert "dpo.beta was None" in fails("dpo", "--out", out, "--resume", "--beta", "0.2")
    assert "dpo.loss was 'dpo'" in fails("dpo", "--out", out, "--resume", "--loss", "ipo")


def test_a_batch_holds_no_pair_twice(base, pairs_file, out):
    words = ["--preferences", str(pairs_file), "--out", str(out), *SHORT, "--batch-size", "1000000000"]
    assert main(["dpo", str(base), *words]) == 0
    assert json.loads((out / "config.json").read_text())["settings"]["training"]["batch_size"] == 18


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("{base} --preferences {pairs} --loss ipoo", "ipo, length-normalised, simpo, got 'ipoo' (did you mean 'ipo'?)"),
        ("{base} --preferences {pairs} --beta 0", "beta must be a number above 0 or None, got 0.0"),
        ("{base} --preferences {pairs} --beta nan", "beta must be a number above 0 or None, got nan"),
        ("{base} --preferences {pairs} --max-steps 0", "max_steps must be a whole number of at least 1, got 0"),
        ("{base} --preferences {tmp}/equal.jsonl", "1 whose two answers are equal"),
        ("{base} --preferences {tmp}/table.csv", "table.csv: line 1: expected a JSON object a line"),
        ("{judge} --preferences {pairs}", "score.weight: expected a language model"),
        ("{broken} --preferences {pairs}", "holds a value that is not finite"),
        ("{tmp}/nowhere --preferences {pairs}", "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, fault, base, judge, broken, pairs_file, out, tmp_path, fails):
    (tmp_path / "equal.jsonl").write_text('{"prompt": "Hi", "chosen": "a", "rejected": "a"}\n')
    (tmp_path / "table.csv").write_text("prompt,chosen,rejected\nHi,a,b\n")
    places = {"base": base, "judge": judge, "broken": broken, "tmp": tmp_path, "pairs": pairs_file}
    assert fault in fails("dpo", *words.format(**places).split(), "--out", out)
    assert not out.exists()
