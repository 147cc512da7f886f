"""Facts about the skeleton: what the first update looks like, that toy rewards are learned, what is refused, what is counted."""

import copy
import json

import numpy as np
import pytest
import tiny_rl

from tinyllm.models import GPT
from tinyllm.nn import Dropout, add_lora, lora_layers
from tinyllm.rlhf.grpo import GRPO, GRPOConfig
from tinyllm.rlhf.log_probs import WithoutAdapters
from tinyllm.rlhf.ppo import PPOConfig
from tinyllm.rlhf.reinforce import ReinforceConfig
from tinyllm.rlhf.rollout import RolloutConfig, Sample, check_prompts, check_scores, sample_rollout
from tinyllm.training import train
from tinyllm.training.checkpoint import join_arrays, split_arrays

every_kind = pytest.mark.parametrize("kind", tiny_rl.KINDS)


def gradient_norm(model):
    return np.sqrt(sum((w.grad.astype(np.float64) ** 2).sum() for w in model.parameters() if w.grad is not None))


# ---- the first update


@every_kind
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_at_the_first_update_the_policy_is_the_one_that_sampled(kind, temperature):
    """All answers in one minibatch: ratio exactly 1, nothing clipped, no KL."""
    changes = {"epochs": 1} if "ppo" in kind else {}
    model, trainer = tiny_rl.make(kind, temperature=temperature, minibatch_size=8, **changes)
    batch = trainer.next_batch()
    loss = trainer.loss(model, batch, n_counted=batch.n_counted)
    loss.backward()
    noted = trainer.measure()
    assert noted["ratio"] == pytest.approx(1, abs=1e-6) and noted["ratio_var"] < 1e-12
    assert noted["approx_kl"] == pytest.approx(0, abs=1e-6) and noted["kl"] == 0
    assert noted.get("clip_fraction", 0) == 0
    assert np.isfinite(loss.item()) and gradient_norm(model) > 1e-4


def test_in_float64_the_first_ratio_is_one_to_the_last_digits():
    model, trainer = tiny_rl.make("grpo", policy=tiny_rl.in_float64(tiny_rl.make_policy()))
    for _ in range(2):  # minibatches of four rows out of eight, in a random order and with fewer columns
        trainer.loss(model, trainer.next_batch(), n_counted=4)
        noted = trainer.measure()
        assert abs(noted["ratio"] - 1) < 1e-13 and noted["ratio_var"] < 1e-26


def test_the_ratio_is_exactly_one_where_rows_stand_as_they_were_scored():
    """The same rows in the same order and columns: the same kernels see the same numbers, so not a bit differs."""
    model, trainer = tiny_rl.make("grpo", minibatch_size=8)
    batch = trainer.next_batch()
    rollout = trainer.rollout
    same = type(batch)(rollout.sequences, {**trainer._arrays}, len(rollout.samples))
    trainer.measure()
    trainer.loss(model, same, n_counted=8)
    noted = trainer.measure()
    assert noted["ratio"] == 1 and noted["ratio_var"] == 0 and noted["approx_kl"] == 0 and noted["clip_fraction"] == 0


def test_the_first_loss_of_grpo_is_zero_and_its_gradient_is_not():
    model, trainer = tiny_rl.make("grpo", normaliser="sequence", minibatch_size=8, n_prompts=4)
    loss = trainer.loss(model, trainer.next_batch(), n_counted=8)
    loss.backward()
    assert abs(loss.item()) < 1e-6 and gradient_norm(model) > 1e-2


def test_grpos_first_gradient_is_that_of_reinforce_with_the_same_advantages():
    """At ratio 1, d(ratio A) = A d log π: clipping and ratios change nothing yet."""
    gradients = []
    for kind in ("grpo", "reinforce"):
        model, trainer = tiny_rl.make(kind, normaliser="token", minibatch_size=8)
        batch = trainer.next_batch()
        trainer._arrays["advantages"][:] = 0
        rng = np.random.default_rng(5)
        advantages = rng.standard_normal(batch.sequences.responses.shape).astype(np.float32) * batch.sequences.response_mask
        batch.arrays["advantages"] = advantages
        trainer.loss(model, batch, n_counted=8).backward()
        gradients.append([w.grad for w in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-6)


def test_a_policy_that_has_left_its_reference_pays_for_it():
    """The reference is another model: KL is positive, and PPO's rewards hold its price."""
    policy, other = tiny_rl.make_policy(0), tiny_rl.make_policy(9)
    model, trainer = tiny_rl.make("ppo", policy=policy, n_prompts=32, kl_coefficient=0.3)
    trainer.reference = other
    trainer.next_batch()
    noted, rollout = trainer.measure(), trainer.rollout
    kl = (rollout.log_probs - rollout.ref_log_probs).sum(axis=1)
    assert noted["kl"] == pytest.approx(kl.mean()) and noted["kl"] > 1
    assert noted["objective"] == pytest.approx((rollout.scores - 0.3 * kl).mean(), rel=1e-5)


def test_the_objective_is_told_before_rewards_are_whitened():
    for whiten in (False, True):
        _, trainer = tiny_rl.make("ppo", whiten_rewards=whiten)
        trainer.next_batch()
        noted = trainer.measure()
        assert noted["objective"] == pytest.approx(noted["score"])  # no KL yet


# ---- learning


@every_kind
def test_a_toy_reward_is_learned(kind):
    """A fifth of the tokens are 5 at first; the reward is their share."""
    changes = {"n_prompts": 8, "minibatch_size": 32, "group_size": 4}
    if "ppo" in kind:
        changes = {"n_prompts": 16, "minibatch_size": 16, "group_size": 2, "kl_coefficient": 0.01}
    _, _, records = tiny_rl.run(kind, max_steps=60, learning_rate=0.02, **changes)
    scores = [record.metrics["score"] for record in records if "score" in record.metrics]
    assert np.mean(scores[:2]) < 0.35 and np.mean(scores[-3:]) > 0.65, scores


def test_a_penalty_keeps_the_policy_near_its_reference():
    kls = []
    for price in (0.0, 1.0):
        changes = {"n_prompts": 8, "minibatch_size": 16, "kl_coefficient": price}
        _, _, records = tiny_rl.run("rloo", max_steps=30, learning_rate=0.02, **changes)
        kls.append(np.mean([record.metrics["kl"] for record in records[-5:]]))
    assert kls[0] > 3 and kls[1] < kls[0] / 3, kls


def test_a_lora_policy_is_its_own_reference():
    policy = add_lora(tiny_rl.make_policy(), rank=4, alpha=8.0, rng=np.random.default_rng(0))
    base = {name: array.copy() for name, array in policy.state_dict().items() if "lora" not in name}
    config = GRPOConfig(**{**tiny_rl.SIZES, "n_prompts": 8, "group_size": 4, "minibatch_size": 32, "kl_coefficient": 0.01})
    settings = {"stop_id": tiny_rl.STOP, "rng": np.random.default_rng(1), "reference": WithoutAdapters(policy)}
    trainer = GRPO(policy, tiny_rl.PROMPTS, tiny_rl.count_fives, config=config, **settings)
    train_config = tiny_rl.train_config(40, learning_rate=0.1)
    records = list(train(policy, trainer, config=train_config, loss_fn=trainer.loss, measure=trainer.measure))
    assert records[0].metrics["kl"] == 0 and records[-1].metrics["kl"] > 0.1
    first, last = (np.mean([record.metrics["score"] for record in part]) for part in (records[:5], records[-5:]))
    assert last > 1.3 * first, (first, last)  # of 160 answers each, whose standard error is a tenth of that
    assert all(layer.enabled for layer in lora_layers(policy).values())
    for name, array in policy.state_dict().items():
        if "lora" not in name:
            assert np.array_equal(array, base[name]), name


# ---- rollouts


def test_answers_to_one_prompt_stand_side_by_side_and_every_prompt_gets_its_turn():
    _, trainer = tiny_rl.make("grpo", n_prompts=3, group_size=3, minibatch_size=9)
    seen = []
    for _ in range(5):
        trainer.next_batch()
        groups = np.array([sample.prompt_index for sample in trainer.rollout.samples]).reshape(3, 3)
        assert (groups == groups[:, :1]).all()
        seen += groups[:, 0].tolist()
    assert sorted(seen) == sorted([*range(5)] * 3)  # fifteen draws of five prompts: each three times
    assert all(sorted(seen[i : i + 5]) == [0, 1, 2, 3, 4] for i in (0, 5, 10))
    for sample, row in zip(trainer.rollout.samples, range(9), strict=True):
        assert sample.prompt == tiny_rl.PROMPTS[sample.prompt_index]
        sequences = trainer.rollout.sequences
        assert sequences.tokens[row][sequences.attention_mask[row]].tolist() == sample.prompt + sample.response


def test_an_answer_ends_with_its_stop_token_or_is_not_finished():
    policy = tiny_rl.make_policy()
    config = RolloutConfig(max_new_tokens=5)
    indices = np.repeat(np.arange(5), 30)
    samples, _ = sample_rollout(policy, tiny_rl.PROMPTS, indices, config=config, stop_id=1, rng=np.random.default_rng(0))
    assert {sample.finished for sample in samples} == {True, False}
    for sample in samples:
        assert sample.finished == (sample.response[-1] == 1) and 1 not in sample.response[:-1]
        assert len(sample.response) == 5 or sample.finished


def test_the_temperature_of_sampling_is_that_of_scoring():
    """Answers drawn at 0.5: their mean log-probability at 0.5 is minus the entropy at 0.5, and at any other not."""
    policy = tiny_rl.make_policy(2)
    model, trainer = tiny_rl.make("grpo", policy=policy, n_prompts=100, group_size=8, temperature=0.5, minibatch_size=800)
    batch = trainer.next_batch()
    trainer.loss(model, batch, n_counted=800)
    entropy, mask = trainer.measure()["entropy"], batch.sequences.response_mask
    assert -batch.arrays["old_log_probs"][mask].mean() == pytest.approx(entropy, rel=0.03)


def test_missing_stop_score_replaces_the_reward_of_unfinished_answers():
    _, trainer = tiny_rl.make("grpo", missing_stop_score=-1.0, n_prompts=16, minibatch_size=32)
    trainer.next_batch()
    samples, scores = trainer.rollout.samples, trainer.rollout.scores
    finished = np.array([sample.finished for sample in samples])
    assert finished.any() and not finished.all()
    assert (scores[~finished] == -1).all()
    assert scores[finished].tolist() == np.array(tiny_rl.count_fives(samples))[finished].tolist()
    assert trainer.measure()["finished"] == pytest.approx(finished.mean())


@pytest.mark.parametrize("normaliser", ["sequence", "token", "constant"])
def test_masked_truncated_answers_are_out_of_the_loss_altogether(normaliser):
    """Also out of the KL penalty, and what counts is divided by what counts."""
    changes = {"mask_truncated": True, "kl_coefficient": 0.5, "normaliser": normaliser, "n_prompts": 8, "minibatch_size": 16}
    model, trainer = tiny_rl.make("grpo", **changes)
    trainer.reference = tiny_rl.make_policy(7)
    batch = trainer.next_batch()
    mask = batch.sequences.response_mask
    weights = trainer._arrays["weights"]
    finished = np.array([sample.finished for sample in trainer.rollout.samples])
    assert 0 < finished.sum() < 16 and not weights[~finished].any() and (weights[finished].sum(axis=1) > 0).all()
    if normaliser == "token":
        assert weights.sum() == pytest.approx(16, rel=1e-6)
    before = trainer.loss(model, batch, n_counted=16).item()
    truncated = batch.arrays["weights"].sum(axis=1) == 0
    batch.arrays["ref_log_probs"][truncated] -= 3.0
    batch.arrays["advantages"][truncated] += 3.0
    assert trainer.loss(model, batch, n_counted=16).item() == pytest.approx(before, rel=1e-6) and mask[truncated].any()


def test_groups_of_equals_are_counted():
    def same_within_a_group(samples):
        return [0.1 if sample.prompt_index < 3 else float(i) for i, sample in enumerate(samples)]

    _, trainer = tiny_rl.make("grpo", reward=same_within_a_group, n_prompts=5, group_size=3, minibatch_size=15)
    trainer.next_batch()
    assert trainer.measure()["frac_zero_std"] == pytest.approx(3 / 5)


def test_minibatches_hold_each_answer_once_an_epoch():
    _, trainer = tiny_rl.make("ppo", epochs=3, n_prompts=5, group_size=2, minibatch_size=4)
    texts, sizes = [], []
    for _ in range(9):
        batch = trainer.next_batch()
        sizes.append(batch.n_counted)
        texts += [batch.sequences.tokens[row][batch.sequences.attention_mask[row]].tolist() for row in range(batch.n_counted)]
        assert all(array.shape == batch.sequences.responses.shape for array in batch.arrays.values())
        assert batch.tokens is batch.sequences.tokens
    assert sizes == [4, 4, 2] * 3 and trainer.n_rollouts == 1
    wanted = [sample.prompt + sample.response for sample in trainer.rollout.samples]
    assert all(sorted(texts[i : i + 10]) == sorted(wanted) for i in (0, 10, 20))
    trainer.next_batch()
    assert trainer.n_rollouts == 2


def test_too_far_a_move_leaves_the_rest_of_a_rollout():
    def rollouts(stop_kl):
        _, trainer, records = tiny_rl.run("ppo", max_steps=8, learning_rate=0.05, epochs=4, minibatch_size=8, stop_kl=stop_kl)
        return trainer.n_rollouts, [record.metrics["approx_kl"] for record in records]

    assert rollouts(None)[0] == 2
    n_rollouts, moved = rollouts(1e-6)
    assert n_rollouts == 4 and moved[0] < 1e-6 < moved[1]  # two steps each: the second sees that the first has moved it
    assert rollouts(1e9)[0] == 2


def test_the_price_of_distance_adapts_once_a_rollout():
    model, trainer = tiny_rl.make("ppo", kl_coefficient=0.2, kl_target=6.0, kl_horizon=100)
    trainer.next_batch()
    assert trainer.measure()["kl_coefficient"] == 0.2  # what the rewards were made with
    assert trainer.controller.beta == pytest.approx(0.2 * (1 - 0.2 * 8 / 100))  # KL 0: the error is clipped at -0.2


@every_kind
def test_dropout_is_turned_off_everywhere(kind):
    model, trainer = tiny_rl.make(kind, policy=tiny_rl.make_policy(dropout=0.5))
    if kind == "ppo":
        from tinyllm.models.heads import ValueModel
        from tinyllm.rlhf.actor_critic import ActorCritic
        from tinyllm.rlhf.ppo import PPO

        model = ActorCritic(tiny_rl.make_policy(dropout=0.5), ValueModel(tiny_rl.make_policy(dropout=0.5)))
        settings = {"stop_id": 1, "rng": np.random.default_rng(0), "reference": tiny_rl.make_policy(dropout=0.5)}
        trainer = PPO(model, tiny_rl.PROMPTS, tiny_rl.count_fives, config=trainer.config, **settings)
    model.train()
    for part in (model, trainer.reference):
        drops = [module for _, module in part.named_modules() if isinstance(module, Dropout)]
        assert drops and not any(drop.active for drop in drops)
    batch = trainer.next_batch()
    assert trainer.loss(model, batch, n_counted=8).item() == trainer.loss(model, batch, n_counted=8).item()


def test_what_is_told_is_told_once():
    _, trainer = tiny_rl.make("grpo")
    trainer.next_batch()
    assert {"score", "score_std", "length", "finished", "kl", "rollout", "frac_zero_std"} <= trainer.measure().keys()
    assert trainer.measure() == {}


def test_metrics_reach_the_records_flat_and_finite():
    _, _, records = tiny_rl.run("ppo", max_steps=3)
    wanted = {"policy_loss", "value_loss", "approx_kl", "entropy", "ratio", "ratio_var", "clip_fraction"}
    assert all(wanted <= record.metrics.keys() for record in records)
    assert all(np.isfinite(value) for record in records for value in record.metrics.values())
    assert "explained_variance" in records[0].metrics and "explained_variance" not in records[1].metrics


# ---- what is refused


def test_a_reward_that_is_not_finite_names_its_answer():
    def broken(samples):
        return [float("nan") if i == 3 else 0.0 for i in range(len(samples))]

    for bad in (broken, lambda samples: [np.inf] * len(samples)):
        text = r"reward gave (nan|inf) for answer [03] \(prompt \d, tokens \[.*; expected a finite number"
        with pytest.raises(ValueError, match=text):
            tiny_rl.run("grpo", max_steps=1, reward=bad)


def test_a_reward_of_another_number_of_answers_is_refused():
    for wrong, shape in (([0.0], r"\(1,\)"), (np.zeros((8, 1)), r"\(8, 1\)"), (0.0, r"\(\)")):
        with pytest.raises(ValueError, match=f"reward gave shape {shape} for 8 answers; expected one number for each"):
            tiny_rl.run("grpo", max_steps=1, reward=lambda samples, wrong=wrong: wrong)
    scores = check_scores([1, 2.5], [Sample(0, [1], [2], True)] * 2)
    assert scores.dtype == np.float64 and scores.tolist() == [1, 2.5]


def test_a_failed_rollout_moves_no_weight():
    model, trainer = tiny_rl.make("rloo", reward=lambda samples: [np.nan] * len(samples))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(ValueError, match="reward gave nan"):
        list(train(model, trainer, config=tiny_rl.train_config(1), loss_fn=trainer.loss))
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


@pytest.mark.parametrize(
    ("prompts", "text"),
    [
        ([], "prompts is empty"),
        ([[2], []], "prompt 1 has no token"),
        ([[2], [3] * 11], "prompt 1 has 11 tokens, which leaves no room for an answer of max_new_tokens 6 in a context of 16"),
    ],
)
def test_prompts_that_cannot_be_answered_are_refused(prompts, text):
    with pytest.raises(ValueError, match=text):
        tiny_rl.make("grpo", prompts=prompts)
    check_prompts([[3] * 10], block_size=16, max_new_tokens=6)


def test_a_price_without_a_reference_is_refused():
    for kind in ("ppo", "grpo", "reinforce", "rloo"):
        with pytest.raises(ValueError, match="reference is None, but kl_coefficient 0.1 is the price of the distance to it"):
            tiny_rl.make(kind, reference=False, kl_coefficient=0.1)
        _, trainer = tiny_rl.make(kind, reference=False, kl_coefficient=0)
        trainer.next_batch()
        assert "kl" not in trainer.measure()


@pytest.mark.parametrize(
    ("config", "changes", "text"),
    [
        (RolloutConfig, {"n_prompts": 0}, "n_prompts must be a whole number of at least 1, got 0"),
        (RolloutConfig, {"minibatch_size": 2.5}, "minibatch_size must be a whole number"),
        (RolloutConfig, {"epochs": True}, "epochs must be a whole number"),
        (RolloutConfig, {"temperature": 0.0}, "temperature must be a number of at least 1e-05, got 0.0"),
        (RolloutConfig, {"temperature": float("nan")}, "temperature must be"),
        (RolloutConfig, {"temperature": "warm"}, "temperature must be a number of at least 1e-05, got 'warm'"),
        (RolloutConfig, {"missing_stop_score": float("nan")}, "missing_stop_score must be a number that is finite or None"),
        (RolloutConfig, {"normaliser": "tokens"}, "normaliser must be one of sequence, token, constant, got 'tokens'"),
        (PPOConfig, {"clip": -0.1}, "clip must be a number of at least 0"),
        (PPOConfig, {"lam": 1.1}, "lam must be a number from 0 to 1, got 1.1"),
        (PPOConfig, {"gamma": -0.1}, "gamma must be"),
        (PPOConfig, {"kl_target": 0}, "kl_target must be"),
        (PPOConfig, {"kl_coefficient": float("inf")}, "kl_coefficient must be"),
        (PPOConfig, {"kl_horizon": 0}, "kl_horizon must be"),
        (PPOConfig, {"stop_kl": -1.0}, "stop_kl must be a number of at least 0 or None"),
        (PPOConfig, {"kl_estimator": "k4"}, "kl_estimator must be one of k1, k2, k3, got 'k4'"),
        (GRPOConfig, {"group_size": 1}, "group_size must be a whole number of at least 2, got 1: an answer is compared"),
        (GRPOConfig, {"scale": "std"}, "scale must be one of group, batch, none, got 'std'"),
        (GRPOConfig, {"ratio": "word"}, "ratio must be one of token, sequence, got 'word'"),
        (GRPOConfig, {"clip_high": None}, "clip_high must be"),
        (ReinforceConfig, {"n_prompts": 4, "group_size": 2, "minibatch_size": 7}, "set epochs=1 and minibatch_size=8"),
        (ReinforceConfig, {"epochs": 2, "minibatch_size": 64}, "epochs is 2 .*: without a ratio only one step"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(config, changes, text):
    with pytest.raises(ValueError, match=text):
        config(**changes)


def test_a_stop_token_outside_the_vocabulary_is_refused():
    settings = {"config": GRPOConfig(max_new_tokens=4), "stop_id": 99, "rng": np.random.default_rng(0)}
    trainer = GRPO(tiny_rl.make_policy(), tiny_rl.PROMPTS, tiny_rl.count_fives, **settings)
    with pytest.raises(ValueError, match="stop_tokens has token id 99"):
        trainer.next_batch()


# ---- state


def through_json(state):
    """A state as a checkpoint gives it back; and what was written: its JSON, and the bytes of its arrays."""
    plain, arrays = split_arrays(state)
    text = json.dumps(plain, allow_nan=False, sort_keys=True)
    written = text, {name: (array.dtype.name, array.tobytes()) for name, array in arrays.items()}
    return join_arrays(json.loads(text), arrays), written


@every_kind
def test_state_goes_through_json_and_back_between_any_two_minibatches(kind):
    model, trainer = tiny_rl.make(kind, policy=GPT(tiny_rl.MODEL, rng=np.random.default_rng(0)))
    for _ in range(5):
        state, written = through_json(trainer.state())
        expected = [trainer.next_batch() for _ in range(3)]
        _, other = tiny_rl.make(kind, policy=GPT(tiny_rl.MODEL, rng=np.random.default_rng(0)))
        other.rng.random(5)
        assert other.next_batch().n_counted and through_json(other.state())[1] != written  # it has been somewhere else before
        other.restore(state)
        assert through_json(other.state())[1] == written
        for wanted in expected:
            got = other.next_batch()
            assert got.n_counted == wanted.n_counted and got.sequences.n_prompt == wanted.sequences.n_prompt
            assert np.array_equal(got.sequences.tokens, wanted.sequences.tokens)
            assert np.array_equal(got.sequences.attention_mask, wanted.sequences.attention_mask)
            assert got.arrays.keys() == wanted.arrays.keys()
            for name, array in wanted.arrays.items():
                assert got.arrays[name].dtype == array.dtype and got.arrays[name].tobytes() == array.tobytes(), name
        assert through_json(other.state())[1] == through_json(trainer.state())[1]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "reinforce"}, "state was taken with algorithm 'RLOO', but this source has 'Reinforce'"),
        ({"prompts": [[2], [3]]}, "prompts_sha256"),
        ({"temperature": 0.9}, "state was taken with config.temperature 1.0, but this source has 0.9"),
        ({"max_new_tokens": 5}, "config.max_new_tokens 6"),
    ],
)
def test_a_state_of_something_else_is_refused(change, text):
    _, trainer = tiny_rl.make("rloo")
    _, other = tiny_rl.make(**{"kind": "rloo", **change})
    with pytest.raises(ValueError, match=text):
        other.restore(trainer.state())


def test_prompts_may_be_arrays():
    _, lists = tiny_rl.make("grpo")
    _, arrays = tiny_rl.make("grpo", prompts=[np.array(prompt) for prompt in tiny_rl.PROMPTS])
    arrays.restore(lists.state())
    assert np.array_equal(arrays.next_batch().tokens, lists.next_batch().tokens)


def test_a_copied_trainer_draws_the_same():
    model, trainer = tiny_rl.make("grpo")
    twin = copy.deepcopy(trainer)
    assert np.array_equal(twin.next_batch().tokens, trainer.next_batch().tokens)
