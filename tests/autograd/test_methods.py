"""What people expect of an array: each method does what the op does, comparisons are made element by element."""

import numpy as np
import pytest

from tinyllm import Tensor, ops
from tinyllm.autograd import gradcheck

X = np.random.default_rng(0).standard_normal((2, 3, 4))
METHODS = {
    "reshape": (lambda x: x.reshape(6, -1), lambda x: x.reshape(6, 4)),
    "reshape by a tuple": (lambda x: x.reshape((6, 4)), lambda x: x.reshape(6, 4)),
    "view": (lambda x: x.view(4, 6), lambda x: x.reshape(4, 6)),
    "flatten": (lambda x: x.flatten(), np.ravel),
    "flatten from an axis": (lambda x: x.flatten(1), lambda x: x.reshape(2, 12)),
    "squeeze": (lambda x: x[:1].squeeze(), lambda x: x[0]),
    "squeeze an axis": (lambda x: x[:1].squeeze(0), lambda x: x[0]),
    "unsqueeze": (lambda x: x.unsqueeze(-1), lambda x: x[..., None]),
    "transpose": (lambda x: x.transpose(2, 0, 1), lambda x: x.transpose(2, 0, 1)),
    "transpose all": (lambda x: x.transpose(), lambda x: x.T),
    "permute": (lambda x: x.permute((1, 0, 2)), lambda x: x.transpose(1, 0, 2)),
    "sum": (lambda x: x.sum(), np.sum),
    "sum of an axis": (lambda x: x.sum(1), lambda x: x.sum(1)),
    "mean": (lambda x: x.mean(axis=(0, 2), keepdims=True), lambda x: x.mean((0, 2), keepdims=True)),
    "max": (lambda x: x.max(-1), lambda x: x.max(-1)),
    "min": (lambda x: x.min(axis=0), lambda x: x.min(0)),
    "prod": (lambda x: x.prod(2), lambda x: x.prod(2)),
    "var": (lambda x: x.var(1, ddof=1), lambda x: x.var(1, ddof=1)),
    "std": (lambda x: x.std(), np.std),
    "cumsum": (lambda x: x.cumsum(1), lambda x: x.cumsum(1)),
    "abs": (abs, np.abs),
    "astype": (lambda x: x.astype(np.float64), lambda x: x),
    "2 ** x": (lambda x: 2**x, lambda x: 2.0**x),
    "rows": (lambda x: ops.stack([row * 2.0 for row in x]), lambda x: 2 * x),
    "index by a Tensor": (lambda x: x[Tensor([1, 0, 1])], lambda x: x[[1, 0, 1]]),
    "index by Tensors": (lambda x: x[Tensor([1, 0]), Tensor([2, 2])], lambda x: x[[1, 0], [2, 2]]),
    "index by a mask": (lambda x: x[x > 0], lambda x: x[x > 0]),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_value_of_numpy_and_the_right_slope(name):
    method, plain = METHODS[name]
    np.testing.assert_allclose(method(Tensor(X)).data, plain(X), rtol=1e-12)
    gradcheck(method, X)


def test_a_dtype_is_changed_there_and_back():
    x = Tensor(np.array([1.5, 2.5], np.float32), requires_grad=True)
    y = x.astype(np.float64)
    y.sum().backward()
    assert y.dtype == np.float64 and x.grad.dtype == np.float32
    assert x.astype(int).data.tolist() == [1, 2] and not x.astype(int).requires_grad


def test_one_number_is_a_number():
    x = Tensor([2.5], requires_grad=True)
    assert (float(x), int(x), f"{x:.2f}", f"{x:>6.1f}") == (2.5, 2, "2.50", "   2.5")
    assert f"{x}" == str(x) and x.tolist() == [2.5]
    for number in (float, int):
        with pytest.raises(ValueError):
            number(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"format '.2f' is for one number, this Tensor has shape \(2,\)"):
        f"{Tensor([1.0, 2.0]):.2f}"


@pytest.mark.parametrize("other", [2.0, np.float32(2), [1.0, 2.0, 3.0], np.array([3.0, 2.0, 1.0]), "Tensor"], ids=repr)
def test_comparisons_are_made_element_by_element(other):
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    other = Tensor([2.0, 2.0, 2.0]) if isinstance(other, str) else other
    plain = other.data if isinstance(other, Tensor) else np.asarray(other)
    for got, wanted in [(x == other, x.data == plain), (x != other, x.data != plain), (x < other, x.data < plain),
                        (x <= other, x.data <= plain), (x > other, x.data > plain), (x >= other, x.data >= plain),
                        (other == x, x.data == plain), (other < x, x.data > plain)]:  # fmt: skip
        assert isinstance(got, np.ndarray) and got.dtype == bool
        np.testing.assert_array_equal(got, wanted)


def test_accuracy_is_the_mean_of_what_is_equal():
    predicted, target = Tensor([1, 2, 3, 4]), Tensor([1, 2, 0, 4])
    assert np.mean(predicted == target) == 0.75 and (predicted == target).mean() == 0.75
    assert Tensor([1.0]) == 1.0 and not Tensor([1.0]) == 2.0


def test_what_has_no_numbers_is_unequal_and_shapes_that_do_not_fit_are_refused():
    x = Tensor([1.0, 2.0])
    assert not (x == None) and x != None and not (x == "text")  # noqa: E711
    with pytest.raises(ValueError, match="broadcast"):
        _ = x == Tensor([1.0, 2.0, 3.0])
    with pytest.raises(TypeError):
        _ = x < None


def test_a_tensor_is_still_a_key():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert {x: 1, y: 2}[x] == 1 and len({x, y, x}) == 2


def test_numpy_functions_see_the_array_and_are_refused_one_with_gradient():
    x = Tensor([1.0, 2.0])
    assert np.mean(x) == 1.5 and np.concatenate([x, x]).tolist() == [1, 2, 1, 2] and np.argmax(x) == 1
    y = Tensor([[1.0, 2.0]], requires_grad=True)
    assert (np.shape(y), np.ndim(y), np.size(y), np.size(y, axis=1)) == ((1, 2), 2, 2, 2)
    for call in (np.mean, lambda t: np.concatenate([t, t]), lambda t: np.where(True, t, 0)):
        with pytest.raises(TypeError, match="drop this Tensor's gradient"):
            call(Tensor([1.0, 2.0], requires_grad=True))


def test_a_number_is_not_iterated_over():
    with pytest.raises(TypeError, match="without axes"):
        list(Tensor(1.0))
    assert [x.item() for x in Tensor([1.0, 2.0])] == [1, 2]


@pytest.mark.parametrize("gradient", [False, True])
def test_a_list_of_tensors_is_refused_with_and_without_gradient(gradient):
    x = Tensor([1.0], requires_grad=gradient)
    for call in (Tensor, ops.sum, lambda pair: ops.exp([pair])):
        with pytest.raises(TypeError, match="join them with ops.stack or ops.concatenate"):
            call([x, x])
