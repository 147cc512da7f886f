"""What verbs share: settings as options, those of an earlier run as defaults, and records shown."""

import argparse
import io
import sys

import pytest

from tinyllm.cli.main import main
from tinyllm.cli.options import groups_of
from tinyllm.cli.resuming import read_settings
from tinyllm.cli.settings import Group
from tinyllm.cli.terminal import Terminal
from tinyllm.recipes.events import Stepped
from tinyllm.recipes.reward import RewardSettings
from tinyllm.training import EvalRecord, StepRecord, TrainConfig


def test_a_verb_has_its_own_defaults_words_and_no_settings_without_effect():
    settings = RewardSettings(training=TrainConfig(max_steps=7))
    *_, group = groups_of(settings, without=("eval_interval",), words={"batch_size": "pairs"})
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
    group = Group("training", TrainConfig(batch_size=8))
    args = argparse.Namespace(resume=True, out=str(judge))
    assert read_settings([group], args)["training"].max_steps == 2
    with pytest.raises(ValueError, match="already holds a run"):
        read_settings([group], argparse.Namespace(resume=False, out=str(judge)))


def test_metrics_are_shown_as_they_were_last_known(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    speed = (1.0, 1.0, 1)
    records = [
        StepRecord(1, 0.5, 0.1, 1.0, 10, *speed, metrics={"kl": 0.25, "other": 1.0}),
        EvalRecord(1, 0.75, 0.75, 10, 0.1),
        StepRecord(2, 0.4, 0.1, 1.0, 20, *speed, metrics={}),
    ]
    with Terminal() as show:
        for record in records:
            show(Stepped("rl", record, 2, {"kl": "distance"}))
    shown = screen.getvalue()
    assert "step 1: held-out loss 0.750" in shown and "other" not in shown
    assert "rl 2/2 steps  100%  loss 0.400  distance 0.250" in shown
