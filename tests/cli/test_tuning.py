"""What the verbs after pre-training share: the model to begin with, the settings, the inputs of a run."""

import argparse
import io
import sys

import numpy as np
import pytest

from tinyllm.cli import tuning
from tinyllm.cli.main import main
from tinyllm.models import GPT, load_tokenizer_for
from tinyllm.nn import add_lora
from tinyllm.tokenizers import CONTROL_TOKENS
from tinyllm.training import EvalRecord, StepRecord


def test_a_base_model_gets_the_control_tokens_and_keeps_its_old_rows(base):
    model, tokenizer = tuning.load_for_chat(str(base), seed=1)
    assert all(name in tokenizer.special_tokens for name in CONTROL_TOKENS)
    assert model.config.vocab_size == tokenizer.vocab_size == 257 + len(CONTROL_TOKENS)
    before = GPT.from_pretrained(base).state_dict()["tokens.weight"]
    assert np.array_equal(model.state_dict()["tokens.weight"][:257], before)


def test_the_new_rows_follow_from_the_seed(base):
    one, same, other = (tuning.load_for_chat(str(base), seed=seed)[0].state_dict()["tokens.weight"] for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_model_that_can_chat_stays_as_it_is(judge, base, tmp_path):
    model, tokenizer = tuning.load_for_chat(str(base), seed=1)
    model.save_pretrained(tmp_path / "chat", tokenizer)
    again, same = tuning.load_for_chat(str(tmp_path / "chat"), seed=2)
    assert same.fingerprint() == tokenizer.fingerprint() == load_tokenizer_for(judge / "model").fingerprint()
    assert np.array_equal(again.state_dict()["tokens.weight"], model.state_dict()["tokens.weight"])


def test_weights_that_are_no_numbers_are_refused_by_name(broken, base):
    with pytest.raises(ValueError, match="the weight tokens.weight in .*broken holds a value that is not finite"):
        tuning.load_for_chat(str(broken), seed=1)
    tuning.check_finite(GPT.from_pretrained(base), base)


def test_more_rows_than_memory_are_refused_and_lora_needs_less(base, monkeypatch):
    model = GPT.from_pretrained(base)
    with pytest.raises(ValueError, match="^batch_size: 1,000,000,000 rows of 192 tokens need about .* GB, and .* are free"):
        tuning.refuse_too_large(model, rows=10**9)
    from tinyllm.training import estimate_memory

    need = estimate_memory(model.config, batch_size=2)
    monkeypatch.setattr("tinyllm.training.available_memory", lambda: need.total - 1)
    with pytest.raises(ValueError, match="2 rows"):
        tuning.refuse_too_large(model, rows=2)
    add_lora(model, rank=1, alpha=1.0, rng=np.random.default_rng(0))
    tuning.refuse_too_large(model, rows=2)


def test_a_verb_has_its_own_defaults_words_and_no_settings_without_effect():
    group = tuning.training_group({"max_steps": 7}, without=("eval_interval",), words={"batch_size": "pairs"})
    assert "eval_interval" not in group.settings
    assert (group.settings["max_steps"].default, group.settings["batch_size"].help) == (7, "pairs")
    assert "nanoGPT" not in group.settings["max_steps"].help  # where pre-training's default is from


@pytest.mark.parametrize("verb", ["finetune", "reward", "dpo", "rl"])
def test_no_help_gives_the_source_of_another_default(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "nanoGPT's CPU recipe (default" not in shown and "nanoGPT's small recipe" not in shown
    assert ("--eval-interval" in shown) == (verb in ("finetune", "dpo"))


def test_the_settings_of_a_run_are_the_defaults_of_its_resume(judge):
    group = tuning.training_group({"batch_size": 8})
    args = argparse.Namespace(resume=True, out=str(judge))
    assert tuning.read_settings([group], args)["training"].max_steps == 2
    with pytest.raises(ValueError, match="already holds a run"):
        tuning.read_settings([group], argparse.Namespace(resume=False, out=str(judge)))


def test_metrics_are_shown_as_they_were_last_known(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    speed = (1.0, 1.0, 1)
    records = [
        StepRecord(1, 0.5, 0.1, 1.0, 10, *speed, metrics={"kl": 0.25, "other": 1.0}),
        EvalRecord(1, 0.75, 0.75, 10, 0.1),
        StepRecord(2, 0.4, 0.1, 1.0, 20, *speed, metrics={}),
    ]
    tuning.show_records(iter(records), label="rl", total=2, shown={"kl": "distance"})
    shown = screen.getvalue()
    assert "step 1: held-out loss 0.750" in shown and "other" not in shown
    assert "rl 2/2 steps  100%  loss 0.400  distance 0.250" in shown
