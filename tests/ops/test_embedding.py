"""Embedding: a table, its gradient by row, and ids it does not have."""

import numpy as np
import pytest

from tinyllm import Tensor, ops

RNG = np.random.default_rng(0)


def test_embedding_is_a_product_with_one_hot_rows():
    weight, ids = RNG.standard_normal((7, 3)), np.array([[6, 0], [0, 3]])
    np.testing.assert_array_equal(ops.embedding(weight, ids=ids).data, weight[ids])
    np.testing.assert_allclose(ops.embedding(weight, ids=ids).data, np.eye(7)[ids] @ weight)


def test_a_row_read_twice_collects_both_gradients():
    weight = Tensor(np.zeros((3, 2)), requires_grad=True)
    ops.embedding(weight, ids=np.array([2, 2, 0])).backward([[1.0, 2.0], [10.0, 20.0], [5.0, 5.0]])
    np.testing.assert_array_equal(weight.grad, [[5, 5], [0, 0], [11, 22]])


@pytest.mark.parametrize(
    "ids, text",
    [(np.array([7]), r"ids: id 7 is outside the vocabulary of 7 \(0..6\)"), (np.array([[0, -1]]), "id -1 is outside"),
     (np.array([1.0]), "ids must be integers, got float64"), (np.array([True]), "ids must be integers, got bool"),
     (np.array([2**63], np.uint64), "id 9223372036854775808 is outside")],
    ids=str,
)  # fmt: skip
def test_ids_outside_the_table_are_refused(ids, text):
    with pytest.raises(ValueError, match=text):
        ops.embedding(np.zeros((7, 2)), ids=ids)
