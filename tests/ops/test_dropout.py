"""Dropout: its share, its expected value, its repeatability."""

import numpy as np
import pytest

from tinyllm import ops


def test_dropout_keeps_the_expected_value_and_drops_its_share():
    y = ops.dropout(np.ones(100_000), p=0.3, rng=np.random.default_rng(0)).data
    assert set(np.unique(y)) == {0.0, 1 / 0.7}
    assert abs((y == 0).mean() - 0.3) < 5 * np.sqrt(0.21 / 100_000)  # five standard errors
    assert abs(y.mean() - 1) < 0.02


def test_dropout_with_the_same_generator_state_drops_the_same():
    x = np.ones((8, 8))
    first, second = (ops.dropout(x, p=0.5, rng=np.random.default_rng(1)).data for _ in range(2))
    rng = np.random.default_rng(1)
    ops.dropout(x, p=0.5, rng=rng)
    np.testing.assert_array_equal(first, second)
    assert (ops.dropout(x, p=0.5, rng=rng).data != first).any()


def test_dropout_draws_the_same_mask_in_float32_and_float64():
    y32, y64 = (ops.dropout(np.ones(99, d), p=0.5, rng=np.random.default_rng(1)).data for d in (np.float32, np.float64))
    np.testing.assert_array_equal(y32, y64)


@pytest.mark.parametrize("p", [-0.1, 1.0, np.nan])
def test_dropout_of_everything_is_refused(p):
    with pytest.raises(ValueError, match="0 <= p < 1"):
        ops.dropout(np.ones(2), p=p, rng=np.random.default_rng(0))
