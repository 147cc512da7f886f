"""Facts about advantages, each against its definition in plain loops, and against TRL."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.rlhf.advantages import (
    SCALES,
    explained_variance,
    group_advantages,
    leave_one_out_advantages,
    masked_mean,
    token_rewards,
    whiten,
)
from tinyllm.rlhf.gae import gae

TRL = np.load(Path(__file__).parents[1] / "fixtures" / "trl_rl.npz")
MASK = TRL["mask"]


@st.composite
def ragged(draw, n_arrays=2):
    """(mask (B, R), arrays (B, R)): rows of different lengths, at least one token each."""
    n_rows, n_columns = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    lengths = rng.integers(1, n_columns + 1, n_rows)
    return np.arange(n_columns) < lengths[:, None], *(rng.standard_normal((n_rows, n_columns)) for _ in range(n_arrays))


def spoilt(array, mask, value):
    return np.where(mask, array, value)


# ---- means and whitening


@given(ragged(1))
def test_a_masked_mean_is_the_mean_of_what_is_counted(case):
    mask, x = case
    counted = [x[index] for index in np.ndindex(x.shape) if mask[index]]
    assert masked_mean(spoilt(x, mask, np.nan), mask) == pytest.approx(sum(counted) / len(counted))


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="nothing to average"):
        masked_mean(np.ones((2, 2)), np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="whitening needs at least 1"):
        whiten(np.ones((2, 2)), np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="whitening needs at least 2 counted entries, got 1"):
        whiten(np.ones((1, 1)), np.ones((1, 1), bool), unbiased=True)


def test_whitening_is_that_of_trl():
    for name, shift in (("shifted", True), ("unshifted", False)):
        got = whiten(TRL["rewards"], MASK, shift_mean=shift, unbiased=True)
        np.testing.assert_allclose(got, TRL[f"whitened_{name}"], rtol=1e-6)  # n / (n - 1) is float32 there


def test_whitening_is_its_definition():
    counted = [float(x) for x, real in zip(TRL["rewards"].flat, MASK.flat, strict=True) if real]
    mean = sum(counted) / len(counted)
    for unbiased in (False, True):
        variance = sum((x - mean) ** 2 for x in counted) / (len(counted) - unbiased)
        for shift in (True, False):
            wanted = [(x - mean) / (variance + 1e-8) ** 0.5 + (0 if shift else mean) for x in counted]
            got = whiten(TRL["rewards"], MASK, shift_mean=shift, unbiased=unbiased)
            np.testing.assert_allclose(got[MASK], wanted, rtol=1e-10)


@given(ragged(1))
def test_whitened_entries_have_variance_one_and_padding_changes_nothing(case):
    mask, x = case
    if mask.sum() < 3:
        return
    shifted, unshifted = whiten(x, mask), whiten(x, mask, shift_mean=False)
    assert abs(shifted[mask].mean()) < 1e-9 and shifted[mask].var() == pytest.approx(1, rel=1e-5)
    assert unshifted[mask].mean() == pytest.approx(x[mask].mean())
    assert unshifted[mask].var() == pytest.approx(1, rel=1e-5)
    assert not shifted[~mask].any() and not unshifted[~mask].any()
    for garbage in (1e30, np.nan, np.inf):
        with np.errstate(invalid="ignore"):
            assert np.array_equal(whiten(spoilt(x, mask, garbage), mask), shifted)
    assert whiten(x.astype(np.float32), mask).dtype == np.float32


def test_whitening_equal_numbers_gives_zeros_and_not_nan():
    assert not whiten(np.full((2, 3), 7.0), np.ones((2, 3), bool)).any()


# ---- rewards of tokens


@given(ragged(1), st.floats(0, 2))
def test_token_rewards_are_the_price_of_distance_and_the_score_at_the_last_token(case, beta):
    mask, kl = case
    scores = np.random.default_rng(0).standard_normal(len(mask))
    rewards = token_rewards(scores, spoilt(kl, mask, np.nan), mask, beta=beta)
    for row in range(len(mask)):
        last = mask[row].sum() - 1
        for t in range(mask.shape[1]):
            wanted = (-beta * kl[row, t] if mask[row, t] else 0.0) + (scores[row] if t == last else 0.0)
            assert rewards[row, t] == pytest.approx(wanted, abs=1e-12)
    assert rewards.sum() == pytest.approx(scores.sum() - beta * kl[mask].sum(), abs=1e-9)


# ---- GAE


def by_definition(rewards, values, length, gamma, lam):
    """A_t = Σ_l (γλ)^l δ_{t+l}, term by term, for one answer."""
    values = [*values[:length], 0.0]
    deltas = [rewards[t] + gamma * values[t + 1] - values[t] for t in range(length)]
    return [sum((gamma * lam) ** (later - t) * deltas[later] for later in range(t, length)) for t in range(length)]


@given(ragged(2), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.sampled_from([0.9, 1.0]))
def test_gae_is_their_definition(case, lam, gamma):
    mask, rewards, values = case
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for row, length in enumerate(mask.sum(axis=1)):
        wanted = by_definition(rewards[row], values[row], length, gamma, lam)
        np.testing.assert_allclose(advantages[row, :length], wanted, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(returns[row, :length], wanted + values[row, :length], rtol=1e-10, atol=1e-12)
    assert not advantages[~mask].any() and not returns[~mask].any()


@given(ragged(2))
def test_what_stands_beyond_the_mask_never_reaches_an_advantage(case):
    mask, rewards, values = case
    clean = gae(rewards, values, mask)
    for garbage in (1e30, np.nan, np.inf):
        dirty = gae(spoilt(rewards, mask, garbage), spoilt(values, mask, garbage), mask)
        assert np.array_equal(dirty[0], clean[0]) and np.array_equal(dirty[1], clean[1])


def test_gae_is_those_of_trl():
    settings = {"gamma": float(TRL["gamma"]), "lam": float(TRL["lam"])}
    advantages, returns = gae(TRL["rewards"], TRL["values"], MASK, **settings)
    np.testing.assert_allclose(advantages, TRL["gae_advantages"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(returns, TRL["gae_returns"], rtol=1e-10, atol=1e-12)


@given(ragged(2))
def test_lambda_one_trusts_rewards_and_lambda_zero_the_next_value(case):
    mask, rewards, values = case
    _, returns = gae(rewards, values, mask, lam=1.0)
    rest = np.cumsum((rewards * mask)[:, ::-1], axis=1)[:, ::-1]  # reward still to come
    np.testing.assert_allclose(returns[mask], rest[mask], rtol=1e-9, atol=1e-9)
    advantages, _ = gae(rewards, values, mask, lam=0.0)
    after = np.pad(values * mask, ((0, 0), (0, 1)))[:, 1:]
    np.testing.assert_allclose(advantages[mask], (rewards + after - values)[mask], rtol=1e-10, atol=1e-12)


def test_perfect_values_leave_no_advantage():
    mask = np.arange(4) < np.array([[4], [2]])
    rewards = token_rewards(np.array([3.0, -1.0]), np.zeros((2, 4)), mask, beta=0.1)
    values = np.where(mask, [[3.0], [-1.0]], 0.0)
    advantages, returns = gae(rewards, values, mask)
    assert not advantages.any() and explained_variance(values, returns, mask) == 1


def test_float32_stays_float32():
    arrays = [np.ones((2, 3), np.float32)] * 2
    assert {a.dtype for a in gae(*arrays, np.ones((2, 3), bool))} == {np.dtype(np.float32)}
    assert token_rewards(np.ones(2), arrays[0], np.ones((2, 3), bool), beta=0.1).dtype == np.float32


def test_explained_variance_of_the_mean_is_zero_and_of_the_truth_one():
    mask = np.array([[True, True, True, False]])
    returns = np.array([[1.0, 2.0, 4.0, 99.0]])
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(np.full((1, 4), returns[mask].mean()), returns, mask) == pytest.approx(0)
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3)
    assert explained_variance(returns, np.ones((1, 4)), mask) == 0


# ---- one number an answer


@pytest.mark.parametrize("scale", SCALES)
def test_group_advantages_are_those_of_trl(scale):
    got = group_advantages(TRL["scores"], group_size=4, scale=scale)
    np.testing.assert_allclose(got, TRL[f"group_advantages_{scale}"], rtol=1e-6)  # n / (n - 1) is float32 there


@given(st.tuples(st.integers(1, 4), st.integers(2, 6), st.integers(0, 2**31)))
def test_group_advantages_are_their_definition(case):
    scores, size = scores_of(case)
    batch_mean = sum(scores) / len(scores)
    batch_std = (sum((x - batch_mean) ** 2 for x in scores) / (len(scores) - 1)) ** 0.5
    for i, score in enumerate(scores):
        group = scores[i // size * size : i // size * size + size]
        mean = sum(group) / size
        std = (sum((x - mean) ** 2 for x in group) / (size - 1)) ** 0.5
        for scale, divisor in (("group", std + 1e-4), ("batch", batch_std + 1e-4), ("none", 1.0)):
            got = group_advantages(scores, group_size=size, scale=scale)[i]
            assert got == pytest.approx((score - mean) / divisor, rel=1e-10, abs=1e-12)


def test_leave_one_out_advantages_are_those_of_trl():
    np.testing.assert_allclose(leave_one_out_advantages(TRL["scores"], group_size=4), TRL["rloo_advantages"], rtol=1e-10)


GROUPS = st.tuples(st.integers(1, 4), st.integers(2, 6), st.integers(0, 2**31))


def scores_of(case):
    n_groups, group_size, seed = case
    return np.random.default_rng(seed).standard_normal(n_groups * group_size), group_size


@given(GROUPS)
def test_leave_one_out_is_each_against_the_mean_of_the_others(case):
    scores, size = scores_of(case)
    got = leave_one_out_advantages(scores, group_size=size)
    for i, score in enumerate(scores):
        first = i // size * size
        others = [scores[j] for j in range(first, first + size) if j != i]
        assert got[i] == pytest.approx(score - np.mean(others), abs=1e-10)
    centred = group_advantages(scores, group_size=size, scale="none")
    np.testing.assert_allclose(got, centred * size / (size - 1), atol=1e-10)  # the two differ by a factor alone


@given(GROUPS, st.sampled_from(SCALES))
def test_advantages_of_a_group_add_up_to_nothing(case, scale):
    scores, size = scores_of(case)
    groups = group_advantages(scores, group_size=size, scale=scale).reshape(-1, size)
    np.testing.assert_allclose(groups.sum(axis=1), 0, atol=1e-9)
    assert (np.argmax(groups, axis=1) == np.argmax(scores.reshape(-1, size), axis=1)).all()


@given(GROUPS)
def test_dividing_by_the_groups_deviation_forgets_its_scale(case):
    scores, size = scores_of(case)
    plain, loud = (group_advantages(scores * factor, group_size=size, eps=0.0) for factor in (1.0, 50.0))
    np.testing.assert_allclose(plain, loud, rtol=1e-7)


def test_groups_of_equals_teach_nothing():
    scores = np.array([0.1, 0.1, 0.1, 1.0, 0.0, 0.5])
    for scale in SCALES:
        advantages = group_advantages(scores, group_size=3, scale=scale)
        assert np.abs(advantages[:3]).max() < 1e-10 and np.abs(advantages[3:]).max() > 0.1
    assert np.abs(leave_one_out_advantages(scores, group_size=3)[:3]).max() < 1e-10
    assert not group_advantages(np.ones(6), group_size=3, scale="batch").any()


@pytest.mark.parametrize(
    ("scores", "settings", "text"),
    [
        (np.ones(6), {"group_size": 4}, r"scores \(6,\) cannot be cut into groups of group_size 4"),
        (np.ones((2, 3)), {"group_size": 3}, r"scores \(2, 3\) cannot be cut"),
        (np.ones(3), {"group_size": 1}, "group_size is 1; expected at least 2"),
        (np.ones(4), {"group_size": 2, "scale": "std"}, "scale is 'std'; expected one of group, batch, none"),
    ],
)
def test_what_cannot_be_grouped_is_refused(scores, settings, text):
    with pytest.raises(ValueError, match=text):
        group_advantages(scores, **settings)
