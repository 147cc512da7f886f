"""Moving values: views, picks, and what does not fit."""

import numpy as np
import pytest

from tinyllm import Tensor, ops

RNG = np.random.default_rng(0)


def test_reshape_and_transpose_are_views():
    x = RNG.standard_normal((2, 6))
    assert np.shares_memory(ops.reshape(x, shape=(3, 4)).data, x)
    assert np.shares_memory(ops.transpose(x, axes=(1, 0)).data, x)


def test_an_element_taken_twice_gets_both_gradients():
    x = Tensor(np.zeros((1, 3)), requires_grad=True)
    ops.take_along(x, indices=np.array([[1, 1, 2]])).backward([[1.0, 10.0, 100.0]])
    np.testing.assert_array_equal(x.grad, [[0, 11, 100]])


@pytest.mark.parametrize(
    "indices, text",
    [([[3]], r"indices lie in 3..3, expected 0..2"), ([[-1]], "expected 0..2"), ([[0], [1]], "indices"), ([0], "indices")],
)  # fmt: skip
def test_indices_that_do_not_fit_are_refused(indices, text):
    with pytest.raises(ValueError, match=f"take_along: .*{text}"):
        ops.take_along(np.zeros((1, 3)), indices=np.array(indices))


def test_rows_go_back_to_where_a_mask_took_them_from():
    x = RNG.standard_normal((2, 3, 4))
    mask = np.array([[True, False, True], [False, True, True]])
    rows = Tensor(x[mask][None], requires_grad=True)
    back = ops.pad_rows(rows, mask=mask)
    np.testing.assert_array_equal(back.data, x * mask[..., None])
    back.backward(x)
    np.testing.assert_array_equal(rows.grad, rows.data)


@pytest.mark.parametrize("mask", [np.ones((2, 2), bool), np.ones(3)], ids=["too many", "not bool"])
def test_a_mask_that_does_not_count_the_rows_is_refused(mask):
    with pytest.raises(ValueError, match=r"pad_rows: mask .* as many True as rows expected"):
        ops.pad_rows(np.zeros((1, 3, 4)), mask=mask)


def test_parts_are_numpys_parts():
    x = RNG.standard_normal((6, 5))
    for got, wanted in [(ops.split(x, 3), np.split(x, 3)), (ops.split(x, sizes=[1, 0, 4], axis=1), np.split(x, [1, 1], axis=1))]:
        assert [part.shape for part in got] == [part.shape for part in wanted]
        for part, plain in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(part.data, plain)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"n_parts": 4}, "an axis of length 6 cannot be cut into 4 equal parts; give sizes"),
        ({"n_parts": 0}, "cannot be cut into 0"),
        ({"sizes": [1, 2]}, r"sizes \[1, 2\] came, they must add up to the axis of length 6"),
        ({"sizes": [7, -1]}, "must add up"),
        ({}, "give n_parts or sizes"),
        ({"n_parts": 2, "axis": 3}, r"axis 3 came for x of shape \(6, 5\)"),
    ],
)
def test_parts_that_do_not_add_up_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        ops.split(np.zeros((6, 5)), **settings)
