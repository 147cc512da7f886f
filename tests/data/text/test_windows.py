import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.batches import Batch
from tinyllm.data.text.mixture import mix
from tinyllm.data.text.windows import EvaluationWindows, MixtureWindows, RandomWindows


def _random(tokens=None, seed=0, bit_generator=np.random.PCG64, **sizes):
    tokens = np.arange(100, dtype=np.uint16) if tokens is None else tokens
    sizes = {"batch_size": 3, "block_size": 8} | sizes
    return RandomWindows(tokens, rng=np.random.Generator(bit_generator(seed)), **sizes)


def _mixture(seed=0, weights=(1, 3), low=0):
    tokens = {"low": np.arange(low, low + 50, dtype=np.uint16), "high": np.arange(1000, 1200, dtype=np.uint16)}
    mixture = mix(tokens, {"low": 50, "high": 200}, dict(zip(tokens, weights, strict=True)))
    return MixtureWindows(mixture, batch_size=4, block_size=8, rng=np.random.default_rng(seed))


def test_targets_are_the_tokens_one_step_ahead():
    batch = _random().next_batch()
    assert batch.tokens.shape == batch.targets.shape == (3, 8)
    assert batch.tokens.dtype == batch.targets.dtype == np.int64
    np.testing.assert_array_equal(batch.targets, batch.tokens + 1)  # the tokens count upwards
    assert batch.loss_mask is None and batch.n_counted == 24


def test_every_place_is_drawn_the_first_and_the_last_too():
    source = _random(np.arange(12))
    starts = {int(row[0]) for _ in range(200) for row in source.next_batch().tokens}
    assert starts == {0, 1, 2, 3}


def test_a_corpus_of_exactly_one_window_is_enough_and_one_less_is_not():
    np.testing.assert_array_equal(_random(np.arange(9)).next_batch().tokens, np.tile(np.arange(8), (3, 1)))
    for source in (_random, lambda tokens: EvaluationWindows(tokens, batch_size=1, block_size=8)):
        with pytest.raises(ValueError, match="tokens has 8 ids, but a window of block_size 8 needs 9"):
            source(np.arange(8))


GENERATORS = [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64]


@pytest.mark.parametrize("bit_generator", GENERATORS)
def test_a_restored_source_goes_on_as_if_it_had_never_stopped(bit_generator):
    source = _random(bit_generator=bit_generator)
    source.next_batch()
    state = json.loads(json.dumps(source.state()))
    expected = [source.next_batch() for _ in range(3)]
    other = _random(seed=99, bit_generator=bit_generator)
    other.next_batch()
    other.restore(state)
    for batch in expected:
        np.testing.assert_array_equal(other.next_batch().tokens, batch.tokens)


@given(before=st.integers(0, 5), seed=st.integers(0, 100))
def test_a_restored_mixture_goes_on_as_if_it_had_never_stopped(before, seed):
    source = _mixture()
    for _ in range(before):
        source.next_batch()
    state = json.loads(json.dumps(source.state()))
    other = _mixture(seed)
    other.next_batch()
    other.restore(state)
    for _ in range(4):
        np.testing.assert_array_equal(other.next_batch().tokens, source.next_batch().tokens)
    assert other.state() == source.state()


def test_taking_a_state_changes_nothing():
    one, two = _mixture(), _mixture()
    one.state()
    np.testing.assert_array_equal(one.next_batch().tokens, two.next_batch().tokens)


def test_a_state_of_other_data_or_settings_is_refused():
    state = _random().state()
    with pytest.raises(ValueError, match="state was taken with tokens_crc32 .*resume with the same data"):
        _random(np.arange(1, 101, dtype=np.uint16)).restore(state)
    with pytest.raises(ValueError, match="state was taken with block_size 8, but this source has 4"):
        _random(block_size=4).restore(state)
    with pytest.raises(ValueError, match="state was taken with proportions"):
        _mixture(weights=(1, 1)).restore(_mixture().state())
    with pytest.raises(ValueError, match="state was taken with tokens_crc32"):
        _mixture(low=1).restore(_mixture().state())


def test_rows_come_from_the_sources_by_weight_and_are_counted():
    source = _mixture()
    rows = np.concatenate([source.next_batch().tokens for _ in range(500)])
    n_low = int((rows[:, 0] < 1000).sum())
    assert abs(n_low / 2000 - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)
    assert source.rows_drawn == {"low": n_low, "high": 2000 - n_low}
    assert ((rows < 1000).all(axis=1) | (rows >= 1000).all(axis=1)).all()  # no window crosses from one source to another


def test_a_source_too_small_for_a_window_is_named():
    mixture = mix({"tiny": np.arange(3), "big": np.arange(30)}, {"tiny": 3, "big": 30})
    with pytest.raises(ValueError, match="source 'tiny': tokens has 3 ids, but a window of block_size 8 needs 9"):
        MixtureWindows(mixture, batch_size=2, block_size=8, rng=np.random.default_rng(0))


@given(n=st.integers(2, 300), block=st.integers(1, 20), batch=st.integers(1, 7), limit=st.none() | st.integers(1, 20))
def test_evaluation_windows_never_count_a_target_twice(n, block, batch, limit):
    if n < block + 1:
        return
    windows = EvaluationWindows(np.arange(n), batch_size=batch, block_size=block, max_windows=limit)
    batches = list(windows)
    targets = np.concatenate([b.targets.ravel() for b in batches])
    assert len(set(targets.tolist())) == len(targets) and targets.max() < n
    n_windows = min(limit or n, (n - 1) // block)
    assert len(targets) == n_windows * block and len(batches) == len(windows)
    for one, two in zip(batches, windows, strict=True):  # a second walk is the same
        np.testing.assert_array_equal(one.tokens, two.tokens)


def test_a_few_evaluation_windows_are_spread_evenly():
    windows = EvaluationWindows(np.arange(1001), batch_size=4, block_size=10, max_windows=4)
    assert windows.starts.tolist() == [0, 250, 500, 750]


def test_wrong_tokens_and_sizes_are_refused():
    with pytest.raises(ValueError, match="one row of integers, got shape .2, 50. of int64"):
        _random(np.zeros((2, 50), np.int64))
    with pytest.raises(ValueError, match="one row of integers, got shape .50,. of float64"):
        _random(np.zeros(50))
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 8"):
        _random(batch_size=0)
    with pytest.raises(ValueError, match="max_windows must be at least 1, got 0"):
        EvaluationWindows(np.arange(99), batch_size=1, block_size=8, max_windows=0)


def test_a_batch_counts_its_mask_and_refuses_other_shapes():
    tokens = np.zeros((2, 3), np.int64)
    assert Batch(tokens, tokens, np.array([[True, False, True], [False] * 3])).n_counted == 2
    with pytest.raises(ValueError, match=r"targets must have the shape of tokens, \(2, 3\), got \(2, 2\)"):
        Batch(tokens, tokens[:, :2])
