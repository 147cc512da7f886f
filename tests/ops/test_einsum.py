"""What einsum does not understand is said at the call; values and gradients are in the registry."""

import numpy as np
import pytest

from tinyllm import Tensor, ops


@pytest.mark.parametrize(
    ("text", "shapes", "said"),
    [
        ("ii->i", [(2, 2)], "'ii' in 'ii->i'; each axis of a term needs a letter of its own"),
        ("ij,jk->ik", [(2, 3)], "names 2 operands, 1 came"),
        ("ij->i1", [(2, 3)], "'i1' in 'ij->i1'"),
        ("ijk...->i", [(2, 3)], "has more letters than operands of"),
        ("ij,jk->ik", [(2, 3), (4, 5)], "dimension|broadcast|match"),
        ("ij->ik", [(2, 3)], "not in any input|output|did not appear"),
    ],
)
def test_what_is_not_understood_is_refused(text, shapes, said):
    with pytest.raises(ValueError, match=said.replace("...", r"\.\.\.")):
        ops.einsum(text, *(np.zeros(shape) for shape in shapes))


def test_only_the_gradients_that_are_wanted_are_made():
    a, b = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones((3, 4)))
    ops.einsum("ij,jk->ik", a, b).backward(np.ones((2, 4)))
    assert a.grad.tolist() == [[4.0] * 3] * 2 and b.grad is None
