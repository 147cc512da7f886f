"""The reward model: the loss against TRL and a plain twin, what a batch holds, normalisation, calibration, exact resume."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_rl

from tinyllm import Tensor, no_grad
from tinyllm.autograd import gradcheck
from tinyllm.autograd.gradcheck import numerical_gradient
from tinyllm.models import RewardModel
from tinyllm.rlhf.comparisons import ComparedAnswers
from tinyllm.rlhf.reward_model import (
    PreferenceGroups,
    bradley_terry_loss,
    calibrate,
    compare_pairs,
    load_reward_model,
    normalise,
    pair_accuracy,
    pair_batch,
    preference_loss,
    score_sequences,
)
from tinyllm.tokenizers import ByteTokenizer
from tinyllm.training import Stopped, open_run, train

TRL = np.load(Path(__file__).parents[1] / "fixtures" / "trl_losses.npz")


def group(prompt, answers, pairs, margins=None):
    pairs = np.array(pairs)
    return ComparedAnswers(prompt, answers, pairs, np.array(margins or [0.0] * len(pairs), np.float32))


GROUPS = [
    group([2, 3], [[4, 1], [5, 6, 1], [7, 1]], [(0, 1), (0, 2), (2, 1)], [1.0, 2.0, 1.0]),
    group([9], [[8, 1], [3, 3, 3, 1]], [(1, 0)], [3.0]),
    group([5, 5, 5], [[2, 1], [10, 1]], [(0, 1)]),
]


def reward_model(seed=0):
    return RewardModel(tiny_rl.make_policy(seed), rng=np.random.default_rng(seed + 5))


# ---- the loss


@pytest.mark.parametrize(
    "name, settings",
    [("reward", {}), ("reward_margin", {"margin": TRL["margins"]}), ("reward_centred", {"center_coefficient": 0.01})],
)
def test_losses_are_those_of_trl_and_of_a_plain_twin(name, settings):
    chosen, rejected = TRL["rewards"].T
    losses = bradley_terry_loss(Tensor(chosen), Tensor(rejected), **settings).data
    np.testing.assert_allclose(losses, TRL[name], rtol=0, atol=1e-5)
    margin, c = settings.get("margin", 0.0), settings.get("center_coefficient", 0.0)
    twin = [math.log1p(math.exp(-d)) for d in chosen - rejected - margin] + c * (chosen + rejected) ** 2
    np.testing.assert_allclose(losses, twin, rtol=0, atol=1e-10)


def test_its_gradient_is_the_slope():
    chosen, rejected = TRL["rewards"].T
    assert gradcheck(partial(bradley_terry_loss, margin=0.3, center_coefficient=0.1), chosen, rejected) < 1e-6


def test_equal_rewards_cost_ln_2_and_huge_ones_stay_finite():
    assert bradley_terry_loss(Tensor(np.zeros(1)), Tensor(np.zeros(1))).item() == pytest.approx(math.log(2), abs=1e-12)
    assert bradley_terry_loss(Tensor(np.array([-1e4])), Tensor(np.array([1e4]))).item() == 2e4


def test_the_gradient_through_a_whole_reward_model_is_the_slope():
    model = tiny_rl.in_float64(reward_model())
    loss_fn = partial(preference_loss, center_coefficient=0.1, margin_scale=0.5)
    batch = pair_batch(GROUPS)
    loss_fn(model, batch, n_counted=batch.n_counted).backward()
    for weight in (model.head.weight, model.trunk.positions.weight):
        with no_grad():
            slope = numerical_gradient(lambda: loss_fn(model, batch, n_counted=batch.n_counted).item(), weight.data)
        np.testing.assert_allclose(weight.grad, slope, atol=1e-6)


# ---- batches


def test_a_batch_holds_each_answer_once_and_weighs_each_prompt_the_same():
    batch = pair_batch(GROUPS)
    assert batch.sequences.tokens.shape[0] == 7 and batch.n_counted == 3
    assert list(zip(batch.chosen.tolist(), batch.rejected.tolist(), strict=True)) == [(0, 1), (0, 2), (2, 1), (4, 3), (5, 6)]
    np.testing.assert_allclose(batch.weights, [1 / 3, 1 / 3, 1 / 3, 1, 1])


def test_the_loss_of_a_batch_is_the_mean_over_prompts_of_the_mean_over_pairs():
    model, batch = reward_model(), pair_batch(GROUPS)
    with no_grad():
        loss = preference_loss(model, batch, n_counted=3).item()
    by_hand = []
    for one in GROUPS:
        rewards = [score_sequences(model, pair_batch([one]).sequences)[i] for i in range(len(one.answers))]
        by_hand.append(np.mean([math.log1p(math.exp(rewards[r] - rewards[c])) for c, r in one.pairs]))
    assert loss == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_a_batch_wider_than_the_context_is_scored_as_its_rows_alone():
    """A long prompt with short answers beside a short prompt with long ones: each row fits, the padded batch does not."""
    long_prompt = group([2] * 12, [[4, 1], [5, 1]], [(0, 1)])
    long_answer = group([3], [[6] * 11 + [1], [7] * 13 + [1]], [(0, 1)])
    model, batch = reward_model(), pair_batch([long_prompt, long_answer])
    assert batch.tokens.shape[1] > model.config.block_size
    alone = [score_sequences(model, pair_batch([one]).sequences) for one in (long_prompt, long_answer)]
    np.testing.assert_allclose(score_sequences(model, batch.sequences), np.concatenate(alone), atol=1e-5)


def test_every_prompt_comes_once_an_epoch():
    source = PreferenceGroups(GROUPS, batch_size=2, rng=np.random.default_rng(0))
    assert source.steps_per_epoch == 2
    counts = [source.next_batch().n_counted for _ in range(3)]
    assert counts == [2, 2, 2]  # 6 = two epochs of 3


def test_a_state_of_other_comparisons_is_refused():
    state = PreferenceGroups(GROUPS, batch_size=2, rng=np.random.default_rng(0)).state()
    turned = [group(GROUPS[0].prompt, GROUPS[0].answers, GROUPS[0].pairs[:, ::-1]), *GROUPS[1:]]
    with pytest.raises(ValueError, match="comparisons_crc32"):
        PreferenceGroups(turned, batch_size=2, rng=np.random.default_rng(0)).restore(state)


# ---- training


def trained(folder, *, stop_after=None, resume=False, max_steps=6):
    """Trains a tiny reward model in `folder`; the records."""
    model, source = reward_model(), PreferenceGroups(GROUPS, batch_size=2, rng=np.random.default_rng(1))
    config = tiny_rl.train_config(max_steps, checkpoint_interval=1)
    records = []
    with open_run(folder, settings={"training": config, "model": model.config}, resume=resume) as run:
        try:
            for record in train(model, source, config=config, loss_fn=preference_loss, run=run):
                records.append(record)
                if len(records) == stop_after:
                    break
        except Stopped:
            pass
    return model, records


@pytest.mark.parametrize("stop_after", [2, 4])
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, stop_after):
    whole, records = trained(tmp_path / "whole")
    _, first = trained(tmp_path / "cut", stop_after=stop_after)
    again, second = trained(tmp_path / "cut", resume=True)
    assert [r.loss for r in records][-len(second) :] == [r.loss for r in second]
    assert len(second) == 6 - (stop_after - 1) and len(first) == stop_after  # the last step was not saved yet
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(array, again.state_dict()[name])


def test_it_learns_which_token_is_liked():
    rng = np.random.default_rng(0)
    groups = []
    for _ in range(40):
        good, bad = rng.integers(2, 6, 3).tolist(), rng.integers(2, 6, 3).tolist()
        good[int(rng.integers(3))] = 7
        groups.append(group([9], [[*good, 1], [*bad, 1]], [(0, 1)]))
    model = reward_model()
    source = PreferenceGroups(groups[:30], batch_size=10, rng=rng)
    losses = [r.loss for r in train(model, source, config=tiny_rl.train_config(60), loss_fn=preference_loss)]
    accuracy, error = pair_accuracy(compare_pairs(model, groups[30:]))
    assert losses[-1] < 0.2 < losses[0] and accuracy >= 0.9 and 0 <= error < 0.2


# ---- scale


def test_normalised_rewards_have_mean_zero_and_deviation_one_and_the_same_order():
    model, sequences = reward_model(), pair_batch(GROUPS).sequences
    before = score_sequences(model, sequences)
    mean, std = normalise(model, sequences)
    after = score_sequences(model, sequences, batch_size=2)
    assert after.mean() == pytest.approx(0, abs=1e-5) and after.std() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(after, (before - mean) / std, atol=1e-5)
    assert normalise(model, sequences) == pytest.approx((0, 1), abs=1e-4)  # twice changes nothing


def test_the_scale_stays_with_the_checkpoint(tmp_path):
    model, sequences = reward_model(), pair_batch(GROUPS).sequences
    normalise(model, sequences)
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(
        score_sequences(RewardModel.from_pretrained(tmp_path), sequences), score_sequences(model, sequences)
    )


def test_a_reward_model_that_says_the_same_of_everything_cannot_be_normalised():
    model = reward_model()
    model.head.weight.assign(0.0)
    with pytest.raises(ValueError, match="7 answers with rewards of mean 0.0 and deviation 0.0 cannot be normalised"):
        normalise(model, pair_batch(GROUPS).sequences)


def test_a_reward_model_of_another_tokenizer_is_refused(tmp_path):
    tokenizer = ByteTokenizer()
    policy = tiny_rl.make_policy(vocab_size=tokenizer.vocab_size)
    RewardModel(policy, rng=np.random.default_rng(0)).save_pretrained(tmp_path, tokenizer)
    assert isinstance(load_reward_model(tmp_path, policy_tokenizer=tokenizer), RewardModel)
    with pytest.raises(ValueError, match="tokenizer: the policy's has sha256"):
        load_reward_model(tmp_path, policy_tokenizer=ByteTokenizer(special_tokens=["<|other|>"]))


# ---- accuracy and calibration


def test_a_tie_counts_half():
    assert pair_accuracy(np.array([1.0, -1.0, 0.0, 0.0]))[0] == 0.5
    assert pair_accuracy(np.array([2.0, 1.0]))[0] == 1.0


def test_honest_probabilities_are_calibrated_and_boasting_ones_are_not():
    rng = np.random.default_rng(0)
    margins = 2 * rng.standard_normal(40_000)
    labelled = np.where(rng.random(len(margins)) < 1 / (1 + np.exp(-margins)), margins, -margins)  # chosen first
    honest = calibrate(labelled)
    assert honest.expected_error < 0.01 and honest.counts.sum() == len(margins)
    np.testing.assert_allclose(honest.confidence, honest.accuracy, atol=0.02)
    assert calibrate(4 * labelled).expected_error > 0.1


def test_empty_bins_are_nan_and_cost_nothing():
    table = calibrate(np.array([0.01, -0.01, 100.0]), n_bins=5)
    assert table.counts.tolist() == [2, 0, 0, 0, 1] and np.isnan(table.accuracy[1])
    assert table.accuracy[[0, 4]].tolist() == [0.5, 1.0] and table.expected_error == pytest.approx(2 / 3 * 0.0025, rel=0.01)
    with pytest.raises(ValueError, match="0 comparisons in 10 bins"):
        calibrate(np.array([]))
