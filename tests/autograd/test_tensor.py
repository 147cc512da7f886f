"""Tensor and the operators: values, gradients, dtypes, and what is refused."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm import Tensor, no_grad, op, ops
from tinyllm.autograd import OPS, gradcheck

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]
OTHERS = [2, 2.5, np.float64(2.5), np.float32(2.5), np.int64(2), [1.0, 2.0, 4.0], np.array([1.0, 2.0, 4.0], np.float32)]


def float32(*values):
    return Tensor(np.array(values, np.float32), requires_grad=True)


@pytest.mark.parametrize("other", OTHERS, ids=repr)
@pytest.mark.parametrize("operation", BINARY, ids=lambda o: o.__name__)
def test_operators_follow_numpy_on_both_sides_and_keep_float32(operation, other):
    x = float32(3.0, -1.0, 0.5)
    plain = np.asarray(other, np.float32)
    for result, expected in [(operation(x, other), operation(x.data, plain)), (operation(other, x), operation(plain, x.data))]:
        assert isinstance(result, Tensor) and result.dtype == np.float32 and result.requires_grad
        np.testing.assert_array_equal(result.data, expected)
        ops.sum(result).backward()
        assert x.grad.dtype == np.float32


@pytest.mark.parametrize("operation", BINARY, ids=lambda o: o.__name__)
def test_operator_gradients_with_broadcasting(operation):
    rng = np.random.default_rng(0)
    for shapes in [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 2)), ((0, 3), (1, 3))]:
        a, b = (rng.uniform(0.5, 2, shape) for shape in shapes)
        gradcheck(operation, a, b)


def test_ndarray_operators_come_to_the_tensor():
    x, w = float32(1.0, 2.0), np.ones((2, 2), np.float32)
    assert isinstance(w * x, Tensor) and isinstance(w - x, Tensor)
    assert isinstance(w @ ops.reshape(x, shape=(2, 1)), Tensor)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, 0.5, np.float64(1.5), np.float32(2), np.int64(2)])
def test_power_takes_any_number_and_keeps_the_dtype(exponent):
    y = float32(1.0, 4.0) ** exponent
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, np.array([1.0, 4.0]) ** float(exponent), rtol=1e-6)
    gradcheck(lambda x: x**exponent, np.array([1.5, 4.0]))


def test_power_zero_and_one_have_finite_gradients_at_zero():
    for exponent, slope in [(0, 0.0), (1, 1.0), (2, 0.0)]:
        x = float32(0.0)
        (x**exponent).backward()
        assert x.grad.item() == slope


def test_an_exponent_may_be_a_tensor_and_a_base_a_number():
    a, b = np.array([0.5, 2.0, 3.0]), np.array([2.0, -1.0, 0.5])
    gradcheck(lambda x, y: x**y, a, b)
    gradcheck(lambda y: 2**y, b)
    gradcheck(lambda y: a**y, b)
    assert (2 ** float32(3.0)).dtype == np.float32 and (2 ** float32(3.0)).item() == 8


def test_power_at_zero_has_the_slopes_of_its_limits():
    a, b = float32(0.0, 0.0, 5.0), float32(2.0, 0.0, 0.0)
    ops.sum(a**b).backward()
    np.testing.assert_array_equal(a.grad, [0, 0, 0])
    np.testing.assert_allclose(b.grad, [0, 0, np.log(5.0)])


def test_division_by_tiny_and_huge_numbers_does_not_overflow_on_the_way():
    a, b = float32(1e30), float32(1e30)
    (a / b).backward()
    np.testing.assert_allclose([a.grad.item(), -b.grad.item()], [1e-30, 1e-30], rtol=1e-5)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 1, 2, 3), (4, 3, 2)), ((2, 0), (0, 3))], ids=str)
def test_matmul_follows_numpy_and_its_gradients_broadcast(shapes):
    a, b = (np.random.default_rng(0).standard_normal(shape) for shape in shapes)
    np.testing.assert_allclose((Tensor(a) @ Tensor(b)).data, a @ b, atol=1e-12)
    gradcheck(operator.matmul, a, b)


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2))], ids=str)
def test_a_vector_is_a_row_on_the_left_and_a_column_on_the_right(shapes):
    a, b = (np.random.default_rng(0).standard_normal(shape) for shape in shapes)
    np.testing.assert_allclose((Tensor(a) @ Tensor(b)).data, a @ b, atol=1e-12)
    gradcheck(operator.matmul, a, b)


@pytest.mark.parametrize("a, b", [((2, 3), (2, 3)), ((4,), (3, 2)), ((2, 3), (2,)), ((2, 3), ()), ((), (3,))], ids=str)
def test_matmul_of_shapes_that_do_not_fit_is_refused(a, b):
    with pytest.raises(ValueError, match=r"matmul: \(\.\.\., M, K\) @ \(\.\.\., K, N\) expected"):
        Tensor(np.ones(a)) @ Tensor(np.ones(b))


def test_matmul_of_batches_that_do_not_fit_is_refused():
    with pytest.raises(ValueError):
        Tensor(np.ones((2, 3, 4))) @ Tensor(np.ones((5, 4, 3)))


def test_matmul_of_two_dtypes_is_refused_since_kernels_read_raw_memory():
    with pytest.raises(ValueError, match="matmul: a float32, b float64; all float32 or all float64 expected"):
        Tensor(np.ones((2, 2), np.float32)) @ Tensor(np.ones((2, 2)))
    with pytest.raises(ValueError, match="matmul: a int64"):
        Tensor([[1, 2]]) @ Tensor([[1], [2]])


def test_matmul_computes_only_the_gradients_that_are_needed(monkeypatch):
    calls = []
    from tinyllm import kernels

    plain = kernels.matmul
    monkeypatch.setattr(kernels, "matmul", lambda *args: calls.append(1) or plain(*args))
    (Tensor(np.ones((2, 2))) @ Tensor(np.ones((2, 2)), requires_grad=True)).backward(np.ones((2, 2)))
    assert len(calls) == 2  # forward and one of two products


KEYS = [0, -1, slice(1, None), slice(None, None, -2), (slice(None), 1), (..., None), (0, 1), [0, 0, 2], np.array([2, 0, 2]),
        (np.array([0, 0]), np.array([1, 1])), np.array([True, False, True]), (slice(None), [1, 1]), np.int64(1)]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_indexing_follows_numpy_and_repeated_elements_add_up(key):
    x = np.random.default_rng(0).standard_normal((3, 4))
    np.testing.assert_array_equal(Tensor(x)[key].data, x[key])
    gradcheck(lambda t: t[key], x)


def test_a_row_read_three_times_gets_three_gradients():
    x = Tensor(np.zeros((3, 2)), requires_grad=True)
    ops.sum(x[[1, 1, 1, 0]]).backward()
    np.testing.assert_array_equal(x.grad, [[1, 1], [3, 3], [0, 0]])


def test_transpose_and_negative_gradients():
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    np.testing.assert_array_equal(Tensor(x).T.data, x.swapaxes(1, 2))
    gradcheck(lambda t: t.T, x)
    gradcheck(operator.neg, x)


# ---- making Tensors


@pytest.mark.parametrize(
    "data, dtype",
    [([1.0, 2.0], np.float32), (1.5, np.float32), ([1, 2], np.int64), ([True], np.bool_), (np.ones(2), np.float64),
     (np.float64(1), np.float64), (np.ones(2, np.float16), np.float16), ([], np.float32)],
    ids=repr,
)  # fmt: skip
def test_lists_become_float32_and_arrays_keep_their_dtype(data, dtype):
    assert Tensor(data).dtype == dtype


def test_an_array_is_not_copied():
    array = np.ones(3)
    assert Tensor(array).data is array and Tensor(array).numpy() is array


@pytest.mark.parametrize("data", ["abc", None, [None], object(), [1j]])
def test_what_is_no_array_of_numbers_is_refused(data):
    with pytest.raises(ValueError, match="numbers expected"):
        Tensor(data)


def test_only_floating_point_leaves_take_gradients():
    with pytest.raises(ValueError, match="requires_grad=True needs floating point data, got int64"):
        Tensor([1, 2], requires_grad=True)


def test_a_tensor_of_a_tensor_is_refused():
    with pytest.raises(TypeError, match="already a Tensor"):
        Tensor(Tensor([1.0]))


def test_shape_facts():
    x = Tensor(np.ones((2, 3), np.float32))
    assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((2, 3), 2, 6, 2, np.float32)
    assert Tensor([2.5]).item() == 2.5 and isinstance(Tensor([2.5]).item(), float)


def test_detach_shares_values_and_stops_gradients():
    x = float32(2.0)
    y = x.detach() * x
    assert x.detach().data is x.data
    y.backward()
    assert x.grad.item() == 2


# ---- backward


def test_backward_of_several_elements_needs_a_gradient():
    with pytest.raises(ValueError, match=r"needs a single element, got shape \(2,\)"):
        (float32(1.0, 2.0) * 2.0).backward()


def test_backward_takes_a_gradient_of_the_tensors_shape_only():
    x = float32(1.0, 2.0)
    (x * 2.0).backward([1.0, 3.0])
    np.testing.assert_array_equal(x.grad, [2.0, 6.0])
    with pytest.raises(ValueError, match=r"shape \(3,\) came, the tensor's \(2,\) was expected"):
        (x * 2.0).backward([1.0, 2.0, 3.0])


def test_backward_of_a_constant_says_why_it_cannot():
    with pytest.raises(RuntimeError, match=r"under no_grad\(\), or from inputs"):
        Tensor([1.0]).backward()
    with no_grad():
        y = float32(1.0) * 2.0
    with pytest.raises(RuntimeError, match="requires gradient"):
        y.backward()


def test_a_single_element_of_any_shape_needs_no_gradient():
    x = Tensor(np.ones((1, 1)), requires_grad=True)
    (x * 3.0).backward()
    assert x.grad.shape == (1, 1)


# ---- what is refused


def test_item_assignment_is_refused_with_advice():
    with pytest.raises(TypeError, match="not changed in place.*ops.where"):
        float32(1.0)[0] = 2.0


def test_augmented_assignment_makes_a_new_tensor():
    x = float32(1.0)
    y = x
    y += 1.0
    assert y is not x and x.item() == 1


def test_numpy_functions_do_not_drop_a_gradient_silently():
    with pytest.raises(TypeError, match="drop this Tensor's gradient"):
        np.asarray(float32(1.0))
    np.testing.assert_array_equal(np.asarray(Tensor([1.0])), [1.0])
    np.testing.assert_array_equal(np.exp(float32(0.0).data), [1.0])
    with pytest.raises(TypeError):
        np.exp(float32(0.0))


def test_a_tensor_as_keyword_argument_is_refused():
    with pytest.raises(TypeError, match=r"clip\(low=\.\.\.\): keyword arguments carry no gradient; pass low.data"):
        ops.clip(float32(1.0), low=float32(0.0), high=1.0)


# ---- op


def test_numpy_scalars_as_settings_do_not_widen_float32():
    x = float32(0.1, 0.5)
    assert ops.clip(x, low=np.float64(0.2), high=np.float64(0.4)).dtype == np.float32
    w = float32(1.0, 1.0)
    assert ops.rms_norm(x, w, eps=np.float64(1e-6)).dtype == np.float32


def test_an_op_of_one_operand_takes_a_number_too():
    for call, value in [(ops.exp, np.exp(2.0)), (ops.sum, 2.0), (ops.max, 2.0), (ops.gelu, 1.9545977)]:
        assert call(2.0).item() == pytest.approx(value) and call(2.0).dtype == np.float32


def test_a_number_where_arrays_are_read_by_kernels_is_refused():
    with pytest.raises(TypeError, match="rms_norm: x float, weight ndarray, .*arrays or Tensors expected"):
        ops.rms_norm(2.0, np.ones(3))


def test_op_registers_keeps_the_name_and_documents():
    @op
    def tripled_for_test(x):
        """3x."""
        return 3 * x, lambda dy: 3 * dy

    try:
        assert OPS["tripled_for_test"] is tripled_for_test and tripled_for_test.__doc__ == "3x."
        assert tripled_for_test(float32(2.0)).node.name == "tripled_for_test"
    finally:
        del OPS["tripled_for_test"]


def test_needs_tells_which_inputs_want_a_gradient():
    seen = []

    @op
    def nosy(a, b, *, needs):
        seen.append(needs)
        return a + b, lambda dy: (dy, dy)

    nosy(float32(1.0), Tensor([1.0]))
    with no_grad():
        nosy(float32(1.0), 2.0)
    assert seen == [(True, False), (False, False)]
    del OPS["nosy"]


def test_repr_shows_how_it_was_made():
    x = float32(1.0)
    assert repr(x) == "Tensor([1.], dtype=float32, requires_grad=True)"
    assert "op=multiply" in repr(x * 2.0) and "requires" not in repr(Tensor([1.0]))


# ---- random graphs against central differences


def _shifted(t):
    return t * t + 1.0  # positive, for log, sqrt and as a denominator


UNARY = [
    ops.tanh,
    ops.sigmoid,
    operator.neg,
    lambda t: ops.log(_shifted(t)),
    lambda t: ops.sqrt(_shifted(t)),
    lambda t: ops.exp(ops.tanh(t)),
    lambda t: ops.softmax(t),
    lambda t: ops.log_softmax(t) * 0.3,
    lambda t: ops.gelu(t, approximate="erf"),
    lambda t: ops.silu(t),
    lambda t: ops.mean(t, axis=-1, keepdims=True) + t,
    lambda t: t - ops.sum(t, axis=0),
    lambda t: t[:, ::-1],
    lambda t: t[[0, 0, 1]],
    lambda t: ops.reshape(ops.transpose(t, axes=(1, 0)), shape=(3, 3)),
]
PAIRS = [operator.add, operator.sub, operator.mul, lambda a, b: a / _shifted(b), lambda a, b: ops.tanh(a @ b.T)]
steps = st.lists(st.tuples(st.sampled_from([*UNARY, *PAIRS]), st.integers(0, 40), st.integers(0, 40)), min_size=5, max_size=30)


def build(program, *leaves):
    """Run a random program: each step reads earlier results (often the same ones again); the last and three others add up."""
    values = list(leaves)
    for function, i, j in program:
        a, b = values[i % len(values)], values[j % len(values)]
        result = function(a) if function in UNARY else function(a, b)
        values.append(ops.tanh(result))  # keeps the numbers in range
    return values[-1] + values[len(values) // 2] * values[-2] + values[len(leaves)]


@given(steps, st.integers(0, 1000))
def test_random_graphs_agree_with_central_differences(program, seed):
    rng = np.random.default_rng(seed)
    gradcheck(lambda *leaves: build(program, *leaves), rng.standard_normal((3, 3)), rng.standard_normal((3, 3)))


def test_a_frozen_leaf_gets_no_gradient_until_it_is_unfrozen_and_a_buffer_never_does():
    x, buffer = Tensor([2.0], requires_grad=True), Tensor([3.0])
    (x * x).backward()
    for tensor in (x, buffer):
        tensor.freeze()
        tensor.freeze()
    assert x.frozen and x.grad is None and not buffer.frozen and not (x * buffer).requires_grad
    for tensor in (x, buffer):
        tensor.unfreeze()
    (x * buffer).backward()
    assert x.grad.item() == 3 and not x.frozen and not buffer.requires_grad
