"""The tables of `tinyllm info` against real models."""

import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.cli.main import main
from tinyllm.models import GPT, GPTConfig, SequenceClassifier
from tinyllm.report.model_size import parameter_rows, table

configs = st.builds(
    lambda head_width, n_heads, **sizes: GPTConfig(d_model=head_width * n_heads, n_heads=n_heads, **sizes),
    head_width=st.integers(1, 5),
    n_heads=st.integers(1, 3),
    n_layers=st.integers(1, 3),
    vocab_size=st.integers(1, 50),
    block_size=st.integers(1, 20),
    bias=st.booleans(),
)


@given(configs)
def test_the_table_adds_up_to_the_parameters_of_the_model(config):
    counts = [int(count.split()[0].replace(",", "")) for _, _, count in parameter_rows(GPT(config, rng=None))]
    assert sum(counts[:-1]) == counts[-1] == GPT(config, rng=None).num_parameters()


def test_gpt2_small_by_default(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"in all +124,439,808  100.0%", shown)
    assert "498 MB" in shown


def test_a_shape_from_flags_and_file(tmp_path, capsys):
    (tmp_path / "shape.toml").write_text("[model]\nn_layers = 2\nd_model = 64\n")
    assert main(["info", "--config", str(tmp_path / "shape.toml"), "--n-heads", "2", "--batch-size", "3"]) == 0
    shown = capsys.readouterr().out
    assert "n_layers 2  n_heads 2  d_model 64" in shown
    assert "3 x 1024 = 3,072 tokens" in shown


def test_a_model_folder_and_a_run_folder(trained, capsys):
    for folder in (trained, trained / "model"):
        assert main(["info", str(folder)]) == 0
        assert "d_model 8" in capsys.readouterr().out


def test_a_model_that_others_saved_is_read_by_its_config(tmp_path, capsys):
    config = GPTConfig(vocab_size=7, block_size=4, n_layers=1, n_heads=1, d_model=2)
    GPT(config, rng=np.random.default_rng(0)).save_pretrained(tmp_path / "model")
    assert main(["info", str(tmp_path / "model")]) == 0
    assert "vocab_size 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--n-heads", "7"], "d_model 768 is not divisible by n_heads 7"),
        (["--batch-size", "0"], "--batch-size is 0; expected at least 1"),
        (["nowhere"], "model: nowhere does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(words, fault, fails):
    assert fault in fails("info", *words)


def test_a_trained_model_has_its_own_shape(trained, fails):
    assert "--n-layers and a model folder came" in fails("info", trained, "--n-layers", 3)


def test_a_damaged_model_is_refused_by_file_and_field(run_copy, fails):
    config = run_copy / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"n_layer": "two"}))
    line = fails("info", run_copy)
    assert str(config) in line and "n_layer" in line


def test_tables_are_aligned():
    assert table([("a", "bb", "1"), ("ccc", "d", "22")]) == "  a    bb   1\n  ccc  d   22"


def test_reward_models_and_classifiers_are_named(judge, base, tmp_path, capsys, fails):
    assert main(["info", str(judge)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"The reward model in {judge / 'model'}: a GPT and a head") and "d_model 8" in shown
    trunk = GPT.from_pretrained(base)
    SequenceClassifier(trunk, 3, rng=np.random.default_rng(0)).save_pretrained(tmp_path / "classes")
    assert main(["info", str(tmp_path / "classes")]) == 0
    assert "a head for 3 labels" in capsys.readouterr().out
    for verb in ("generate", "chat"):
        assert "score.weight: expected a language model" in fails(verb, judge)


def test_the_run_of_a_finished_lora_finetuning_is_a_model(base, tmp_path, capsys, fails):
    lines = (f'{{"prompt": "Hi {i}", "completion": "Hello"}}\n' for i in range(4))
    (tmp_path / "chats.jsonl").write_text("".join(lines))
    words = ["--data", str(tmp_path / "chats.jsonl"), "--lora-rank", "2", "--max-steps", "1", "--out", str(tmp_path / "run")]
    assert main(["finetune", str(base), *words]) == 0
    assert main(["info", str(tmp_path / "run")]) == 0
    shutil.rmtree(tmp_path / "run" / "model")  # as while it goes on
    for verb in ("info", "generate"):
        assert "holds weights in training" in fails(verb, tmp_path / "run")
