"""Module: which weights it finds, under which names, and what loading refuses."""

import numpy as np
import pytest

from tinyllm import Tensor
from tinyllm.nn import Dropout, Embedding, LayerNorm, Linear, Module, evaluating, normal, ones, zeros

RNG = np.random.default_rng(0)


class Tree(Module):
    def __init__(self):
        self.scale = ones(2)
        self.layers = [Linear(2, 3, rng=RNG), (Linear(3, 2, bias=False, rng=RNG), "text", 7)]
        self.by_name = {"left": LayerNorm(2), "right": LayerNorm(2, bias=False)}
        self.drop = Dropout(0.5, rng=np.random.default_rng(0))
        self.tied = self.layers[0]
        self.frozen = Tensor(np.zeros(1, np.float32))
        self.nothing = None


NAMES = ["scale", "layers.0.weight", "layers.0.bias", "layers.1.0.weight", "by_name.left.weight", "by_name.left.bias",
         "by_name.right.weight", "frozen"]  # fmt: skip


def test_parameters_come_in_definition_order_through_lists_tuples_and_dicts_tied_ones_once():
    assert [name for name, _ in Tree().named_parameters()] == NAMES


def test_parameters_are_those_that_train():
    tree = Tree()
    assert len(tree.parameters()) == len(NAMES) - 1
    assert all(parameter is not tree.frozen for parameter in tree.parameters())


def test_num_parameters_counts_each_weight_once():
    assert Tree().num_parameters() == 2 + 6 + 3 + 6 + 2 + 2 + 2 + 1


def test_train_and_eval_reach_every_module_and_return_the_model():
    tree = Tree()
    assert tree.training and tree.eval() is tree
    assert [module.training for _, module in tree.named_modules()] == [False] * 7
    assert tree.train().drop.training


def test_zero_grad_forgets_all_gradients():
    tree = Tree()
    (tree.scale * 2.0).backward([1.0, 1.0])
    tree.zero_grad()
    assert tree.scale.grad is None


def test_state_dict_holds_the_live_arrays():
    tree = Tree()
    assert list(tree.state_dict()) == NAMES
    assert tree.state_dict()["scale"] is tree.scale.data


def test_state_round_trip_copies_every_weight():
    source, target = Tree(), Tree()
    for _, parameter in source.named_parameters():
        parameter.data += 1
    target.load_state_dict(source.state_dict())
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, source.state_dict()[name])
        assert not np.shares_memory(array, source.state_dict()[name])


def test_loading_lists_everything_that_is_wrong_and_changes_nothing():
    tree = Tree()
    before = {name: array.copy() for name, array in tree.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    del state["scale"], state["by_name.left.bias"]
    state["layers.0.weight"] = np.zeros((2, 3))
    state["surplus"] = np.zeros(1)
    with pytest.raises(ValueError) as caught:
        tree.load_state_dict(state)
    for part in ["missing scale", "missing by_name.left.bias", "unexpected surplus",
                 "layers.0.weight has shape (2, 3), expected (3, 2)"]:  # fmt: skip
        assert part in str(caught.value)
    for name, array in tree.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_assigned_arrays_are_used_as_they_are():
    tree = Tree()
    state = {name: array.copy() for name, array in tree.state_dict().items()}
    tree.load_state_dict(state, assign=True)
    assert all(tree.state_dict()[name] is array for name, array in state.items())
    assert tree.tied.weight.data is state["layers.0.weight"]


@pytest.mark.parametrize("assign", [False, True])
def test_a_graph_recorded_before_loading_refuses_to_go_backward(assign):
    tree = Tree()
    y = tree.scale * tree.scale
    tree.load_state_dict({name: array.copy() for name, array in tree.state_dict().items()}, assign=assign)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward([1.0, 1.0])


def test_repr_shows_the_tree_with_shapes():
    text = repr(Tree())
    assert text.startswith("Tree  24 parameters") and "layers.0: Linear weight (3, 2), bias (3,)" in text


def test_a_module_without_call_says_so():
    with pytest.raises(TypeError, match="Tree does not define __call__"):
        Tree()(1)


# ---- where weights start


def test_normal_weights_have_the_spread_asked_for():
    w = normal(300, 200, std=0.02, rng=np.random.default_rng(0))
    assert w.dtype == np.float32 and w.requires_grad
    assert abs(w.data.std() / 0.02 - 1) < 0.02 and abs(w.data.mean()) < 0.001


def test_without_a_generator_weights_are_zero():
    assert (normal(2, 3, std=1.0, rng=None).data == 0).all() and (zeros(2).data == 0).all() and (ones(2).data == 1).all()


def test_the_same_seed_gives_the_same_weights():
    first, second = (Embedding(5, 4, rng=np.random.default_rng(9)).weight.data for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_linear_keeps_the_size_of_what_passes_through():
    layer = Linear(400, 400, rng=np.random.default_rng(0))
    y = layer(Tensor(np.random.default_rng(1).standard_normal((50, 400)).astype(np.float32)))
    assert abs(y.data.std() - 1) < 0.05


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_switches_dropout_and_recording_off_and_puts_the_mode_back_even_after_an_error(training):
    layer = Dropout(0.5, rng=np.random.default_rng(0))
    layer.train(training)
    x = Tensor(np.ones(64, np.float32), requires_grad=True)
    with pytest.raises(KeyError), evaluating(layer):
        assert not layer.training and layer(x * 1.0).data.all() and not (x * 1.0).requires_grad
        raise KeyError
    assert layer.training is training and (x * 1.0).requires_grad
