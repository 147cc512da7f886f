"""Facts about estimating the KL divergence, and about the controller of its price."""

from pathlib import Path

import numpy as np
import pytest

from tinyllm import Tensor
from tinyllm.autograd import gradcheck
from tinyllm.rlhf.kl import ESTIMATORS, KLController, kl_estimate

TRL = np.load(Path(__file__).parents[1] / "fixtures" / "trl_rl.npz")


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_estimates_are_those_of_trl(estimator):
    got = kl_estimate(TRL["log_probs"], TRL["ref_log_probs"], estimator=estimator)
    np.testing.assert_allclose(got, TRL[f"kl_{estimator}"], rtol=1e-12, atol=1e-14)


def two_distributions():
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(6)) for _ in range(2))
    return p, q, float((p * np.log(p / q)).sum())


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(estimator):
    """The mean over the distribution itself, no sampling: exactly the divergence."""
    p, q, kl = two_distributions()
    assert abs((p * kl_estimate(np.log(p), np.log(q), estimator=estimator)).sum() - kl) < 1e-12


def test_k2_is_biased_but_second_order():
    p, q, kl = two_distributions()
    assert abs((p * kl_estimate(np.log(p), np.log(q), estimator="k2")).sum() - kl) > 1e-3
    near = p * (1 + 1e-3 * np.arange(6))
    near /= near.sum()
    kl = (p * np.log(p / near)).sum()
    assert abs((p * kl_estimate(np.log(p), np.log(near), estimator="k2")).sum() / kl - 1) < 1e-2


def test_k2_and_k3_are_never_negative_and_zero_only_for_equals():
    difference = np.linspace(-5, 5, 101)
    for estimator in ("k2", "k3"):
        kl = kl_estimate(difference, np.zeros_like(difference), estimator=estimator)
        assert (kl >= 0).all() and np.flatnonzero(kl == 0).tolist() == [50]
    assert (kl_estimate(difference, np.zeros_like(difference)) < 0).sum() == 50


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_the_slopes_and_tensors_give_what_arrays_give(estimator):
    rng = np.random.default_rng(1)
    mine, theirs = -rng.random((2, 3, 4))
    gradcheck(lambda x: kl_estimate(x, theirs, estimator=estimator), mine)
    got = kl_estimate(Tensor(mine), theirs, estimator=estimator)
    np.testing.assert_allclose(got.data, kl_estimate(mine, theirs, estimator=estimator), rtol=1e-14)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="estimator is 'k4'; expected one of k1, k2, k3"):
        kl_estimate(np.zeros(1), np.zeros(1), estimator="k4")


def test_a_fixed_price_stays():
    controller = KLController(0.05)
    controller.update(100.0, 512)
    assert controller.beta == 0.05


def test_the_price_rises_above_the_target_and_falls_below():
    controller = KLController(0.15, target=6.0, horizon=10_000)
    controller.update(12.0, 64)  # twice the target: the error is clipped at 0.2
    assert controller.beta == pytest.approx(0.15 * (1 + 0.2 * 64 / 10_000))
    before = controller.beta
    controller.update(5.4, 64)
    assert controller.beta == pytest.approx(before * (1 - 0.1 * 64 / 10_000))
    before = controller.beta
    controller.update(0.0, 64)
    assert controller.beta == pytest.approx(before * (1 - 0.2 * 64 / 10_000))
    before = controller.beta
    controller.update(6.0, 64)
    assert controller.beta == before


def test_the_controller_brings_the_divergence_to_its_target():
    """A policy whose KL is inversely proportional to its price settles where it should."""
    controller = KLController(0.01, target=6.0, horizon=1000)
    for _ in range(2000):
        controller.update(0.9 / controller.beta, 100)
    assert 0.9 / controller.beta == pytest.approx(6.0, rel=1e-3)


def test_beta_never_falls_below_zero_since_such_a_setting_is_refused():
    controller = KLController(0.2, target=6.0, horizon=10)
    with pytest.raises(ValueError, match="horizon of the KL controller is 10, at least the 64 answers of a rollout expected"):
        controller.update(0.0, 64)
    assert controller.beta == 0.2
    for _ in range(1000):  # the most that is allowed, downwards
        controller.update(0.0, 10)
    assert 0 <= controller.beta < 1e-9
    KLController(0.2, target=None, horizon=10).update(0.0, 64)  # a fixed beta has no horizon


def test_the_settings_of_ppo_are_checked_against_its_rollout():
    from tinyllm.rlhf import PPOConfig

    PPOConfig(n_prompts=32, group_size=2, kl_target=6.0, kl_horizon=64)
    PPOConfig(n_prompts=32, group_size=2, kl_horizon=10)
    with pytest.raises(ValueError, match="horizon of the KL controller is 63"):
        PPOConfig(n_prompts=32, group_size=2, kl_target=6.0, kl_horizon=63)


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"beta": -0.1}, "beta must be .* got -0.1"), ({"beta": float("nan")}, "beta must be .* got nan"),
     ({"target": 0.0}, "target must be a number above 0 or None, got 0.0"), ({"target": -1.0}, "target must be .* got -1.0"),
     ({"horizon": 0}, "horizon must be a number of at least 1, got 0")],
)  # fmt: skip
def test_a_controller_that_could_not_steer_is_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        KLController(**{"beta": 0.1, "target": 6.0, "horizon": 100, **settings})
