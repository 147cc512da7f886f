"""`tinyllm train`: what a run leaves, what resume repeats, and what bad input does not leave."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tinyllm.cli.main import main
from tinyllm.models import GPT, load_tokenizer_for
from tinyllm.storage import atomic, safetensors
from tinyllm.tokenizers import CharacterTokenizer
from tinyllm.training import read_records

TINY = (
    "--tokenizer character --block-size 16 --n-layers 1 --n-heads 2 --d-model 8 --batch-size 2 --warmup-steps 1 "
    "--eval-batches 1 --sample-tokens 8 --eval-interval 2 --checkpoint-interval 2"
).split()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "new"


def train(data, out, *words):
    return main(["train", "--data", str(data), "--out", str(out), *TINY, *map(str, words)])


def weights(run):
    return safetensors.load(run / "model" / "model.safetensors")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_model_report_log_samples_and_settings(trained):
    names = {path.name for path in trained.iterdir()} - {".lock", "metrics.csv"}
    assert names == {
        "config.json", "metrics.jsonl", "samples.jsonl", "checkpoints", "tokenizer", "data", "mixture.json",
        "model", "report.html",
    }  # fmt: skip
    assert GPT.from_pretrained(trained / "model").config.vocab_size == load_tokenizer_for(trained / "model").vocab_size
    events = [(record["event"], record["step"]) for record in read_records(trained / "metrics.jsonl")]
    assert events == [("evaluation", 0), ("step", 1), ("step", 2), ("evaluation", 2), ("step", 3), ("step", 4), ("evaluation", 4)]
    assert [sample["step"] for sample in lines(trained / "samples.jsonl")] == [0, 2, 4]
    settings = json.loads((trained / "config.json").read_text())["settings"]
    assert settings["training"]["max_steps"] == 4
    assert settings["model"]["d_model"] == 8
    assert settings["data"]["tokenizer"] == "character"


def test_what_is_shown_names_the_mixture_the_size_and_what_to_do_next(text_file, out, capsys):
    assert train(text_file, out, "--max-steps", 2) == 0
    shown = capsys.readouterr()
    assert "data set  sampling prop." in shown.out and "\nnumbers " in shown.out
    assert "parameters. Training: 2 steps, 64 tokens." in shown.out
    assert f"tinyllm generate {out} --prompt" in shown.out
    assert "step 2: held-out loss" in shown.err
    assert "training 2/2 steps  100%" in shown.err


def test_settings_come_from_a_file_and_flags_come_before_it(text_file, out, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(f'data = ["{text_file}"]\nmax_steps = 3\n[model]\ndropout = 0.25\nn_layers = 2\n')
    assert main(["train", "--config", str(file), "--out", str(out), *TINY]) == 0
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert (settings["training"]["max_steps"], settings["model"]["dropout"], settings["model"]["n_layers"]) == (3, 0.25, 1)


def test_bytes_that_are_not_utf8_are_trained_on(out, tmp_path):
    data = tmp_path / "latin1.txt"
    data.write_bytes("".join(f"Ein schöner Satz über {i} Bäume.\n\n" for i in range(100)).encode("latin-1"))
    assert train(data, out, "--max-steps", 1, "--tokenizer", "bpe", "--vocab-size", 300) == 0
    assert b"\xfc" in b"".join(load_tokenizer_for(out / "model").tokens)


def test_a_weighted_mixture(text_file, out, tmp_path, capsys):
    other = shutil.copy(text_file, tmp_path / "other.txt")
    with open(other, "a") as file:
        file.write("".join(f"Something else {i}.\n\n" for i in range(100)))
    data = ["--data", f"a={text_file}:3", "--data", f"{other}:1"]
    assert main(["train", "--out", str(out), *TINY, "--max-steps", "1", *data]) == 0
    assert re.search(r"\na +75.0%.*\nother +25.0%", capsys.readouterr().out)


def test_a_resumed_run_ends_with_the_same_bits_and_samples(text_file, trained, out):
    shutil.copytree(trained, out)
    for name in ("model", "checkpoints/step-00000004"):
        shutil.rmtree(out / name)
    (out / "report.html").unlink()
    assert main(["train", "--out", str(out), "--resume"]) == 0  # the settings are those of the run
    for name, array in weights(trained).items():
        assert np.array_equal(array, weights(out)[name])
    assert (out / "samples.jsonl").read_bytes() == (trained / "samples.jsonl").read_bytes()
    assert (out / "report.html").exists()


def test_resuming_a_finished_run_writes_model_and_report_again(run_copy):
    shutil.rmtree(run_copy / "model")
    (run_copy / "report.html").unlink()
    assert main(["train", "--out", str(run_copy), "--resume"]) == 0
    assert (run_copy / "model" / "model.safetensors").exists() and (run_copy / "report.html").exists()


def test_a_run_killed_before_its_first_step_is_prepared_again(run_copy, trained):
    for name in ("model", "checkpoints", "data"):
        shutil.rmtree(run_copy / name)
    for name in ("metrics.jsonl", "samples.jsonl", "report.html"):
        (run_copy / name).unlink()
    assert main(["train", "--out", str(run_copy), "--resume"]) == 0
    for name, array in weights(trained).items():
        assert np.array_equal(array, weights(run_copy)[name])


def test_resuming_with_other_settings_is_refused_by_name(run_copy, fails):
    line = fails("train", "--out", run_copy, "--resume", "--learning-rate", "0.5")
    assert "training.learning_rate was 0.001" in line


def test_resuming_passes_over_a_torn_checkpoint_with_a_warning(run_copy, capsys):
    (run_copy / "checkpoints" / "step-00000004" / "state.json").write_text("{}")
    assert main(["train", "--out", str(run_copy), "--resume"]) == 0
    assert "tinyllm: warning: skipping checkpoint step-00000004" in capsys.readouterr().err


def test_resuming_with_damaged_token_files_is_refused(run_copy, fails):
    with open(run_copy / "data" / "train-1.bin", "r+b") as file:
        file.truncate(1000)
    assert "train-1.bin" in fails("train", "--out", run_copy, "--resume")


def test_resuming_a_run_that_never_was_starts_it(text_file, out):
    assert train(text_file, out, "--max-steps", 1, "--resume") == 0
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--data nowhere.txt", "data file 'nowhere.txt' does not exist"),
        ("--data {tmp}/empty.txt", "is empty; a corpus needs text"),
        ("--data {tmp}/short.txt", "source 'short': documents must hold at least 2"),
        ("--data {tmp}/folder", "holds no text files"),
        ("--data http://localhost:1/x.txt", "could not download http://localhost:1/x.txt"),
        ("--data {text}:0", "has weight 0"),
        ("--n-layerz 3", "did you mean --n-layers?"),
        ("--n-heads 3", "d_model 8 is not divisible by n_heads 3"),
        ("--learning-rate fast", "--learning-rate: got 'fast', expected a number"),
        ("--schedule cosin", "did you mean 'cosine'?"),
        ("--config {tmp}/nowhere.toml", "No such file or directory"),
        ("--config {tmp}/bad.toml", "unknown key model.n_layer; did you mean n_layers?"),
        ("--batch-size 1000000000", "the largest batch_size that fits is"),
        ("--tokenizer nowhere", "tokenizer is 'nowhere'"),
        ("--block-size 4096", "the held-out text is too short"),
        ("--block-size 1", "block_size is 1, a context without room to write a sample in"),
        ("--data=", "data names nothing to read"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(words, fault, text_file, out, tmp_path, capsys):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("short")
    (tmp_path / "bad.toml").write_text("[model]\nn_layer = 3\n")
    (tmp_path / "folder").mkdir()
    given = words.format(tmp=tmp_path, text=text_file).split()
    data = [] if given[0].startswith("--data") else ["--data", str(text_file)]
    assert main(["train", "--out", str(out), *data, *TINY, *given]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyllm")]
    assert len(errors) == 1 and errors[0].startswith("tinyllm: error: ")
    assert fault in errors[0]
    assert not out.exists()


def test_a_folder_of_another_run_is_refused_and_left_alone(trained, text_file, fails):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    line = fails("train", "--data", text_file, "--out", trained, *TINY)
    assert "already holds a run; add --resume to go on with it, or choose another name" in line
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_folder_with_nothing_but_a_hidden_file_is_free_and_a_failed_start_leaves_it_so(text_file, out, capsys):
    out.mkdir(parents=True)
    (out / ".gitkeep").touch()
    assert train(text_file, out, "--max-steps", 2, "--learning-rate", "1e38", "--init-std", "1e30") == 2  # fails at once
    assert [path.name for path in out.iterdir()] == [".gitkeep"]
    assert train(text_file, out, "--max-steps", 1) == 0
    assert (out / ".gitkeep").exists() and (out / "model").exists()


def test_a_tokenizer_that_cannot_begin_a_sample_is_refused_before_anything_is_written(text_file, out, tmp_path, fails):
    CharacterTokenizer(sorted(set(text_file.read_text()))).save(tmp_path)
    words = [word for word in TINY if word not in ("--tokenizer", "character")]
    given = ["train", text_file, "--out", out, "--tokenizer", tmp_path / "tokenizer.json", *words, "--max-steps", 1]
    line = fails(*given)
    assert line.startswith("tokenizer has no end-of-text token") and "give a --sample-prompt, or --num-samples 0" in line
    assert not out.exists()
    assert main([*map(str, given), "--sample-prompt", "The "]) == 0


def test_out_is_needed(fails):
    assert "--out" in fails("train")


@pytest.mark.parametrize("full_at", ["sources.json", "validation.bin", "tokenizer.json", "config.json"])
def test_a_full_disk_during_preparation_leaves_nothing(full_at, text_file, out, monkeypatch, capsys):
    write = atomic._write_and_sync

    def full(path, chunks, beginning=None):
        if full_at in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, chunks, beginning)

    monkeypatch.setattr(atomic, "_write_and_sync", full)
    assert train(text_file, out) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("tinyllm: error: the disk is full") and full_at in last
    assert not out.exists()


def test_a_full_disk_during_training_keeps_the_last_checkpoint(text_file, out, monkeypatch, capsys):
    write = atomic._write_and_sync

    def full(path, chunks, beginning=None):
        if "step-00000004" in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, chunks, beginning)

    monkeypatch.setattr(atomic, "_write_and_sync", full)
    assert train(text_file, out, "--max-steps", 6) == 2
    assert "the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    monkeypatch.undo()
    assert main(["train", "--out", str(out), "--resume"]) == 0


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_exits(number, code, text_file, out):
    words = ["train", "--data", str(text_file), "--out", str(out), *TINY, "--max-steps", "1000000", "--eval-interval", "0"]
    environment = {**os.environ, "TINYLLM_KERNELS": "numpy"}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "tinyllm.cli.main", *words], env=environment, **pipes)
    deadline = time.monotonic() + 60
    while len(read_records(out / "metrics.jsonl")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith(f"tinyllm: stopped by {signal.Signals(number).name} after ")
    steps = read_records(out / "metrics.jsonl")[-1]["step"]
    assert (out / "checkpoints" / f"step-{steps:08d}" / "manifest.json").exists()
