"""Facts about LoRA: it starts as the old model, trains only A and B, can be switched off, and merges into the old shape."""

import numpy as np
import pytest

from tinyllm import Tensor, no_grad, ops
from tinyllm.autograd import gradcheck
from tinyllm.models import GPT, GPTConfig, SequenceClassifier
from tinyllm.nn import Linear, LoRALinear, add_lora, has_lora, lora_disabled, lora_layers, merge_lora
from tinyllm.optim import AdamW

TOKENS = np.arange(12).reshape(2, 6) % 11


def rng(seed=0):
    return np.random.default_rng(seed)


def small_model(**changes):
    settings = {"vocab_size": 11, "block_size": 8, "n_layers": 2, "n_heads": 2, "d_model": 8, "init_std": 0.2, **changes}
    return GPT(GPTConfig(**settings), rng=rng())


def adapted(model=None, **changes):
    return add_lora(model or small_model(), **{"rank": 2, "alpha": 4.0, "rng": rng(1), **changes})


def train_a_little(model, steps=3):
    optimizer = AdamW(model.parameters(), lr=0.05)
    for _ in range(steps):
        model.zero_grad()
        model.loss(TOKENS, (TOKENS + 1) % 11).backward()
        optimizer.step()


def logits(model):
    with no_grad():
        return model(TOKENS).data


def test_the_first_forward_is_the_old_one_to_the_bit():
    assert logits(adapted(targets=("qkv", "out"))).tobytes() == logits(small_model()).tobytes()


def test_the_first_forward_is_the_old_one_within_rounding_where_a_fused_layer_is_taken_apart():
    np.testing.assert_allclose(logits(adapted()), logits(small_model()), atol=1e-6)


def test_a_layer_computes_hu_et_al_equation_3():
    layer = LoRALinear(Linear(5, 3, rng=rng()), rank=2, alpha=6.0, rng=rng(1))
    layer.lora_b.assign(rng(2).standard_normal((3, 2)))
    x, residual = (rng(i).standard_normal((4, n)).astype(np.float32) for i, n in ((3, 5), (4, 3)))
    expected = x @ layer.weight.data.T + 6 / 2 * x @ layer.lora_a.data.T @ layer.lora_b.data.T + residual
    np.testing.assert_allclose(layer(Tensor(x), residual=Tensor(residual)).data, expected, atol=1e-5)


def test_gradients_of_a_and_b():
    layer = LoRALinear(Linear(5, 3, rng=rng()), rank=2, alpha=3.0, rng=rng(1))
    b, a, x = (rng(i).standard_normal(shape) for i, shape in ((2, (3, 2)), (3, (2, 5)), (4, (4, 5))))
    layer.weight, layer.bias = Tensor(layer.weight.data.astype(np.float64)), None

    def forward(a, b, x):
        layer.lora_a, layer.lora_b = a, b
        return layer(x)

    gradcheck(forward, a, b, x)


def test_only_a_and_b_are_trained():
    model = adapted()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    assert {name.rpartition(".")[2] for name, weight in model.named_parameters() if weight.requires_grad} == {"lora_a", "lora_b"}
    train_a_little(model)
    changed = {name for name, array in model.state_dict().items() if array.tobytes() != before[name].tobytes()}
    assert changed and all(name.endswith((".lora_a", ".lora_b")) for name in changed)
    assert len(changed) == 2 * 4 * 2


def test_weights_named_in_trained_stay_trained():
    model = adapted(SequenceClassifier(small_model(), 3, rng=rng()), trained=("head",))
    assert "head.weight" in {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert "trunk.tokens.weight" not in {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_adapters_change_few_numbers():
    model = adapted(small_model(d_model=64), rank=1)
    assert sum(weight.size for weight in model.parameters()) < 0.05 * model.num_parameters()


def test_switched_off_it_is_the_old_model_and_switched_on_again_the_new_one():
    model = adapted(targets=("qkv",))
    old = logits(small_model())
    train_a_little(model)
    new = logits(model)
    assert np.abs(new - old).max() > 0.01
    with pytest.raises(KeyError), lora_disabled(model):
        assert logits(model).tobytes() == old.tobytes()
        with lora_disabled(model):
            pass
        assert logits(model).tobytes() == old.tobytes()
        raise KeyError
    assert logits(model).tobytes() == new.tobytes()


def test_merged_equals_unmerged():
    model = adapted()
    train_a_little(model)
    expected = logits(model)
    assert merge_lora(model) is model and not has_lora(model)
    np.testing.assert_allclose(logits(model), expected, atol=1e-5)
    assert model.state_dict().keys() == small_model().state_dict().keys()


def test_a_merged_model_is_trained_again_but_what_was_frozen_before_is_not():
    model = small_model()
    model.positions.weight.requires_grad = False
    merge_lora(adapted(model))
    assert [name for name, weight in model.named_parameters() if not weight.requires_grad] == ["positions.weight"]


def test_freezing_is_a_property_of_the_weight_and_leaves_no_trace_on_the_model():
    model = small_model()
    attributes, trained = set(vars(model)), model.parameters()
    adapted(model)
    assert set(vars(model)) == attributes and all(weight.frozen and weight.grad is None for weight in trained)
    assert not any(weight.frozen for weight in model.parameters())
    part = SequenceClassifier(model, 3, rng=rng()).trunk
    merge_lora(part)  # whoever merges, and under whichever name the weight is reached then
    assert len(part.parameters()) == len(trained) and not any(weight.frozen for weight in part.parameters())


def test_a_layer_that_stayed_trained_beside_its_adapter_is_trained_after_merging():
    model = adapted(trained=("blocks.0.attention.qkv.weight",))
    merge_lora(model)
    assert all(weight.requires_grad for _, weight in model.named_parameters())


def test_merging_leaves_buffers_frozen():
    layer = small_model()
    layer.gain = Tensor(np.ones(1, np.float32))
    assert not merge_lora(adapted(layer)).gain.requires_grad


def test_the_same_seed_gives_the_same_adapters():
    first, second = (adapted(rng=rng(5)).state_dict() for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert list(lora_layers(adapted(targets=("qkv",)))) == ["blocks.0.attention.qkv", "blocks.1.attention.qkv"]


def test_a_frozen_model_keeps_no_gradients_for_its_own_weights():
    model = adapted()
    ops.cross_entropy(model(TOKENS), TOKENS).backward()
    assert all((weight.grad is not None) == weight.requires_grad for _, weight in model.named_parameters())


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(ValueError, match="targets: no Linear is called 'c_attn'"):
        adapted(targets=("c_attn",))
    with pytest.raises(ValueError, match="trained: no weight's name begins with 'head'"):
        adapted(trained=("head",))
    with pytest.raises(ValueError, match="rank must be a whole number from 1 to 8"):
        adapted(rank=9)
    with pytest.raises(ValueError, match="alpha must be"):
        adapted(alpha=0)
    with pytest.raises(ValueError, match="has LoRA adapters already"):
        adapted(adapted())


def test_a_refused_rank_changes_nothing():
    model = small_model()
    with pytest.raises(ValueError):
        adapted(model, rank=99)
    assert not has_lora(model) and all(weight.requires_grad for _, weight in model.named_parameters())
