"""Facts about the losses: against TRL, against plain loops, and their gradients against slopes through a whole model."""

from pathlib import Path

import numpy as np
import pytest
import tiny_rl

from tinyllm import Tensor, no_grad, ops
from tinyllm.autograd import gradcheck
from tinyllm.autograd.gradcheck import numerical_gradient
from tinyllm.rlhf.grpo import sequence_ratio_log_probs
from tinyllm.rlhf.kl import kl_estimate
from tinyllm.rlhf.policy_gradient import Experience, clip_fraction, policy_statistics, token_weights, weighted_loss
from tinyllm.rlhf.ppo import clipped_policy_loss, clipped_value_loss

TRL = np.load(Path(__file__).parents[1] / "fixtures" / "trl_rl.npz")
MASK, B = TRL["mask"], len(TRL["mask"])
LOW, HIGH, BETA, MAX_NEW = (float(TRL[name]) for name in ("clip_low", "clip_high", "beta", "max_new_tokens"))
GRPO_ADVANTAGES = np.repeat(TRL["group_advantages_group"][:, None], MASK.shape[1], axis=1)


def weighted(token_losses, normaliser):
    """The scalar that the trainers make of token losses, with weights in float64."""
    lengths = {"sequence": MASK.sum(axis=1, keepdims=True), "token": MASK.sum() / B, "constant": MAX_NEW}[normaliser]
    np.testing.assert_allclose(token_weights(MASK, normaliser, int(MAX_NEW)), MASK / lengths, rtol=1e-6)
    return weighted_loss(token_losses, Experience(None, {"weights": MASK / lengths}, B), B)


def value_and_gradient(loss_of, array):
    x = Tensor(array.copy(), requires_grad=True)
    loss = loss_of(x)
    loss.backward()
    return loss.item(), x.grad


def clipped_by_loops(log_probs, old, advantages, low, high):
    """-min(ratio A, clip(ratio) A), number by number."""
    losses = np.zeros_like(log_probs)
    for index in np.ndindex(losses.shape):
        ratio = np.exp(log_probs[index] - old[index])
        losses[index] = -min(ratio * advantages[index], min(max(ratio, 1 - low), 1 + high) * advantages[index])
    return losses


def test_the_policy_loss_is_its_definition():
    args = TRL["log_probs"], TRL["old_log_probs"], TRL["advantages"]
    for low, high in ((0.2, None), (0.1, 0.4)):
        got = clipped_policy_loss(Tensor(args[0]), *args[1:], low=low, high=high).data
        np.testing.assert_allclose(got, clipped_by_loops(*args, low, high or low), rtol=1e-12, atol=1e-14)


def test_ppos_losses_and_gradients_are_those_of_trl():
    def policy(x):
        return weighted(clipped_policy_loss(x, TRL["old_log_probs"], TRL["advantages"], low=LOW), "token")

    def value(x):
        return weighted(clipped_value_loss(x, TRL["values"], TRL["returns"], clip=0.2), "token")

    loss, gradient = value_and_gradient(policy, TRL["log_probs"])
    assert loss == pytest.approx(float(TRL["ppo_policy_loss"]), abs=1e-12)
    np.testing.assert_allclose(gradient, TRL["ppo_dlog_probs"], rtol=1e-10, atol=1e-13)
    loss, gradient = value_and_gradient(value, TRL["new_values"])
    assert loss == pytest.approx(float(TRL["ppo_value_loss"]), rel=1e-12)
    np.testing.assert_allclose(0.1 * gradient, TRL["ppo_dvalues"], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "normaliser"),
    [
        ("grpo_token_nokl", "sequence"),
        ("grpo_token_kl", "sequence"),
        ("grpo_sequence_nokl", "sequence"),
        ("bnpo_token_nokl", "token"),
        ("dapo_token_kl", "token"),
        ("dr_grpo_token_nokl", "constant"),
    ],
)
def test_grpos_variants_and_gradients_are_those_of_trl(name, normaliser):
    def loss_of(x):
        compared = sequence_ratio_log_probs(x, TRL["old_log_probs"], MASK) if "sequence" in name else x
        losses = clipped_policy_loss(compared, TRL["old_log_probs"], GRPO_ADVANTAGES, low=LOW, high=HIGH)
        if name.endswith("_kl"):
            losses = losses + BETA * kl_estimate(x, TRL["ref_log_probs"], estimator="k3")
        return weighted(losses, normaliser)

    loss, gradient = value_and_gradient(loss_of, TRL["log_probs"])
    assert loss == pytest.approx(float(TRL[f"loss_{name}"]), rel=1e-10)
    np.testing.assert_allclose(gradient, TRL[f"dlog_probs_{name}"], rtol=1e-9, atol=1e-13)


def test_the_value_loss_takes_the_worse_of_two():
    values, old, returns = np.array([[0.5, 1.0, -1.0]]), np.zeros((1, 3)), np.array([[1.0, 0.1, -1.0]])
    clipped = np.clip(values, -0.2, 0.2)
    got = clipped_value_loss(Tensor(values), old, returns, clip=0.2).data
    np.testing.assert_allclose(got, 0.5 * np.maximum((values - returns) ** 2, (clipped - returns) ** 2))
    assert got[0, 0] == 0.5 * 0.8**2  # moved further than allowed towards its return: the clipped one counts


def test_nothing_is_gained_beyond_the_clip():
    """Where the ratio has left its range in the advantage's direction the gradient is 0; in the other direction it is not."""
    log_ratio = np.log(np.array([[1.5, 1.5, 0.5, 0.5, 1.1]]))
    advantages = np.array([[1.0, -1.0, -1.0, 1.0, 1.0]])
    losses = lambda x: ops.sum(clipped_policy_loss(x, np.zeros((1, 5)), advantages, low=0.2, high=0.28))  # noqa: E731
    _, gradient = value_and_gradient(losses, log_ratio)
    assert (gradient == 0).tolist() == [[True, False, True, False, False]]
    np.testing.assert_allclose(gradient[0, [1, 3, 4]], [1.5, -0.5, -1.1])


def test_clip_higher_leaves_room_above_only():
    log_ratio, advantages = Tensor(np.log(np.array([[1.25, 0.75]]))), np.array([[1.0, -1.0]])
    even, higher = (clipped_policy_loss(log_ratio, 0 * advantages, advantages, low=0.2, high=h).data for h in (0.2, 0.28))
    assert even[0, 0] == pytest.approx(-1.2) and higher[0, 0] == pytest.approx(-1.25)
    assert even[0, 1] == higher[0, 1] == pytest.approx(0.8)


def test_a_sequence_ratio_is_the_geometric_mean_of_its_tokens_ratios():
    new, old = TRL["log_probs"], TRL["old_log_probs"]
    got = np.exp(sequence_ratio_log_probs(Tensor(new), old, MASK).data - old)
    for row, counted in enumerate(MASK):
        ratios = np.exp(new[row] - old[row])[counted]
        np.testing.assert_allclose(got[row][counted], np.prod(ratios) ** (1 / len(ratios)), rtol=1e-12)


def test_losses_have_the_gradients_of_their_slopes():
    new, old, advantages, values = (TRL[name][:3, :4] for name in ("log_probs", "old_log_probs", "advantages", "values"))
    gradcheck(lambda x: clipped_policy_loss(x, old, advantages, low=LOW, high=HIGH), new)
    gradcheck(lambda x: clipped_value_loss(x, values, advantages, clip=0.2), TRL["new_values"][:3, :4])
    gradcheck(lambda x: sequence_ratio_log_probs(x, old, MASK[:3, :4]), new)


# ---- through a model, as the trainers compute them


def experience(kind, **changes):
    """(model in float64, trainer, a minibatch whose old log-probs and values are a little off, so that ratios are not 1)."""
    model, trainer = tiny_rl.make(kind, policy=tiny_rl.in_float64(tiny_rl.make_policy()), minibatch_size=8, **changes)
    tiny_rl.in_float64(model)
    batch = trainer.next_batch()
    rng = np.random.default_rng(3)
    arrays = {name: array.astype(np.float64) for name, array in batch.arrays.items()}
    for name in ("old_log_probs", "ref_log_probs", "values"):
        if name in arrays:
            arrays[name] = arrays[name] + 0.15 * rng.standard_normal(arrays[name].shape)
    return model, trainer, Experience(batch.sequences, arrays, batch.n_counted)


CASES = [
    ("ppo", {"entropy_coefficient": 0.1, "temperature": 0.8}),
    ("shared ppo", {"entropy_coefficient": 0.1}),
    ("grpo", {"kl_coefficient": 0.3, "normaliser": "sequence", "temperature": 1.3}),
    ("grpo", {"ratio": "sequence", "normaliser": "constant"}),
    ("reinforce", {}),
    ("rloo", {"kl_coefficient": 0.1}),
]


@pytest.mark.parametrize(("kind", "changes"), CASES)
def test_every_trainers_loss_has_the_gradient_of_its_slope(kind, changes):
    model, trainer, batch = experience(kind, **changes)
    trainer.loss(model, batch, n_counted=7).backward()
    rng = np.random.default_rng(0)
    checked = 0
    for name, weight in model.named_parameters():
        flat = weight.data.reshape(-1)  # a view: nudged in place
        for index in rng.choice(flat.size, min(3, flat.size), replace=False):

            def value():
                with no_grad():
                    return trainer.loss(model, batch, n_counted=7).item()

            slope = numerical_gradient(value, flat[index : index + 1], step=1e-6)[0]
            gradient = 0.0 if weight.grad is None else weight.grad.reshape(-1)[index]
            assert gradient == pytest.approx(slope, rel=1e-5, abs=1e-8), name
            checked += gradient != 0
    assert checked > 20


@pytest.mark.parametrize(("kind", "changes"), CASES)
def test_what_stands_at_padding_changes_neither_loss_nor_gradient(kind, changes):
    model, trainer, batch = experience(kind, **changes)
    mask, results = batch.sequences.response_mask, []
    assert not mask.all()
    for garbage in (0.0, -200.0):  # e^200 is more than float32 holds
        touched = {name: array for name, array in batch.arrays.items() if name not in ("old_log_probs", "weights")}
        spoilt = {name: np.where(mask, array, garbage) for name, array in touched.items()}
        model.zero_grad()
        loss = trainer.loss(model, Experience(batch.sequences, batch.arrays | spoilt, batch.n_counted), n_counted=7)
        loss.backward()
        results.append((loss.item(), [w.grad.copy() for w in model.parameters() if w.grad is not None]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-13)


def test_a_cold_policy_that_is_sure_of_itself_overflows_nothing():
    """At temperature 0.02 padding tokens have log-probabilities below -100: e^100 · 0 would be NaN in float32."""
    model, trainer = tiny_rl.make("grpo", temperature=0.02, kl_coefficient=0.1, minibatch_size=8)
    with np.errstate(over="raise", invalid="raise"):
        loss = trainer.loss(model, trainer.next_batch(), n_counted=8)
    loss.backward()
    assert np.isfinite(loss.item()) and all(np.isfinite(w.grad).all() for w in model.parameters())


def test_weights_of_every_normaliser_add_up_to_the_batch():
    for normaliser, total in (("sequence", B), ("token", B), ("constant", MASK.sum() / MAX_NEW)):
        weights = token_weights(MASK, normaliser, int(MAX_NEW))
        assert weights.sum() == pytest.approx(total, rel=1e-6) and not weights[~MASK].any()
    per_answer = token_weights(MASK, "sequence", 12).sum(axis=1)
    np.testing.assert_allclose(per_answer, 1, rtol=1e-6)
    some = MASK & (np.arange(B) > 2)[:, None]  # answers left out, as by mask_truncated
    for normaliser in ("sequence", "token", "constant"):
        weights = token_weights(some, normaliser, 12)
        assert np.isfinite(weights).all() and not weights[:3].any()


def test_micro_batches_add_up_to_the_loss_of_the_whole():
    for kind in tiny_rl.KINDS:
        model, trainer, batch = experience(kind)
        whole = trainer.loss(model, batch, n_counted=8).item()
        parts = [Experience(batch.sequences.select(rows), {}, len(rows)) for rows in (np.arange(3), np.arange(3, 8))]
        total = 0.0
        for part, rows in zip(parts, (slice(0, 3), slice(3, 8)), strict=True):
            arrays = {n: a[rows, : part.sequences.responses.shape[1]] for n, a in batch.arrays.items()}
            total += trainer.loss(model, Experience(part.sequences, arrays, part.n_counted), n_counted=8).item()
        assert total == pytest.approx(whole, rel=1e-6), kind


def test_statistics_are_their_definitions():
    model, trainer, batch = experience("grpo", temperature=0.9)
    with no_grad():
        logits = model(batch.sequences.tokens[:, :-1], attention_mask=batch.sequences.attention_mask[:, :-1])
    logits = logits.data[:, batch.sequences.n_prompt - 1 :] / 0.9
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    mask = batch.sequences.response_mask
    log_probs = np.log(np.take_along_axis(p, batch.sequences.responses[..., None], axis=-1))[..., 0]
    ratio = np.exp(log_probs - batch.arrays["old_log_probs"])[mask]
    got = policy_statistics(Tensor(logits), Tensor(log_probs), batch)
    assert got["entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=-1)[mask].mean())
    assert got["ratio"] == pytest.approx(ratio.mean()) and got["ratio_var"] == pytest.approx(ratio.var())
    assert got["approx_kl"] == pytest.approx((ratio - 1 - np.log(ratio)).mean())
    fraction = clip_fraction(Tensor(log_probs), batch, low=0.1, high=0.2)
    assert 0 < fraction == pytest.approx(((ratio < 0.9) | (ratio > 1.2)).mean())
