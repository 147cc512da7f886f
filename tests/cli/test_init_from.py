"""`tinyllm train --init-from`: pre-training goes on from a model's weights, with its tokenizer and its shape."""

import json
import shutil

import numpy as np
import pytest

from tinyllm.cli.main import main
from tinyllm.models import GPT, load_tokenizer_for
from tinyllm.training import read_records

SHORT = "--max-steps 2 --batch-size 2 --warmup-steps 0 --eval-interval 1 --eval-batches 1 --checkpoint-interval 1 --num-samples 0"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "more"


@pytest.fixture
def more(text_file, trained, out):
    """more(*words): goes on from the tiny run; the exit code."""

    def run(*words, files=(text_file,)):
        return main(["train", *map(str, files), "--out", str(out), "--init-from", str(trained), *SHORT.split(), *map(str, words)])

    return run


def test_it_begins_where_the_model_was_and_keeps_tokenizer_and_shape(more, trained, out):
    assert more() == 0
    settings = json.loads((out / "config.json").read_text())["settings"]
    before = json.loads((trained / "config.json").read_text())["settings"]
    assert settings["model"] == before["model"] and settings["inputs"]["init_from"] == str(trained)
    assert load_tokenizer_for(out / "model").fingerprint() == load_tokenizer_for(trained / "model").fingerprint()
    last, first = (
        [record["val_loss"] for record in read_records(run / "metrics.jsonl") if record["event"] == "evaluation"]
        for run in (trained, out)
    )
    assert abs(first[0] - last[-1]) < 1e-5  # the same text is held out


def test_with_no_step_worth_mentioning_the_weights_stay(more, trained, out):
    assert more("--learning-rate", 1e-9, "--min-learning-rate", 0) == 0
    before, after = (GPT.from_pretrained(run / "model").state_dict() for run in (trained, out))
    assert all(np.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_it_is_resumed_to_the_same_bits_without_naming_the_model_again(more, out):
    assert more() == 0
    whole = (out / "model" / "model.safetensors").read_bytes()
    for name in ("model", "checkpoints/step-00000002"):
        shutil.rmtree(out / name)
    assert main(["train", "--out", str(out), "--resume"]) == 0
    assert (out / "model" / "model.safetensors").read_bytes() == whole


def test_a_model_that_changed_since_is_refused(more, run_copy, text_file, out, fails):
    assert main(["train", str(text_file), "--out", str(out), "--init-from", str(run_copy), *SHORT.split()]) == 0
    shutil.rmtree(run_copy / "model")
    shutil.copytree(run_copy / "checkpoints" / "step-00000002" / "model", run_copy / "model")
    line = fails("train", "--out", out, "--resume")
    assert line.startswith("--init-from: ") and "has changed since the run in" in line


def test_dropout_may_be_another_and_an_equal_shape_may_be_said(more, out):
    assert more("--dropout", 0.1, "--block-size", 16, "--n-layers", 1) == 0
    assert json.loads((out / "config.json").read_text())["settings"]["model"]["dropout"] == 0.1


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--n-layers 2", "--n-layers is 2, but the model in {trained}/model has n_layers 1, which its weights decide; leave it"),
        ("--block-size 8", "--block-size is 8, but the model in {trained}/model has block_size 16"),
        ("--size tiny", "--size came with --init-from, whose model has its own shape and tokenizer; leave one of them out"),
        ("--tokenizer byte", "--tokenizer came with --init-from"),
        ("--vocab-size 300", "--vocab-size came with --init-from"),
        ("--init-from nowhere", "--init-from: nowhere does not exist"),
        ("--init-from {judge}", "expected a language model"),
        ("--init-from {broken}", "holds a value that is not finite"),
    ],
)
def test_conflicts_are_refused_by_name_and_leave_nothing(words, fault, trained, judge, broken, text_file, out, fails):
    places = {"trained": trained, "judge": judge, "broken": broken}
    given = ["train", text_file, "--out", out, "--init-from", trained, *SHORT.split(), *words.format(**places).split()]
    assert fault.format(**places) in fails(*given)
    assert not out.exists()
