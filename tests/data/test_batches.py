import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.batches import Epochs


def epochs_of(n, seed=0):
    return Epochs(lambda rng: rng.permutation(n).tolist(), rng=np.random.default_rng(seed))


@given(st.integers(1, 9), st.integers(1, 20))
def test_an_epoch_has_everything_once_whatever_the_batch_size(n, batch_size):
    epochs = epochs_of(n)
    drawn = [thing for _ in range(2 * n) for thing in epochs.take_across(batch_size)]
    assert len(drawn) == 2 * n * batch_size
    for first in range(0, len(drawn) - n + 1, n):
        assert sorted(drawn[first : first + n]) == list(range(n))


@given(st.integers(1, 9), st.integers(1, 20))
def test_without_crossing_the_last_part_of_an_epoch_is_shorter(n, batch_size):
    epochs = epochs_of(n)
    for _ in range(3):
        parts = [epochs.take(batch_size) for _ in range(-(-n // batch_size))]
        assert [len(part) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
        assert sorted(thing for part in parts for thing in part) == list(range(n))


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 12), st.booleans())
def test_restored_epochs_go_on_exactly(n, batch_size, n_before, across):
    epochs, other = epochs_of(n, seed=3), epochs_of(n, seed=99)
    for _ in range(n_before):
        epochs.take_across(batch_size) if across else epochs.take(batch_size)
    other.restore(epochs.state())
    for _ in range(5):
        assert epochs.take(batch_size) == other.take(batch_size) and epochs.state() == other.state()


def test_two_epochs_are_ordered_differently():
    epochs = epochs_of(20)
    assert epochs.take(20) != epochs.take(20)


def test_nothing_is_drawn_before_something_is_wanted():
    epochs = epochs_of(5)
    before = epochs.rng.bit_generator.state
    assert epochs.state()["position"] == 0 and epochs.rng.bit_generator.state == before
    epochs.take(1)
    assert epochs.rng.bit_generator.state != before and epochs.state()["rng"] == before


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(ValueError, match="there is nothing to draw"):
        epochs_of(0).take(1)
