"""Benchmarks run too: one that is broken when it is wanted is no benchmark."""

import importlib.util
from pathlib import Path

import numpy as np

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_nanogpt_recipe_learns(tmp_path):
    words = np.random.default_rng(0).choice(["to be ", "or not ", "the question\n", "that is "], 2000)
    (tmp_path / "text.txt").write_text("".join(words), encoding="utf-8")
    few, more = (load("shakespeare_char").main(str(tmp_path / "text.txt"), steps=n)["validation_loss"] for n in (2, 25))
    assert more < few < np.log(40)


def test_validation_is_the_mean_over_all_held_out_tokens_also_of_a_last_smaller_batch():
    module = load("shakespeare_char")
    from tinyllm.data import EvaluationWindows
    from tinyllm.models import GPT, GPTConfig

    ids = np.random.default_rng(1).integers(0, 11, 7 * 8 + 1)
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layers=1, n_heads=1, d_model=8), rng=np.random.default_rng(2))
    together = module.validation_loss(model, EvaluationWindows(ids, batch_size=7, block_size=8))
    in_pieces = module.validation_loss(model, EvaluationWindows(ids, batch_size=3, block_size=8))
    assert abs(together - in_pieces) < 1e-6
