"""Rotary positions: lengths are kept, distances are what counts."""

import numpy as np
import pytest

from tinyllm import ops

RNG = np.random.default_rng(0)


def test_rotary_keeps_lengths_and_depends_on_the_distance_alone():
    query, key = RNG.standard_normal((2, 1, 1, 1, 8))

    def turned(x, position):
        angles = np.arange(10)[:, None] * 0.3 ** np.arange(4)
        return ops.rotary(x, cos=np.cos(angles), sin=np.sin(angles), positions=np.array([[position]])).data

    np.testing.assert_allclose(np.linalg.norm(turned(query, 5)), np.linalg.norm(query))
    np.testing.assert_allclose((turned(query, 9) * turned(key, 4)).sum(), (turned(query, 5) * turned(key, 0)).sum())
    assert abs((turned(query, 9) * turned(key, 4)).sum() - (query * key).sum()) > 1e-3
    np.testing.assert_array_equal(turned(query, 0), query)


def test_rotary_takes_float32_angles_for_float64_and_the_other_way_round():
    angles, positions = np.ones((2, 2)), np.array([[0, 1]])
    for dtype, other in [(np.float32, np.float64), (np.float64, np.float32)]:
        x = np.ones((1, 2, 1, 4), dtype)
        assert (
            ops.rotary(x, cos=np.cos(angles).astype(other), sin=np.sin(angles).astype(other), positions=positions).dtype == dtype
        )


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3), (2,)])
def test_rotary_angles_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"do not fit x \(2, 2, 1, 4\); \(positions, D/2\) expected"):
        ops.rotary(np.ones((2, 2, 1, 4)), cos=np.ones(shape), sin=np.ones(shape), positions=np.array([[0, 0]]))


@pytest.mark.parametrize(
    ("positions", "message"), [([[0, 2]], "positions: id 2"), ([0, 1], "do not fit"), ([[0.0, 1.0]], "integers")]
)
def test_positions_that_have_no_angle_are_refused(positions, message):
    with pytest.raises(ValueError, match=message):
        ops.rotary(np.ones((2, 2, 1, 4)), cos=np.ones((2, 2)), sin=np.ones((2, 2)), positions=np.array(positions))
