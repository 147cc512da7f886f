"""The walk backward: what it computes, what it frees, what it refuses."""

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm import Tensor, no_grad, op, ops
from tinyllm.autograd import OPS, GraphFreedError, RowGradient
from tinyllm.autograd.graph import topological_order, unbroadcast


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


@op
def remember(x):
    """x + 0, keeping a fresh copy of x alive for its backward."""
    kept = x.copy()
    remember.kept.append(weakref.ref(kept))
    return x + 0, lambda dy: dy * np.sign(kept * kept + 1)


@op
def watch(x):
    """x + 0, noting at backward time which of the arrays kept by `remember` are still alive."""

    def backward(dy):
        watch.alive.append([ref() is not None for ref in remember.kept])
        return dy * 1

    return x + 0, backward


@pytest.fixture(autouse=True)
def forget():
    remember.kept, watch.alive = [], []


def test_gradients_of_a_composition_multiply():
    x = leaf(2.0)
    ((x * x) ** 3).backward()  # x⁶
    assert x.grad.item() == 6 * 2.0**5


def test_an_input_used_twice_by_one_op_gets_both_gradients():
    x = leaf(3.0, -1.0)
    (x * x).backward([1.0, 10.0])
    np.testing.assert_array_equal(x.grad, [6.0, -20.0])
    x.grad = None
    (x + x).backward([1.0, 10.0])
    np.testing.assert_array_equal(x.grad, [2.0, 20.0])
    x.grad = None
    (x - x).backward([1.0, 10.0])
    np.testing.assert_array_equal(x.grad, [0.0, 0.0])


def test_a_diamond_adds_up_both_paths():
    x = leaf(1.5)
    y = x * 2.0
    (y * y + y).backward()  # 4x² + 2x
    assert x.grad.item() == 8 * 1.5 + 2


def test_a_node_runs_once_after_all_its_consumers():
    calls = []

    @op
    def counted(x):
        return x * 1, lambda dy: (calls.append(dy.copy()), dy)[1]

    x = leaf(1.0)
    y = counted(x)
    z = y * 2.0
    (z * 3.0 + y * 5.0 + y).backward()  # paths of different length
    assert len(calls) == 1 and calls[0].item() == 2 * 3 + 5 + 1


def test_topological_order_puts_parents_first():
    a, b = leaf(1.0), leaf(2.0)
    c = a * b
    d = c + a
    order = topological_order(d.node)
    assert order.index(a) < order.index(c.node) < order.index(d.node) and order.index(b) < order.index(c.node)
    assert len(order) == 4


def test_grad_accumulates_over_backwards_until_it_is_cleared():
    x = leaf(2.0)
    (x * 3.0).backward()
    (x * 4.0).backward()
    assert x.grad.item() == 7
    x.grad = None
    (x * 4.0).backward()
    assert x.grad.item() == 4


def test_a_chain_of_ten_thousand_ops_needs_no_recursion():
    x = leaf(0.0)
    y = x
    for _ in range(10_000):
        y = y + 1.0
    y.backward()
    assert y.item() == 10_000 and x.grad.item() == 1


def test_a_deep_graph_can_be_dropped_without_backward():
    y = leaf(0.0)
    for _ in range(100_000):
        y = -y
    del y  # a recursive free would overflow the C stack here


def test_two_chains_sharing_every_node_cost_linear_time():
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = (y + y) * 0.5  # 2⁶⁰ paths
    y.backward()
    assert x.grad.item() == 1


def test_captured_arrays_die_during_the_walk():
    x = leaf(1.0)
    y = x
    for _ in range(4):
        y = remember(watch(y))
    y.backward()
    # The last remember runs first; when watch k runs, every remember above it is already free.
    expected = [[i < k for i in range(4)] for k in (3, 2, 1, 0)]
    assert watch.alive == expected
    assert [ref() for ref in remember.kept] == [None] * 4


def test_a_loss_that_is_kept_does_not_keep_the_graph_below_it():
    x = leaf(1.0)
    seen = weakref.ref(x)
    loss = x * 2.0 + 1.0
    del x
    assert seen() is not None
    loss.backward()
    assert seen() is None and loss.item() == 3


def test_no_grad_drops_what_backward_would_need():
    x = leaf(1.0)
    with no_grad():
        y = remember(x)
    assert remember.kept[0]() is None and not y.requires_grad
    kept = remember(x)
    assert remember.kept[1]() is not None and kept.requires_grad


def test_constants_are_not_recorded():
    y = remember(Tensor(np.ones(3)))
    assert remember.kept[0]() is None and y.node is None


def test_a_second_backward_is_refused_in_plain_words():
    y = leaf(2.0) * 3.0
    y.backward()
    with pytest.raises(GraphFreedError, match="'multiply' was freed by an earlier backward.*compute the loss again"):
        y.backward()


def test_a_second_loss_over_a_freed_part_is_refused():
    shared = leaf(2.0) * 3.0
    first, second = shared + 1.0, shared * 2.0
    first.backward()
    with pytest.raises(GraphFreedError, match="'multiply'"):
        second.backward()


def test_a_leaf_changed_in_place_after_recording_is_refused():
    x = leaf(2.0)
    y = x * x
    x.assign(np.array([5.0]))
    with pytest.raises(RuntimeError, match="op 'multiply'.*changed in place.*before optimizer.step"):
        y.backward()
    assert x.grad is None
    (x * x).backward()  # recorded after the change: fine
    assert x.grad.item() == 10


CHANGES = {
    "assign": lambda w: w.assign(np.zeros(2)),
    "assign to detached": lambda w: w.detach().assign(np.zeros(2)),
    "assign to a view": lambda w: ops.reshape(w, shape=(2, 1)).assign(np.zeros((2, 1))),
    "told": lambda w: (np.copyto(w.data, 0.0), w.mark_changed()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("view", [False, True])
def test_a_captured_array_without_gradient_is_watched_too(change, view):
    x, w = leaf(1.0, 2.0), Tensor(np.array([3.0, 4.0]))
    y = ops.sum(x * (ops.reshape(w, shape=(1, 2)) if view else w))
    CHANGES[change](w)
    with pytest.raises(RuntimeError, match="op 'multiply'.*changed in place"):
        y.backward()
    assert x.grad is None


def test_frozen_weights_of_layers_and_lora_bases_are_watched():
    from tinyllm.nn import Linear, LoRALinear

    rng = np.random.default_rng(0)
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    layer = LoRALinear(Linear(3, 3, rng=rng), rank=1, alpha=1.0, rng=rng)
    layer.weight.requires_grad = layer.bias.requires_grad = False
    loss = ops.sum(layer(x))
    layer.weight.assign(np.zeros((3, 3), np.float32))
    with pytest.raises(RuntimeError, match="op 'linear'.*changed in place"):
        loss.backward()
    ops.sum(layer(x)).backward()


def test_loading_weights_between_forward_and_backward_is_refused():
    from tinyllm.nn import Linear

    layer, x = Linear(2, 2, rng=np.random.default_rng(0)), Tensor(np.ones((1, 2), np.float32), requires_grad=True)
    for weight in layer.parameters():
        weight.requires_grad = False
    for assign in (False, True):
        loss = ops.sum(layer(x))
        layer.load_state_dict({name: np.zeros_like(array) for name, array in layer.state_dict().items()}, assign=assign)
        with pytest.raises(RuntimeError, match="changed in place"):
            loss.backward()


def test_a_result_that_a_closure_kept_is_watched():
    x = leaf(0.5)
    y = ops.tanh(x)  # backward reads y
    y.detach().assign(np.zeros(1))
    with pytest.raises(RuntimeError, match="op 'tanh'.*changed in place"):
        y.backward()


def test_the_result_of_an_op_is_not_changed_in_place():
    y = leaf(1.0) * 2.0
    with pytest.raises(RuntimeError, match="result of op 'multiply'"):
        y.assign(np.zeros(1))
    assert y.item() == 2


@pytest.mark.parametrize("gradient", [np.ones(2), np.ones((3, 1)), np.ones(())], ids=["short", "column", "scalar"])
def test_a_gradient_of_a_wrong_shape_is_refused_before_a_kernel_reads_it(gradient):
    @op
    def mistaken(x):
        return x + 0, lambda dy: gradient

    with pytest.raises(ValueError, match=r"came for an input of shape \(3,\); a backward is wrong"):
        mistaken(leaf(1.0, 2.0, 3.0)).backward(np.ones(3))
    del OPS["mistaken"]


def test_rows_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"RowGradient: values \(2, 3\) came for ids \(1,\)"):
        RowGradient(np.array([0]), np.ones((2, 3)), (5, 3))

    @op
    def mistaken(x):
        return x + 0, lambda dy: RowGradient(np.array([0]), np.ones((1, 3)), (5, 3))

    with pytest.raises(ValueError, match=r"a gradient for a table \(5, 3\) came for an input of shape \(4, 3\)"):
        mistaken(Tensor(np.ones((4, 3)), requires_grad=True)).backward(np.ones((4, 3)))
    del OPS["mistaken"]


def test_backward_must_return_one_gradient_per_input():
    @op
    def forgetful(a, b):
        return a + b, lambda dy: dy

    with pytest.raises(TypeError, match="'forgetful' returned 1 gradients for 2 positional inputs"):
        forgetful(leaf(1.0), leaf(2.0)).backward()


def test_an_input_without_gradient_gets_none():
    a, b = leaf(1.0), Tensor(np.array([2.0]))
    (a * b).backward()
    assert a.grad.item() == 2 and b.grad is None


def test_none_from_backward_stops_the_gradient():
    @op
    def half(a, b):
        return a + b, lambda dy: (dy, None)

    a, b = leaf(1.0), leaf(2.0)
    half(a, b * 2.0).backward()
    assert a.grad.item() == 1 and b.grad is None


# ---- aliasing: gradients that share memory must not change each other


def test_scaling_one_gradient_leaves_its_twin_alone():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (a + b).backward([1.0, 1.0])
    a.grad *= 10
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])


def test_the_gradient_given_to_backward_is_neither_kept_nor_changed():
    a, seed = leaf(1.0, 2.0), np.ones(2)
    a.backward(seed)
    a.backward(seed)
    np.testing.assert_array_equal(seed, [1.0, 1.0])
    np.testing.assert_array_equal(a.grad, [2.0, 2.0])


def test_accumulating_into_a_view_does_not_reach_the_other_parent():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    c = ops.reshape(a, shape=(2, 1)) + ops.reshape(b, shape=(2, 1))
    ops.sum(c + ops.reshape(a, shape=(2, 1)) * 5.0).backward()
    np.testing.assert_array_equal(a.grad, [6.0, 6.0])
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])
    a.grad *= 0
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])


@pytest.mark.parametrize("view_first", [True, False])
def test_an_op_may_return_an_array_and_a_view_of_it(view_first):
    @op
    def both(x, y):
        def backward(dy):
            fresh = dy * 2
            return (fresh[:], fresh) if view_first else (fresh, fresh[:])

        return x + y, backward

    x, y = leaf(1.0, 1.0), leaf(1.0, 1.0)
    (both(x, y) + x * 3.0 + y * 4.0).backward([1.0, 1.0])
    np.testing.assert_array_equal(x.grad, [5.0, 5.0])
    np.testing.assert_array_equal(y.grad, [6.0, 6.0])


def test_an_op_may_return_the_same_array_twice():
    @op
    def both(x, y):
        return x + y, lambda dy: (dy * 2,) * 2

    x, y = leaf(1.0), leaf(1.0)
    (both(x, y) + x * 3.0 + y * 4.0).backward()
    assert x.grad.item() == 5 and y.grad.item() == 6


def test_gradients_are_arrays_in_c_order_of_the_leafs_dtype():
    x = Tensor(np.float32(2.0), requires_grad=True)  # no axes
    v = Tensor(np.ones(3, np.float32))
    ops.sum(x * v + x * v).backward()
    ops.sum(x * np.ones(3)).backward()  # float64 array: float64 result, float32 gradient
    assert isinstance(x.grad, np.ndarray) and x.grad.shape == () and x.grad.dtype == np.float32
    assert x.grad.item() == 9
    w = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    ops.sum((w * np.ones((3, 2), np.float32).T).T * 2.0).backward()
    assert w.grad.flags.c_contiguous


# ---- un-broadcasting

shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@given(shapes, st.data())
def test_unbroadcast_sums_over_what_was_repeated(shape, data):
    kept = data.draw(st.integers(0, len(shape)))
    small = tuple(data.draw(st.sampled_from([1, n])) for n in shape[kept:])
    gradient = np.random.default_rng(0).standard_normal(shape)
    out = np.asarray(unbroadcast(gradient, small))
    assert out.shape == small
    # <g, broadcast(v)> = <unbroadcast(g), v> for every v: it is the transpose of broadcasting
    v = np.random.default_rng(1).standard_normal(small)
    np.testing.assert_allclose((gradient * np.broadcast_to(v, shape)).sum(), (out * v).sum(), atol=1e-12)


def test_unbroadcast_of_an_empty_array_is_zero():
    np.testing.assert_array_equal(unbroadcast(np.zeros((0, 3)), (1, 3)), np.zeros((1, 3)))


# ---- gradients of a few rows


@pytest.mark.parametrize("scores_first", [True, False])
def test_a_table_used_twice_gets_the_rows_that_were_read_and_the_rest(scores_first):
    """Tied weights: the gradient of a few rows is added into the dense one, whichever comes first."""
    rng = np.random.default_rng(0)
    table, x, ids = Tensor(rng.standard_normal((6, 3)), requires_grad=True), rng.standard_normal((2, 3)), np.array([1, 4, 1])
    read, scored = lambda: ops.embedding(table, ids=ids) ** 2, lambda: ops.linear(Tensor(x), table) ** 2
    first, second = (scored, read) if scores_first else (read, scored)
    (ops.sum(first()) + ops.sum(second())).backward()
    wanted = 2 * (table.data @ x.T) @ x
    for i in ids:
        wanted[i] += 2 * table.data[i]
    np.testing.assert_allclose(table.grad, wanted)
