import math

import pytest

from tinyllm.report.diagnosis import remarks
from tinyllm.report.run_record import RunRecord

NO_SETTINGS = dict(environment={}, samples=[], mixture=[], n_parameters=None, tokens_per_byte=None, n_unreadable=0)
N = 40


def healthy(step):
    way = step / N
    rollout = {"rollout": step + 1, "kl": 4 * way, "finished": 0.95, "score": way, "gold": way, "frac_zero_std": 0.1}
    update = {"ratio": 1.0, "approx_kl": 0.0, "entropy": 2 - way, "clip_fraction": 0.05, "explained_variance": 0.6}
    return {"step": step + 1} | rollout | update


def dpo(step):
    return {"step": step + 1, "loss": 0.69, "reward_margin": step / 9, "chosen_log_prob": -20 - step / 9}


def run_of(tmp_path, make, **settings):
    return RunRecord(path=tmp_path, settings=settings, records=[make(step) for step in range(N)], **NO_SETTINGS)


@pytest.mark.parametrize("make", [healthy, dpo])
def test_nothing_stands_out_in_a_healthy_run(tmp_path, make):
    assert remarks(run_of(tmp_path, make)) == []


TROUBLES = {
    "mean ratio of 1.2": lambda way: {"ratio": 1.2},
    "not 1: sampling and update": lambda way: {"approx_kl": 0.02},
    "KL keeps below 0": lambda way: {"kl": -0.5 + 0.01 * math.sin(99 * way)},
    "KL reached 93.8": lambda way: {"kl": 100 * way},
    "of the answers end": lambda way: {"finished": 1 - way},
    "Entropy fell": lambda way: {"entropy": 2 * math.exp(-9 * way)},
    "Over-optimised": lambda way: {"gold": way * (1 - way)},
    "are clipped": lambda way: {"clip_fraction": 0.5},
    "worse than the mean": lambda way: {"explained_variance": -0.4},
    "all answers get the same score": lambda way: {"frac_zero_std": 0.95},
}


@pytest.mark.parametrize("text", TROUBLES)
def test_a_trouble_is_named_and_no_other(tmp_path, text):
    found = remarks(run_of(tmp_path, lambda step: healthy(step) | TROUBLES[text](step / N)))
    assert len(found) == 1 and text in found[0]


def test_a_steered_kl_is_compared_with_its_target(tmp_path):
    run = run_of(tmp_path, lambda step: healthy(step) | {"kl": 30.0}, kl_target=6.0)
    assert any("the target was 6" in remark for remark in remarks(run))


def test_kl_that_dips_below_zero_by_chance_is_no_trouble(tmp_path):
    assert remarks(run_of(tmp_path, lambda step: healthy(step) | {"kl": math.sin(7 * step) - 0.15})) == []


def test_gold_that_wobbles_at_its_best_is_no_over_optimisation(tmp_path):
    assert remarks(run_of(tmp_path, lambda step: healthy(step) | {"gold": min(step, 20) / 20 + 0.02 * math.sin(5 * step)})) == []


def test_a_first_margin_that_is_not_zero_is_told(tmp_path):
    (remark,) = remarks(run_of(tmp_path, lambda step: dpo(step) | {"reward_margin": 0.3}))
    assert "first margin is 0.3" in remark


def test_a_deep_fall_of_the_chosen_answers_is_told(tmp_path):
    (remark,) = remarks(run_of(tmp_path, lambda step: dpo(step) | {"chosen_log_prob": -20.0 - 3 * step}))
    assert "log-probability fell from -20" in remark


def test_missing_measurements_are_no_trouble(tmp_path):
    assert remarks(run_of(tmp_path, lambda step: {"step": step, "loss": 1.0})) == []
    odd = {"kl": float("nan"), "gold": None, "ratio": "x", "rollout": 1}
    assert remarks(run_of(tmp_path, lambda step: {"step": step} | odd)) == []
