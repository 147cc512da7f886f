"""`tinyllm reward`: a reward model from pairs in any public format, exact resume, bad input in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from tinyllm.cli.main import main
from tinyllm.data.conversations.preferences import read_preferences
from tinyllm.models import GPT, RewardModel, load_tokenizer_for
from tinyllm.recipes.reward import prepare_comparisons
from tinyllm.report.reward import read_pairs
from tinyllm.rlhf.reward_model import score_sequences
from tinyllm.rlhf.sequences import pad_sequences
from tinyllm.tokenizers.chat import ChatFormat
from tinyllm.training import read_records

CHATS = Path(__file__).parents[1] / "fixtures" / "chat"
PAIRS = ["preferences_trl.jsonl", "preferences_explicit.jsonl", "preferences_implicit.jsonl", "preferences_hh.jsonl"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize("name", PAIRS)
def test_preferences_in_public_formats_run_through(name, base, out, capsys):
    assert main(["reward", str(base), "--preferences", str(CHATS / name), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"{name}: " in shown and "of the pairs as the labelers did" in shown and "tinyllm rl" in shown
    assert (out / "report.html").exists()
    RewardModel.from_pretrained(out / "model")


def test_each_prompt_is_seen_once_and_the_learning_rate_comes_down(judge):
    steps = [record for record in read_records(judge / "metrics.jsonl") if record["event"] == "step"]
    assert len(steps) == 2  # nine prompts, eight a step
    settings = json.loads((judge / "config.json").read_text())["settings"]["training"]
    assert (settings["max_steps"], settings["warmup_steps"], settings["min_learning_rate"]) == (2, 0, 0.0)


def test_the_report_says_how_often_it_decides_held_out_pairs_as_the_labelers_did(judge):
    measured = read_pairs(judge)
    assert (measured["n_prompts"], measured["n_pairs"]) == (1, 2) and measured["accuracy"] in (0, 0.5, 1)
    page = (judge / "report.html").read_text()
    assert "nats per pair" in page and "nothing was held out" not in page and "per token" not in page


def test_the_model_is_normalised_on_the_compared_answers(judge, pairs_file):
    model, chat = RewardModel.from_pretrained(judge / "model"), ChatFormat(load_tokenizer_for(judge / "model"))
    prompts, answers = [], []
    seed = json.loads((judge / "config.json").read_text())["settings"]["training"]["seed"]
    groups = prepare_comparisons(read_preferences(pairs_file)[0], chat.tokenizer, block_size=192, seed=seed).groups
    for number in (int(chat.tokenizer.decode(group.prompt).split("?")[0].split()[-1]) for group in groups):
        for text in (f"It is {number}.", "No.", f"It is {number + 10}."):
            prompts.append(chat.prompt([{"role": "user", "content": f"What is {number}?"}]))
            answers.append(chat.answer(text))
    scores = score_sequences(model, pad_sequences(prompts, answers))
    assert np.allclose((scores.mean(), scores.std()), (0, 1), atol=1e-4)


def test_a_run_that_was_stopped_ends_with_the_same_bits(base, pairs_file, resumed, same_model):
    words = ["--batch-size", "2", "--checkpoint-interval", "2"]
    assert same_model(*resumed("reward", base, "--preferences", pairs_file, *words, after=3))


def test_dropout_of_the_model_is_not_used(byte_model, base, pairs_file, tmp_path):
    """The reward model of a model with dropout and of the same without have the same weights."""
    for name, folder in (("a", base), ("b", byte_model("dropout", dropout=0.5))):
        assert main(["reward", str(folder), "--preferences", str(pairs_file), "--out", str(tmp_path / name)]) == 0
    one, other = (RewardModel.from_pretrained(tmp_path / name / "model").state_dict() for name in ("a", "b"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_pairs_that_teach_nothing_are_counted(base, out, tmp_path, capsys):
    rows = [("Hi", "a", "a"), ("Ho", "b", "c"), ("Hu", "b", "c"), ("x" * 500, "b", "c"), ("Hm", "b", "c" * 200)]
    pairs = tmp_path / "pairs.jsonl"
    lines = [json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) for row in rows]
    pairs.write_text("\n".join(lines))
    assert main(["reward", str(base), "--preferences", str(pairs), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "5 records, 1 skipped: 1 whose two answers are equal (first: line 1)" in shown
    assert "2 comparisons; left out: 0 of equal answers, 1 whose prompt leaves no room, 1 too long" in shown


def test_the_number_of_steps_can_be_given_and_extended(base, pairs_file, out, capsys):
    assert main(["reward", str(base), str(pairs_file), "--out", str(out), "--max-steps", "3", "--batch-size", "4"]) == 0
    steps = [record for record in read_records(out / "metrics.jsonl") if record["event"] == "step"]
    assert len(steps) == 3  # of nine prompts: one and a third times each
    assert main(["reward", "--out", str(out), "--resume"]) == 0
    assert main(["reward", "--out", str(out), "--resume", "--max-steps", "5"]) == 0
    assert "3 steps become 5." in capsys.readouterr().out
    settings = json.loads((out / "config.json").read_text())["settings"]["training"]
    assert (settings["max_steps"], settings["warmup_steps"]) == (5, 0)


def test_a_batch_holds_no_prompt_twice(base, pairs_file, out):
    words = ["--preferences", str(pairs_file), "--out", str(out), "--batch-size", "1000000000"]
    assert main(["reward", str(base), *words]) == 0
    assert json.loads((out / "config.json").read_text())["settings"]["training"]["batch_size"] == 9


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("{base} --preferences {tmp}/equal.jsonl", "2 skipped: 2 whose two answers are equal (first: line 1); nothing is left"),
        ("{base} --preferences {tmp}/long.jsonl", "none can be learned from (0 comparisons; left out: 0 of equal answers, 2"),
        ("{base} --preferences {tmp}/one.jsonl", "all of one prompt; at least two prompts are needed"),
        ("{base} --preferences {tmp}/table.csv", "table.csv: line 1: expected a JSON object a line (.jsonl)"),
        ("{base} --preferences {tmp}/latin.jsonl", "expected UTF-8 text, found byte 0xf6"),
        ("{base} --preferences {tmp}/empty.jsonl", "empty.jsonl: holds no records"),
        ("{base} --preferences {tmp}", "that is a folder, a file is wanted"),
        ("{base} --preferences {chats}/alpaca.jsonl", "chosen: expected this key, of a preference"),
        ("{base} --preferences {pairs} --margin-scale nan", "margin_scale must be a number of at least 0, got nan"),
        ("{base} --preferences {pairs} --center-coefficient -1", "center_coefficient must be a number of at least 0, got -1"),
        ("{base} --preferences {pairs} --max-steps 0", "max_steps must be a whole number of at least 1, got 0"),
        ("{base}", "PAIRS is missing"),
        ("{judge} --preferences {pairs}", "score.weight: expected a language model"),
        ("{broken} --preferences {pairs}", "holds a value that is not finite"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, fault, base, judge, broken, pairs_file, out, tmp_path, fails):
    pair = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    files = {
        "equal.jsonl": [{**pair, "rejected": "a"}] * 2,
        "long.jsonl": [{**pair, "prompt": "x" * 500}] * 2,
        "one.jsonl": [pair, {**pair, "rejected": "c"}],
        "empty.jsonl": [],
    }
    for name, lines in files.items():
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "table.csv").write_text("prompt,chosen,rejected\nHi,a,b\n")
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "Wie schön?"}\n'.encode("latin-1"))
    places = {"base": base, "judge": judge, "broken": broken, "tmp": tmp_path, "chats": CHATS, "pairs": pairs_file}
    assert fault in fails("reward", *words.format(**places).split(), "--out", out)
    assert not out.exists()


def test_the_judge_is_no_language_model(judge):
    with pytest.raises(ValueError, match="head of a reward model"):
        GPT.from_pretrained(judge / "model")
