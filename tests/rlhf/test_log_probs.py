"""Facts about log-probabilities of answers."""

import copy

import numpy as np
import pytest
import tiny_rl

from tinyllm import kernels, no_grad, ops
from tinyllm.nn import add_lora, lora_layers
from tinyllm.rlhf.log_probs import (
    WithoutAdapters,
    frozen_log_probs,
    response_hidden,
    response_log_probs,
    response_logits,
    sequence_log_probs,
)
from tinyllm.rlhf.sequences import Sequences, pad_sequences


@pytest.fixture
def policy():
    return tiny_rl.in_float64(tiny_rl.make_policy())


def one_by_one(policy, prompt, response, temperature=1.0):
    """The definition: each token's log-probability after all before it, one prefix at a time, without any padding."""
    result = []
    for t, token in enumerate(response):
        with no_grad():
            logits = policy(np.array([prompt + response[:t]])).data[0, -1] / temperature
        result.append(logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
    return np.array(result)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_padded_batches_give_what_a_loop_over_prefixes_gives(policy, temperature):
    sequences, prompts, responses = tiny_rl.make_sequences()
    with no_grad():
        log_probs = response_log_probs(policy, sequences, temperature=temperature).data
    assert log_probs.shape == sequences.responses.shape
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        wanted = one_by_one(policy, prompt, response, temperature)
        np.testing.assert_allclose(log_probs[row][: len(response)], wanted, rtol=1e-10, atol=1e-12)


def test_an_answer_is_as_likely_as_the_product_of_its_tokens(policy):
    sequences, prompts, responses = tiny_rl.make_sequences(1)
    wanted = [one_by_one(policy, p, r).sum() for p, r in zip(prompts, responses, strict=True)]
    np.testing.assert_allclose(sequence_log_probs(policy, sequences).data, wanted, rtol=1e-10)


def test_probabilities_of_all_answers_of_one_token_add_up_to_one(policy):
    everything = pad_sequences([[2, 3]] * 11, [[token] for token in range(11)])
    assert abs(np.exp(sequence_log_probs(policy, everything).data).sum() - 1) < 1e-12


def test_what_stands_at_padding_never_matters(policy):
    sequences, _, _ = tiny_rl.make_sequences(2)
    garbage = np.random.default_rng(0).integers(0, 11, sequences.tokens.shape)
    other = Sequences(np.where(sequences.attention_mask, sequences.tokens, garbage), sequences.attention_mask, sequences.n_prompt)
    assert not np.array_equal(other.tokens, sequences.tokens)
    mask = sequences.response_mask
    first, second = (response_log_probs(policy, s).data[mask] for s in (sequences, other))
    assert np.array_equal(first, second)


def test_more_padding_changes_nothing_but_the_last_digits(policy):
    sequences, _, _ = tiny_rl.make_sequences(3)
    wide_tokens, wide_mask = (np.pad(array, ((0, 0), (3, 2))) for array in (sequences.tokens, sequences.attention_mask))
    wide = Sequences(wide_tokens, wide_mask, sequences.n_prompt + 3)
    R = sequences.responses.shape[1]
    mask = sequences.response_mask
    narrow_log_probs, wide_log_probs = (response_log_probs(policy, s).data[:, :R][mask] for s in (sequences, wide))
    np.testing.assert_allclose(wide_log_probs, narrow_log_probs, rtol=1e-11, atol=1e-13)


def test_padding_gets_no_gradient(policy):
    """Whatever token stands there, the gradients of all weights are the same."""
    sequences = pad_sequences([[2], [3, 4]], [[5, 6], [7]])
    elsewhere = Sequences(np.where(sequences.attention_mask, sequences.tokens, 9), sequences.attention_mask, sequences.n_prompt)
    gradients = []
    for one in (sequences, elsewhere):
        policy.zero_grad()
        ops.sum(sequence_log_probs(policy, one)).backward()
        gradients.append({name: weight.grad.copy() for name, weight in policy.named_parameters()})
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_temperature_divides_the_logits(policy):
    sequences, _, _ = tiny_rl.make_sequences(4)
    plain, warm = (response_logits(policy, sequences, temperature=t).data for t in (1.0, 2.0))
    np.testing.assert_allclose(warm, plain / 2, rtol=1e-12)
    assert response_hidden(policy, sequences).shape == (*sequences.responses.shape, 8)


def test_frozen_log_probs_are_the_same_in_pieces_and_zero_at_padding(policy):
    sequences, _, _ = tiny_rl.make_sequences(5, n=7)
    whole, pieces = (frozen_log_probs(policy, sequences, temperature=0.8, batch_size=size) for size in (64, 3))
    mask = sequences.response_mask
    np.testing.assert_allclose(pieces, whole, rtol=1e-11, atol=1e-13)
    assert not whole[~mask].any() and (whole[mask] < 0).all()
    np.testing.assert_allclose(whole[mask], response_log_probs(policy, sequences, temperature=0.8).data[mask], rtol=1e-11)
    assert all(weight.grad is None for weight in policy.parameters())


@pytest.mark.skipif(kernels.backend() == "numpy", reason="BLAS sums a row in an order that depends on the other rows")
@pytest.mark.parametrize("lora", [False, True])
def test_an_answer_is_as_likely_to_the_bit_whatever_else_is_in_the_minibatch(lora):
    """So the ratio of PPO's first update is 1 and not nearly 1. (32 tokens or less are multiplied another way.)"""
    policy, (sequences, _, _) = tiny_rl.make_policy(), tiny_rl.make_sequences(8, n=60)
    if lora:
        add_lora(policy, rank=2, alpha=4.0, rng=np.random.default_rng(0))
        for layer in lora_layers(policy).values():
            layer.lora_b.data = np.random.default_rng(1).standard_normal(layer.lora_b.shape).astype("f")
    whole = frozen_log_probs(policy, sequences)
    for rows in np.split(np.random.default_rng(2).permutation(60), 3):
        part = sequences.select(rows)
        mask = part.response_mask
        log_probs = response_log_probs(policy, part).data
        assert np.array_equal(log_probs[mask], whole[rows, : mask.shape[1]][mask])


def test_without_its_adapters_a_policy_is_what_it_was(policy):
    sequences, _, _ = tiny_rl.make_sequences(6)
    before = frozen_log_probs(copy.deepcopy(policy), sequences)
    add_lora(policy, rank=2, alpha=4.0, targets=("qkv", "up"), rng=np.random.default_rng(0))
    for layer in lora_layers(policy).values():
        layer.lora_b.data = np.random.default_rng(1).standard_normal(layer.lora_b.shape) * 0.3
    reference = WithoutAdapters(policy)
    adapted = frozen_log_probs(policy, sequences)
    assert np.array_equal(frozen_log_probs(reference, sequences), before)
    assert np.abs(adapted - before).max() > 1e-3
    assert np.array_equal(frozen_log_probs(policy, sequences), adapted)  # and they are on again
    assert reference.config is policy.config
