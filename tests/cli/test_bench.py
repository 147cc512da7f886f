"""`tinyllm bench`: the speed of a step, and with --profile where it goes. The figures are the machine's; their form is ours."""

import re

import pytest

from tinyllm import kernels
from tinyllm.cli import bench
from tinyllm.cli.main import main
from tinyllm.models.gpt import GPT, GPTConfig
from tinyllm.report import speed

TINY = "--n-layers 1 --d-model 8 --n-heads 2 --block-size 8 --vocab-size 11 --batch-size 2 --steps 3".split()


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """The kernels of the suite are compiled as they are used; `bench` itself would compile all of them first."""
    monkeypatch.setattr("tinyllm.recipes.compile_ahead.ensure_compiled", lambda show: None)


def test_without_options_it_is_nanogpt_s_recipe():
    config = bench._group("gpt2").settings
    shape = {name: config[name].default for name in ("n_layers", "d_model", "n_heads", "block_size", "vocab_size", "bias")}
    assert shape == {"n_layers": 4, "d_model": 128, "n_heads": 4, "block_size": 64, "vocab_size": 65, "bias": False}


def test_it_prints_time_speed_and_arithmetic(capsys):
    assert main(["bench", *TINY]) == 0
    shown = capsys.readouterr().out
    assert "1 layers, width 8, 2 heads" in shown and "batches of 2 x 8 tokens" in shown
    assert re.search(r"step +[\d.,]+ ms  median of 3, quartiles [\d.,]+ to [\d.,]+\n", shown)
    assert re.search(r"speed +[\d,]+ tokens/s\n", shown)
    peak = "" if kernels.backend() == "numpy" else r", \d+% of this machine's [\d,]+"
    assert re.search(rf"arithmetic +[\d.,]+ GFLOP/s{peak}\n", shown)


def test_the_profile_shows_each_op_and_writes_the_picture(tmp_path, capsys):
    path = tmp_path / "sub.html"
    assert main(["bench", *TINY, "--profile", str(path)]) == 0
    shown = capsys.readouterr().out
    for part in ("compiled kernels", "Python", "NumPy and memory", "page faults", "new arrays"):
        assert part in shown
    assert re.search(r"^forward +self_attention +1 ", shown, re.M) and re.search(r"^optimizer +optimizer step +1 ", shown, re.M)
    assert f"The picture of a step is {path}" in shown
    assert path.read_text().startswith("<!doctype html>")


def test_numbers_follow_from_the_median():
    config = GPTConfig(vocab_size=65, block_size=64, n_layers=4, n_heads=4, d_model=128, bias=False)
    shown = speed.speed_table([30.0, 10.0, 20.0], config, batch_size=12)
    assert "20.00 ms  median of 3, quartiles 15.00 to 25.00" in shown
    assert "38,400 tokens/s" in shown
    assert f"{3 * GPT(config, rng=None).flops_per_token() * 768 / 0.02 / 1e9:,.1f} GFLOP/s" in shown


def test_the_shrunk_model_has_the_same_layers():
    config = speed.shrunk(GPTConfig(n_layers=3, n_heads=4, d_model=128, bias=False))
    assert (config.n_layers, config.n_heads, config.d_model, config.block_size, config.bias) == (3, 4, 8, 1, False)


def test_a_trained_model_gives_the_shape(trained, capsys):
    assert main(["bench", str(trained), "--steps", "1", "--batch-size", "2"]) == 0
    assert "width 8, 2 heads" in capsys.readouterr().out


def test_what_makes_no_sense_is_refused(fails, trained):
    assert fails("bench", "--batch-size", "0") == "--batch-size is 0; expected at least 1"
    assert fails("bench", "--steps", "-1") == "--steps is -1; expected at least 1"
    assert "leave one of them out" in fails("bench", trained, "--n-layers", "2")
    assert "does not exist" in fails("bench", "nowhere")
    assert "n_heads 3" in fails("bench", "--n-heads", "3")


def test_a_page_that_cannot_be_written_is_one_line(fails, tmp_path):
    assert "sub" in fails("bench", *TINY, "--profile", tmp_path / "sub" / "p.html")
