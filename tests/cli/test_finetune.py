"""`tinyllm finetune`: what it reads, what it leaves, and that it goes on exactly."""

import html
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinyllm.cli.main import main
from tinyllm.evaluation.held_out_answers import read_answers
from tinyllm.models import GPT, load_adapters, load_tokenizer_for
from tinyllm.nn import merge_lora
from tinyllm.recipes.tuning import load_for_chat
from tinyllm.tokenizers import CONTROL_TOKENS
from tinyllm.training import read_records

CHATS = Path(__file__).parents[1] / "fixtures" / "chat"
SHORT = "--max-steps 4 --warmup-steps 0 --batch-size 2 --eval-interval 2 --checkpoint-interval 2".split()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def finetune(model, out, *words, data=CHATS / "messages.jsonl"):
    return main(["finetune", str(model), "--out", str(out), "--data", str(data), *SHORT, *map(str, words)])


@pytest.mark.parametrize(
    "name", ["messages.jsonl", "alpaca.json", "alpaca.jsonl", "dolly.jsonl", "sharegpt.json", "prompt_completion.jsonl"]
)
def test_conversations_in_public_formats_run_through(name, base, out, capsys):
    assert finetune(base, out, data=CHATS / name) == 0
    shown = capsys.readouterr()
    assert f"{name}: " in shown.out and f"tinyllm chat {out}" in shown.out and "held-out loss" in shown.err


def test_a_run_leaves_a_model_that_can_chat_a_report_and_its_settings(base, out):
    assert finetune(base, out) == 0
    tokenizer = load_tokenizer_for(out / "model")
    assert set(CONTROL_TOKENS) <= set(tokenizer.special_tokens)
    model = GPT.from_pretrained(out / "model")
    assert model.config.vocab_size == 257 + len(CONTROL_TOKENS)
    assert (out / "report.html").exists()
    events = [(record["event"], record["step"]) for record in read_records(out / "metrics.jsonl")]
    assert [step for event, step in events if event == "evaluation"] == [0, 2, 4]
    losses = [record["loss"] for record in read_records(out / "metrics.jsonl") if record["event"] == "step"]
    assert losses[-1] < losses[0]
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["inputs"]["model"] == str(base) and len(settings["inputs"]["model_sha256"]) == 64


def test_the_report_shows_what_the_model_answers_to_held_out_questions(base, out):
    assert finetune(base, out) == 0
    found, answers = read_answers(out)
    assert found.n == len(answers) > 0
    page = (out / "report.html").read_text()
    assert "held-out questions answered right" in page and all(html.escape(one.question) in page for one in answers)


def test_made_instructions_are_the_default_and_a_context_too_short_for_them_is_refused(byte_model, trained, out, capsys, fails):
    words = ["--n-made", 40, "--out", out, *SHORT]
    line = fails("finetune", trained, *words)
    assert "longer than the model's context of 16 tokens; at least two must fit" in line and "train --block-size N" in line
    assert not out.exists()
    assert main(["finetune", str(byte_model("base")), *map(str, words)]) == 0
    assert ", of 40 made questions and answers" in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("--lora-rank", "2"), ("--no-packing",)], ids=["full", "lora", "padded"])
@pytest.mark.parametrize("model", ["base", "dropout"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(words, model, byte_model, resumed, same_model):
    folder = byte_model("dropout", dropout=0.2) if model == "dropout" else byte_model("base")
    assert same_model(*resumed("finetune", folder, "--data", CHATS / "alpaca.json", *SHORT, *words, after=3))


def test_adapters_have_a_learning_rate_of_their_own_unless_one_is_given(base, out, tmp_path):
    def rates(folder):
        training = json.loads((folder / "config.json").read_text())["settings"]["training"]
        return training["learning_rate"], training["min_learning_rate"]

    assert finetune(base, tmp_path / "all") == 0
    assert finetune(base, out, "--lora-rank", 2) == 0
    assert rates(out)[0] > 5 * rates(tmp_path / "all")[0] and rates(out)[1] == rates(out)[0] / 10
    assert main(["finetune", "--out", str(out), "--resume"]) == 0  # with its own rate
    assert finetune(base, tmp_path / "given", "--lora-rank", 2, "--learning-rate", 0.003) == 0
    assert rates(tmp_path / "given")[0] == 0.003


def test_adapters_are_kept_beside_the_merged_model_as_peft_keeps_them(base, out):
    assert finetune(base, out, "--lora-rank", 2) == 0
    assert {path.name for path in (out / "adapters").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    model, _ = load_for_chat(str(base), seed=1337)
    merged = merge_lora(load_adapters(model, out / "adapters")).state_dict()
    saved = GPT.from_pretrained(out / "model").state_dict()
    assert all(np.allclose(merged[name], saved[name], atol=1e-6) for name in saved)


def test_lora_moves_only_the_adapted_weights_and_is_merged(base, out):
    assert finetune(base, out, "--lora-rank", 2) == 0
    before, after = (GPT.from_pretrained(folder).state_dict() for folder in (base, out / "model"))
    assert before.keys() == after.keys()
    moved = {name for name in before if not np.array_equal(before[name], after[name][: len(before[name])])}
    assert moved and all(name.endswith(".weight") and name.startswith("blocks.") for name in moved)


def test_conversations_longer_than_the_context_are_counted(base, out, tmp_path, capsys):
    lines = [{"prompt": f"{'x' * 500 * (i % 2)}{i}", "completion": "z"} for i in range(6)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert finetune(base, out, data=tmp_path / "chats.jsonl") == 0
    assert "Left out: 3 of 6 longer than the model's context of 192 tokens" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_saves_and_exits(base, out):
    words = ["finetune", str(base), "--out", str(out), "--data", str(CHATS / "alpaca.json"), "--max-steps", "1000000"]
    environment = {**os.environ, "TINYLLM_KERNELS": "numpy"}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "tinyllm.cli.main", *words], env=environment, **pipes)
    deadline = time.monotonic() + 120
    while len(read_records(out / "metrics.jsonl")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143 and errors.splitlines()[-1].startswith("tinyllm: stopped by SIGTERM after ")
    assert any((out / "checkpoints").glob("step-*/manifest.json"))


def test_resuming_with_other_settings_is_refused_by_name(base, out, fails):
    assert finetune(base, out) == 0
    again = ["finetune", base, CHATS / "messages.jsonl", "--out", out, "--resume"]
    assert "training.learning_rate was" in fails(*again, "--learning-rate", 0.1)
    assert "finetuning.lora_rank was" in fails(*again, "--lora-rank", 2)
    assert "training.max_steps was 4" in fails(*again, "--max-steps", 3)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("{base} --data {tmp}/empty.jsonl", "empty.jsonl: holds no records"),
        ("{base} --data {tmp}/table.csv", "table.csv: line 1: expected a JSON object a line (.jsonl), or one JSON list"),
        ("{base} --data {tmp}/latin.jsonl", "latin.jsonl: line 1: expected UTF-8 text, found byte 0xf6"),
        ("{base} --data {tmp}", "that is a folder, a file is wanted"),
        ("{base} --data {tmp}/nowhere", "No such file or directory"),
        ("{base} --data {chats}/preferences_trl.jsonl", "expected a record with the keys of a known format"),
        ("{base} --data {tmp}/long.jsonl", "3 of 3 longer than the model's context of 192 tokens; at least two must fit"),
        ("{base} --data {tmp}/one.jsonl", "conversations: 1 came; at least two must fit"),
        ("{base} --max-steps 0", "max_steps must be a whole number of at least 1, got 0"),
        ("{base} --n-made 1", "n_made must be a whole number of at least 2, got 1"),
        ("{base} --lora-rank 1000", "rank must be a whole number from 1 to 8"),
        ("{base} --lora-rank -1", "lora_rank must be a whole number of at least 0, got -1"),
        ("{base} --validation-fraction nan", "validation_fraction must be a number above 0 and below 1, got nan"),
        ("{tmp}/nowhere", "model: {tmp}/nowhere does not exist"),
        ("{tmp}/folder", "holds no model"),
        ("{judge}", "score.weight: expected a language model"),
        ("{broken}", "model: the weight tokens.weight in {broken} holds a value that is not finite"),
        ("{int8}", "tokens.weight: expected 32, 16 or bfloat16 floating point, found int8"),
        ("{base} --out {tmp}/table.csv", "out: {tmp}/table.csv cannot be a folder"),
        ("{base} --out {judge}", "already holds a run; add --resume"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, fault, base, judge, broken, int8, out, tmp_path, fails):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "table.csv").write_text("prompt,completion\nHi,Hello\n")
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "Wie schön?", "completion": "Sehr."}\n'.encode("latin-1"))
    (tmp_path / "one.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "x" * 500, "completion": "y"}) + "\n")
    (tmp_path / "long.jsonl").write_text((tmp_path / "long.jsonl").read_text() * 3)
    places = {"base": base, "judge": judge, "broken": broken, "int8": int8, "tmp": tmp_path, "chats": CHATS}
    given = words.format(**places).split()
    where = [] if "--out" in given else ["--out", out]
    assert fault.format(**places) in fails("finetune", *given, *where, *(() if "--max-steps" in given else SHORT))
    assert not out.exists()
