"""Shapes by name for `tinyllm train --size`."""

import json

import pytest

from tinyllm.cli.main import main
from tinyllm.models import ARCHITECTURES, GPT, make_model
from tinyllm.recipes import sizes
from tinyllm.training import TrainConfig

TINY = (
    "--tokenizer character --block-size 16 --batch-size 2 --warmup-steps 1 --eval-batches 1 --num-samples 0 --max-steps 1"
).split()


def test_each_size_is_larger_than_the_one_before_and_its_table_tells_weights_and_minutes():
    training = TrainConfig()
    lines = sizes.table(training).splitlines()[1:]
    configs = [*sizes.GPT_SHAPES.values()]
    counts = [GPT(config, rng=None).num_parameters() for config in configs]
    assert counts == sorted(counts) and len(lines) == len(counts)
    for line, config in zip(lines, configs, strict=True):
        assert f"{GPT(config, rng=None).num_parameters() / 1e6:.1f} M weights" in line and f"context {config.block_size}" in line
    tokens = training.n_tokens(configs[1].block_size)
    seconds = 3 * GPT(configs[1], rng=None).flops_per_token() * tokens / 1e11
    assert f" {seconds / 60:.0f} min (default)" in lines[1]


def test_narrow_models_begin_with_larger_weights():
    assert sizes.GPT_SHAPES["tiny"].init_std > sizes.GPT_SHAPES["large"].init_std > 0.02


def test_the_default_leaves_room_for_made_conversations(tmp_path):
    """A base model of the default size can be tuned by the next command of README."""
    assert sizes.GPT_SHAPES[sizes.DEFAULT].block_size >= 256


def test_a_size_is_the_shape_unless_flags_change_it(text_file, tmp_path):
    words = ["train", str(text_file), "--size", "tiny", "--n-layers", "1", *TINY]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    model = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["model"]
    assert (model["n_layers"], model["d_model"], model["block_size"]) == (1, 64, 16)
    assert main(["train", "--out", str(tmp_path / "run"), "--resume"]) == 0


def test_another_size_than_that_of_the_run_is_refused(trained, fails):
    assert "model.block_size was 16" in fails("train", "--out", trained, "--resume", "--size", "tiny")


def test_a_llama_of_a_size_is_about_as_large_as_a_gpt_of_it():
    assert sizes.SHAPES.keys() == ARCHITECTURES.keys()
    for name, shape in sizes.SHAPES["llama"].items():
        gpt, llama = (make_model(config, rng=None).num_parameters() for config in (sizes.GPT_SHAPES[name], shape))
        assert 0.85 < llama / gpt < 1.05 and shape.n_groups < shape.n_heads


@pytest.mark.parametrize("size", ["huge", ""])
def test_an_unknown_size_names_those_there_are(size, tmp_path, fails):
    line = fails("train", "--out", tmp_path / "run", "--size", size)
    assert line == f"--size is {size!r}; expected one of tiny, small, medium, large"
