"""`tinyllm evaluate`: on what a run held out, on texts, on questions with known answers."""

import json
import math
import shutil

import numpy as np
import pytest

from tinyllm.cli.main import main
from tinyllm.data import EvaluationWindows, open_shard
from tinyllm.evaluation import measure_perplexity
from tinyllm.evaluation.task_file import read_tasks
from tinyllm.models import GPT, load_tokenizer_for
from tinyllm.recipes import evaluate
from tinyllm.training import read_records


def measured(capsys, *words):
    capsys.readouterr()
    assert main(["evaluate", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_is_measured_on_all_that_it_held_out(trained, capsys):
    found = measured(capsys, trained)
    model, tokenizer = GPT.from_pretrained(trained / "model"), load_tokenizer_for(trained / "model")
    ids = open_shard(trained / "data" / "validation.bin", tokenizer=tokenizer).tokens
    expected = measure_perplexity(model, EvaluationWindows(ids, batch_size=4, block_size=16))
    (text,) = found["texts"]
    assert text["name"] == f"the text that {trained} held out" and text["n_tokens"] == expected.n_tokens
    assert math.isclose(text["loss"], expected.nats, rel_tol=1e-5)
    assert math.isclose(text["perplexity"], math.exp(expected.nats), rel_tol=1e-5)
    assert math.isclose(text["loss_standard_error"], expected.standard_error, rel_tol=1e-4)
    # one character is one byte here, but for the end-of-text tokens, which are no bytes
    assert math.isclose(text["bits_per_byte"], expected.nats / math.log(2), rel_tol=0.1)
    checkpoint = measured(capsys, trained / "checkpoints" / "step-00000004")["texts"][0]
    assert checkpoint["loss"] == text["loss"] and found["parameters"] == model.num_parameters()


def test_a_file_is_measured_in_the_windows_that_are_asked_for(trained, text_file, capsys):
    whole, part = measured(capsys, trained, text_file)["texts"][0], measured(capsys, trained, text_file, "--max-windows", 5)
    assert whole["name"] == str(text_file) and part["texts"][0]["n_windows"] == 5 < whole["n_windows"]
    assert main(["evaluate", str(trained), str(text_file)]) == 0
    shown = capsys.readouterr().out
    assert f"{text_file}: {whole['n_tokens']:,} tokens in {whole['n_windows']} windows" in shown
    assert f"  loss           {whole['loss']:.4g} ± " in shown and "  bits per byte  " in shown


def test_a_short_text_is_one_window_without_an_error_of_its_own(trained, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("The number")
    (text,) = measured(capsys, trained, tmp_path / "short.txt")["texts"]
    assert (text["n_windows"], text["loss_standard_error"]) == (1, None)


def test_a_model_without_a_run_is_measured_on_built_in_text_that_is_named(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "BUILT_IN", str(trained.parent / "text.txt"))
    (trained.parent / "text.txt").write_text("".join(f"The number after {i} is {i + 1}.\n\n" for i in range(200)))
    alone = shutil.copytree(trained / "model", tmp_path / "alone")
    assert measured(capsys, alone)["texts"][0]["name"] == "a held-out tenth of Python's language reference (built in)"


def test_a_tuned_model_is_measured_on_the_conversations_that_its_run_held_out(parrot, capsys):
    (text,) = measured(capsys, parrot)["texts"]
    assert text["name"] == f"the assistant's words in the conversations that {parrot} held out"
    last = [record for record in read_records(parrot / "metrics.jsonl") if record["event"] == "evaluation"][-1]
    assert math.isclose(text["loss"], last["val_loss"], rel_tol=1e-4)
    assert text["n_tokens"] == 3  # of one conversation "ok" and the end of a turn, in bytes


@pytest.fixture
def questions(tmp_path):
    """Write records as questions.jsonl."""

    def write(*records, name="questions.jsonl"):
        text = json.dumps(records) if name.endswith(".json") else "".join(json.dumps(record) + "\n\n" for record in records)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def parrot(base, tmp_path_factory):
    """A model that answers "ok" to whatever is said."""
    folder = tmp_path_factory.mktemp("runs") / "parrot"
    chats = folder.with_suffix(".jsonl")
    chats.write_text("".join(json.dumps({"prompt": f"Say {i}", "completion": "ok"}) + "\n" for i in range(8)))
    assert main(["finetune", str(base), str(chats), "--out", str(folder), "--max-steps", "60", "--learning-rate", "0.03"]) == 0
    return folder


@pytest.mark.parametrize("name", ["questions.jsonl", "questions.json"])
def test_questions_are_counted_by_task_and_in_all(parrot, questions, name, capsys):
    records = [
        {"prompt": "Say 3", "answer": " ok\n", "task": "easy"},
        {"prompt": [{"role": "user", "content": "Say 4"}], "answer": "ok", "task": "easy"},
        {"prompt": "Say 5", "answer": "no", "task": "hard"},
        {"prompt": "Say 6", "answer": 6, "task": "hard"},
        {"prompt": "x" * 500, "answer": "ok", "task": "hard"},
    ]
    file = questions(*records, name=name)
    (test,) = measured(capsys, parrot, file)["tests"]
    assert (test["right"], test["n"], test["n_left_out"], test["exact_match"]) == (2, 4, 1, 0.5)
    assert test["standard_error"] == 0.25
    assert {task: found["right"] for task, found in test["tasks"].items()} == {"easy": 2, "hard": 0}
    assert main(["evaluate", str(parrot), str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"{file}: 50.0% ± 25.0% right (2 of 4); 1 left out, too long for the context" in shown
    assert "  easy           100.0% ± 0.0% right (2 of 2)" in shown


def test_a_base_model_is_asked_as_well_as_it_can_be(base, questions, capsys):
    (test,) = measured(capsys, base, questions({"prompt": "Say 3", "answer": "ok"}), "--max-new-tokens", 4)["tests"]
    assert (test["n"], test["tasks"]) == (1, {})


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"prompt": "a", "answer": ""}, "1 record, 1 skipped: 1 with an empty answer"),
        ({"answer": "b"}, "line 1: expected a 'prompt'"),
        ({"prompt": [{"role": "assistant", "content": "a"}], "answer": "b"}, "1 skipped: 1 with speakers out of turn"),
        ({"prompt": "a", "answer": "b", "task": 3}, "line 1: task: expected a string, found 3"),
    ],
)
def test_a_record_that_is_no_question_is_named(record, fault, base, questions, fails):
    assert fault in fails("evaluate", base, questions(record))


def test_records_that_are_no_question_are_counted_and_the_others_asked(parrot, questions, capsys):
    records = [{"prompt": "a", "answer": "ok", "hint": "b"}, {"prompt": "a"}, {"prompt": [], "answer": "b"}]
    found, report = read_tasks(questions(*records))
    assert len(found) == 1 and report.reasons == {"malformed": 1, "without messages": 1} and report.unused == {"hint": ["line 1"]}
    (test,) = measured(capsys, parrot, questions(*records))["tests"]
    assert (test["n"], test["n_skipped"]) == (1, 2)
    with pytest.raises(ValueError, match="holds no records"):
        read_tasks(questions())


def test_a_text_is_cut_at_the_end_of_text_marks_in_it(parrot, tmp_path, capsys):
    """Their letters are not measured."""
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join(f"Story {i}.\n" for i in range(40)))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": f"Story {i}.\n"}) + "\n" for i in range(40)))
    one, two = (measured(capsys, parrot, tmp_path / name)["texts"][0]["n_tokens"] for name in ("a.txt", "b.jsonl"))
    assert one == two


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("{base} nowhere.txt", "data file 'nowhere.txt' does not exist"),
        ("{base} --batch-size 0", "batch_size must be a whole number of at least 1, got 0"),
        ("{base} --max-windows 0", "max_windows must be a whole number of at least 1 or None, got 0"),
        ("nowhere", "model: nowhere does not exist"),
        ("{judge}", "expected a language model"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words, fault, base, judge, fails):
    assert fault in fails("evaluate", *words.format(base=base, judge=judge).split())


def test_a_model_that_diverged_gives_no_number_and_still_json(respoiled, base, text_file, capsys):
    huge = respoiled("huge", lambda name, array: array * np.float32(1e30), of=base)
    with np.errstate(all="ignore"):
        (text,) = measured(capsys, huge, text_file, "--max-windows", 1)["texts"]
    assert text["perplexity"] is None
