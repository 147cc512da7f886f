"""DPO and its variants: against TRL and a plain twin, gradients, the facts of the first step, resume, LoRA."""

import copy
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_rl

from tinyllm import Tensor, no_grad
from tinyllm.autograd import gradcheck
from tinyllm.autograd.gradcheck import numerical_gradient
from tinyllm.nn.lora import add_lora, lora_disabled
from tinyllm.rlhf.comparisons import ComparedAnswers
from tinyllm.rlhf.dpo import (
    DPO,
    LOSSES,
    PairLogProbs,
    PreferencePairs,
    dpo_loss,
    ipo_loss,
    length_normalised_dpo_loss,
    pair_log_probs,
    reference_log_probs,
    robust_dpo_loss,
    simpo_loss,
)
from tinyllm.training import open_run, train

TRL = np.load(Path(__file__).parents[1] / "fixtures" / "trl_losses.npz")
MASK = TRL["mask"]
SUMS = {name: (TRL[name] * MASK).sum(axis=2) for name in ("policy", "reference")}  # (N, 2)
LENGTHS = MASK.sum(axis=2).astype(float)
CASES = {  # as in fixtures/make_trl_losses.py
    "dpo": partial(dpo_loss, beta=0.1),
    "robust": partial(robust_dpo_loss, beta=0.3, label_smoothing=0.2),
    "ipo": partial(ipo_loss, beta=0.25),
    "length_normalised": partial(length_normalised_dpo_loss, beta=2.0),
    "simpo": partial(simpo_loss, beta=2.0, gamma=0.5),
}


def pair_of(chosen, rejected):
    return PairLogProbs(chosen, rejected, *SUMS["reference"].T, *LENGTHS.T)


def softplus(x):
    """-log σ(-x), plainly."""
    return np.log1p(np.exp(x))


def twin(name):
    """The losses once more, written out over plain arrays."""
    (pc, pr), (rc, rr), (lc, lr) = SUMS["policy"].T, SUMS["reference"].T, LENGTHS.T
    h = (pc - rc) - (pr - rr)
    per_token = (pc - rc) / lc - (pr - rr) / lr
    return {
        "dpo": softplus(-0.1 * h),
        "robust": (0.8 * softplus(-0.3 * h) - 0.2 * softplus(0.3 * h)) / 0.6,
        "ipo": (per_token - 2.0) ** 2,
        "length_normalised": softplus(-2.0 * per_token),
        "simpo": softplus(-(2.0 * pc / lc - 2.0 * pr / lr - 0.5)),
    }[name]


# ---- the losses


@pytest.mark.parametrize("name", CASES)
def test_losses_are_those_of_trl_and_of_a_plain_twin(name):
    losses = CASES[name](pair_of(*map(Tensor, SUMS["policy"].T))).data
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, TRL[name], rtol=0, atol=1e-5)
    np.testing.assert_allclose(losses, twin(name), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_slopes(name):
    assert gradcheck(lambda chosen, rejected: CASES[name](pair_of(chosen, rejected)), *SUMS["policy"].T.copy()) < 1e-6


def test_smoothing_mixes_the_loss_with_that_of_the_flipped_label():
    pair = pair_of(*map(Tensor, SUMS["policy"].T))
    flipped = PairLogProbs(pair.policy_rejected, pair.policy_chosen, pair.ref_rejected, pair.ref_chosen, *LENGTHS.T)
    mixed = 0.7 * dpo_loss(pair).data + 0.3 * dpo_loss(flipped).data
    np.testing.assert_allclose(dpo_loss(pair, label_smoothing=0.3).data, mixed, atol=1e-12)


def test_the_robust_loss_over_flipped_labels_is_in_the_mean_the_loss_of_the_true_ones():
    pair = pair_of(*map(Tensor, SUMS["policy"].T))
    flipped = PairLogProbs(pair.policy_rejected, pair.policy_chosen, pair.ref_rejected, pair.ref_chosen, *LENGTHS.T)
    mean = 0.8 * robust_dpo_loss(pair, label_smoothing=0.2).data + 0.2 * robust_dpo_loss(flipped, label_smoothing=0.2).data
    np.testing.assert_allclose(mean, dpo_loss(pair).data, atol=1e-12)
    with pytest.raises(ValueError, match="label_smoothing is 0.5; expected the share of wrong labels"):
        robust_dpo_loss(pair, label_smoothing=0.5)


# ---- the first step

GROUPS = [
    ComparedAnswers([2, 3], [[4, 1], [5, 6, 1], [7, 1]], np.array([(0, 1), (2, 1)]), np.zeros(2, np.float32)),
    ComparedAnswers([9], [[8, 1], [3, 3, 3, 1]], np.array([(1, 0)]), np.zeros(1, np.float32)),
    ComparedAnswers([5, 5, 5], [[2, 1], [10, 1]], np.array([(0, 1)]), np.zeros(1, np.float32)),
]


def make_pairs(reference, *, batch_size=2, seed=1):
    return PreferencePairs(GROUPS, reference=reference, batch_size=batch_size, rng=np.random.default_rng(seed))


def first_step(objective, policy=None):
    policy = policy or tiny_rl.make_policy()
    policy.train()
    batch = make_pairs(policy, batch_size=4).next_batch()
    loss = objective(policy, batch, n_counted=batch.n_counted)
    loss.backward()
    return loss.item(), objective.measure(), policy


@pytest.mark.parametrize("name", ["dpo", "robust", "length-normalised"])
def test_the_first_loss_is_ln_2_with_no_margin_and_a_gradient(name):
    loss, metrics, policy = first_step(DPO(LOSSES[name], beta=0.3))
    assert loss == pytest.approx(math.log(2), abs=1e-5)
    assert abs(metrics["reward_margin"]) < 1e-5 and abs(metrics["chosen_reward"]) < 1e-5
    assert np.abs(policy.tokens.weight.grad).max() > 1e-3


def test_the_first_loss_of_ipo_is_its_target_squared():
    assert first_step(DPO(ipo_loss, beta=0.25))[0] == pytest.approx(4.0, abs=1e-4)


def test_at_first_accuracy_is_one_half_exactly_when_log_probs_tie():
    policy = tiny_rl.make_policy()
    source = make_pairs(policy, batch_size=4)
    with no_grad():
        batch = source.batch(np.arange(4))
        own = pair_log_probs(policy, batch)
    source.ref_log_probs = [np.array(x) for x in reference_log_probs(policy, GROUPS)]
    tied = PairLogProbs(own.policy_chosen, own.policy_rejected, own.policy_chosen.data, own.policy_rejected.data, *LENGTHS[:4].T)
    from tinyllm.rlhf.dpo import pair_metrics

    assert pair_metrics(tied, beta=0.1)["reward_accuracy"] == 0.5


# ---- batches and log-probabilities


def test_log_probs_are_sums_over_the_answer_alone_computed_one_by_one():
    policy = tiny_rl.in_float64(tiny_rl.make_policy())
    batch = make_pairs(policy).batch(np.array([0, 2]))  # pairs (0, 1) of the first prompt, (1, 0) of the second
    with no_grad():
        pair = pair_log_probs(policy, batch)
        expected = []
        for group, answer in ((0, 0), (1, 1), (0, 1), (1, 0)):
            prompt, ids = GROUPS[group].prompt, GROUPS[group].answers[answer]
            logits = policy(np.array([prompt + ids])).data[0]
            log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            expected.append(sum(log_probs[len(prompt) - 1 + t, token] for t, token in enumerate(ids)))
    got = np.concatenate([pair.policy_chosen.data, pair.policy_rejected.data])
    np.testing.assert_allclose(got, expected, atol=1e-10)
    assert pair.chosen_length.tolist() == [2, 4] and pair.rejected_length.tolist() == [3, 2]
    np.testing.assert_allclose(np.concatenate([pair.ref_chosen, pair.ref_rejected]), expected, atol=1e-10)


def test_the_gradient_through_a_whole_policy_is_the_slope():
    policy = tiny_rl.in_float64(tiny_rl.make_policy())
    source = make_pairs(tiny_rl.in_float64(tiny_rl.make_policy(3)), batch_size=4)
    batch, objective = source.next_batch(), DPO(dpo_loss, beta=0.5)
    objective(policy, batch, n_counted=4).backward()
    weight = policy.positions.weight
    with no_grad():
        slope = numerical_gradient(lambda: objective(policy, batch, n_counted=4).item(), weight.data)
    np.testing.assert_allclose(weight.grad, slope, atol=1e-6)


def test_padding_content_changes_nothing():
    policy, source = tiny_rl.make_policy(), make_pairs(tiny_rl.make_policy(3), batch_size=4)
    batch = source.next_batch()
    other = copy.deepcopy(batch)
    other.sequences.tokens[~other.sequences.attention_mask] = 7
    with no_grad():
        losses = [DPO()(policy, one, n_counted=4).item() for one in (batch, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_two_micro_batches_add_up_to_one_batch():
    policy, source = tiny_rl.make_policy(), make_pairs(tiny_rl.make_policy(3))
    with no_grad():
        whole = DPO()(policy, source.batch(np.arange(4)), n_counted=4).item()
        parts = sum(DPO()(policy, source.batch(rows), n_counted=4).item() for rows in (np.arange(2), np.arange(2, 4)))
    assert parts == pytest.approx(whole, rel=1e-5)


def test_a_beta_of_zero_is_refused():
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        DPO(beta=0)


# ---- training


def trained(folder, *, stop_after=None, resume=False, max_steps=6, policy=None, reference=None):
    policy = policy or tiny_rl.make_policy()
    source = make_pairs(reference or tiny_rl.make_policy())
    objective = DPO(dpo_loss, beta=0.5)
    config = tiny_rl.train_config(max_steps, checkpoint_interval=1)
    records = []
    with open_run(folder, settings={"training": config, "model": policy.config}, resume=resume) as run:
        for record in train(policy, source, config=config, loss_fn=objective, run=run, measure=objective.measure):
            records.append(record)
            if len(records) == stop_after:
                break
    return policy, records


@pytest.mark.parametrize("stop_after", [2, 5])
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, stop_after):
    whole, records = trained(tmp_path / "whole")
    trained(tmp_path / "cut", stop_after=stop_after)
    again, rest = trained(tmp_path / "cut", resume=True)
    assert [(r.loss, r.metrics) for r in rest] == [(r.loss, r.metrics) for r in records[stop_after - 1 :]]
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(array, again.state_dict()[name])


def test_resuming_with_the_trained_policy_as_reference_is_refused(tmp_path):
    policy, _ = trained(tmp_path, stop_after=5)
    with pytest.raises(ValueError, match="make the source with the policy before training"):
        trained(tmp_path, resume=True, reference=policy)


@pytest.mark.parametrize("name", LOSSES)
def test_every_variant_learns_the_preference(name):
    policy = tiny_rl.make_policy()
    source = make_pairs(policy, batch_size=4)
    objective = DPO(LOSSES[name], beta={"ipo": 0.25}.get(name, 0.5))
    config = tiny_rl.train_config(25, learning_rate=0.02)
    records = list(train(policy, source, config=config, loss_fn=objective, measure=objective.measure))
    assert records[-1].loss < records[0].loss
    assert records[-1].metrics["reward_accuracy"] == 1 and records[-1].metrics["reward_margin"] > 0.1


def test_with_lora_the_reference_is_the_policy_with_its_adapters_off():
    policy = add_lora(tiny_rl.make_policy(), rank=2, alpha=4, rng=np.random.default_rng(0))
    before = {name: array.copy() for name, array in policy.state_dict().items()}
    with lora_disabled(policy):
        source = make_pairs(policy, batch_size=4)
    objective = DPO(dpo_loss, beta=0.5)
    config = tiny_rl.train_config(25, learning_rate=0.02)
    records = list(train(policy, source, config=config, loss_fn=objective, measure=objective.measure))
    assert records[0].loss == pytest.approx(math.log(2), abs=1e-5) and records[-1].loss < 0.6
    changed = {name for name, array in policy.state_dict().items() if not np.array_equal(array, before[name])}
    assert changed and all("lora_" in name for name in changed)
    with lora_disabled(policy):
        again = make_pairs(policy, batch_size=4)
    np.testing.assert_array_equal(np.concatenate(again.ref_log_probs), np.concatenate(source.ref_log_probs))


def test_the_policys_dropout_is_switched_off():
    policy = tiny_rl.make_policy(dropout=0.5)
    assert first_step(DPO(), policy)[0] == pytest.approx(math.log(2), abs=1e-5)


def test_evaluation_leaves_no_metrics_behind():
    policy = tiny_rl.make_policy()
    policy.eval()
    batch, objective = make_pairs(policy).next_batch(), DPO()
    with no_grad():
        objective(policy, batch, n_counted=2)
    assert objective.measure() == {}
