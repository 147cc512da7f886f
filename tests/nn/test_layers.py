"""Layers: dropout's two modes, attention and its cache, positions, the block's residual stream."""

import numpy as np
import pytest

from tinyllm import Tensor, no_grad, ops
from tinyllm.autograd import gradcheck
from tinyllm.nn import (
    Block,
    Dropout,
    Embedding,
    FeedForward,
    KVCache,
    LayerCache,
    LayerNorm,
    Linear,
    RMSNorm,
    SelfAttention,
    positions_from_mask,
    rotary_angles,
)


def randn(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def rng():
    return np.random.default_rng(0)


def test_layers_are_their_ops():
    x = randn(2, 3, 4)
    linear, norm, rms, table = Linear(4, 5, rng=rng()), LayerNorm(4), RMSNorm(4), Embedding(6, 4, rng=rng())
    np.testing.assert_array_equal(linear(x).data, ops.linear(x, linear.weight, linear.bias).data)
    np.testing.assert_array_equal(norm(x).data, ops.layer_norm(x, norm.weight, norm.bias).data)
    np.testing.assert_array_equal(rms(x).data, ops.rms_norm(x, rms.weight).data)
    np.testing.assert_array_equal(table([[5, 0]]).data, table.weight.data[[[5, 0]]])


def test_feedforward_is_down_gelu_up():
    layer = FeedForward(4, 16, rng=rng())
    x = randn(2, 4)
    np.testing.assert_allclose(layer(Tensor(x)).data, layer.down(ops.gelu(layer.up(Tensor(x)))).data)
    assert layer.up.weight.shape == (16, 4) and layer.down.weight.shape == (4, 16)


# ---- dropout


def test_dropout_acts_in_training_only():
    layer = Dropout(0.5, rng=rng())
    x = Tensor(np.ones((10, 10), np.float32))
    assert (layer(x).data == 0).any()
    assert layer.eval()(x) is x
    assert Dropout(0.0, rng=rng())(x) is x


def test_dropout_continues_from_a_saved_generator_state():
    layer, x = Dropout(0.5, rng=rng()), np.ones((4, 4), np.float32)
    layer(x)
    state = layer.rng.bit_generator.state
    expected = layer(x).data
    layer(x)
    layer.rng.bit_generator.state = state
    np.testing.assert_array_equal(layer(x).data, expected)


@pytest.mark.parametrize("p", [-0.1, 1, 1.5])
def test_a_dropout_that_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="0 <= dropout < 1, got"):
        Dropout(p, rng=rng())


# ---- attention


@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_gradients(bias):
    layer = SelfAttention(4, 2, causal=True, bias=bias, std=0.5, out_std=0.5, rng=rng())
    mask = np.array([[True] * 3, [False, True, True]])
    names, weights = zip(*layer.named_parameters(), strict=True)
    assert names == (("qkv.weight", "qkv.bias", "out.weight", "out.bias") if bias else ("qkv.weight", "out.weight"))

    def function(x, *tensors):
        values = dict(zip(names, tensors, strict=True))
        for part in (layer.qkv, layer.out):
            path = "qkv" if part is layer.qkv else "out"
            part.weight, part.bias = values[f"{path}.weight"], values.get(f"{path}.bias")
        return layer(x, key_mask=mask)

    gradcheck(function, randn(2, 3, 4).astype(float), *(w.data.astype(float) for w in weights))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="d_model 10 is not divisible by n_heads 4"):
        SelfAttention(10, 4, causal=True, rng=rng())


@pytest.mark.parametrize("cuts", [[6], [1] * 6, [2, 1, 3], [5, 1]])
def test_attention_in_pieces_with_a_cache_is_attention_at_once(cuts):
    layer = SelfAttention(8, 2, causal=True, std=0.5, rng=rng())
    x = randn(3, 6, 8)
    cache = LayerCache((3, 10, 2, 4), np.float32)
    with no_grad():
        whole = layer(Tensor(x)).data
        pieces = [layer(Tensor(piece), cache=cache).data for piece in np.split(x, np.cumsum(cuts)[:-1], axis=1)]
    assert cache.length == 6
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-6)


# ---- cache


def test_a_cache_returns_all_it_holds_in_order():
    cache = LayerCache((1, 4, 1, 2), np.float64)
    keys, values = cache.append(np.full((1, 3, 1, 2), 1.0), np.full((1, 3, 1, 2), -1.0))
    keys, values = cache.append(np.full((1, 1, 1, 2), 2.0), np.full((1, 1, 1, 2), -2.0))
    assert keys[0, :, 0, 0].tolist() == [1, 1, 1, 2] and values[0, :, 0, 0].tolist() == [-1, -1, -1, -2]


def test_select_reorders_and_repeats_rows():
    cache = KVCache(2, (3, 5, 1, 2), np.float32)
    rows = np.arange(3.0)[:, None, None, None] * np.ones((3, 2, 1, 2))
    for layer in cache.layers:
        layer.append(rows, -rows)
    cache.select(np.array([2, 0, 2, 1]))
    assert cache.batch_size == 4 and cache.length == 2
    for layer in cache.layers:
        keys, values = layer.append(np.zeros((4, 1, 1, 2)), np.zeros((4, 1, 1, 2)))
        assert keys[:, 0, 0, 0].tolist() == [2, 0, 2, 1] and values[:, 1, 0, 0].tolist() == [-2, 0, -2, -1]


def test_a_full_cache_and_another_batch_size_are_refused():
    cache = KVCache(1, (2, 5, 1, 2), np.float32)
    cache.layers[0].append(np.zeros((2, 3, 1, 2)), np.zeros((2, 3, 1, 2)))
    cache.check_room(2, 2)
    with pytest.raises(ValueError, match="room for 5 positions, 3 are filled and 3 more came; make it longer"):
        cache.check_room(2, 3)
    with pytest.raises(ValueError, match="cache holds 2 rows, tokens have 3"):
        cache.check_room(3, 1)


# ---- positions


def test_positions_count_real_tokens_only():
    mask = np.array([[True, True, True, True], [False, False, True, True], [False] * 4])
    assert positions_from_mask(mask, 4).tolist() == [[0, 1, 2, 3], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert positions_from_mask(mask, 1).tolist() == [[3], [1], [0]]


def test_rotary_angles_follow_the_equation():
    cos, sin = rotary_angles(np.array([[0, 3]]), 4)
    np.testing.assert_allclose(cos, [[[1, 1], [np.cos(3), np.cos(0.03)]]], rtol=1e-6)
    np.testing.assert_allclose(sin, [[[0, 0], [np.sin(3), np.sin(0.03)]]], rtol=1e-6)
    assert cos.dtype == np.float32
    with pytest.raises(ValueError, match="head_width must be even"):
        rotary_angles(np.arange(3), 5)


# ---- block


class Silent(Linear):
    def __call__(self, x, *, residual=None, **_):
        return x * 0.0 if residual is None else x * 0.0 + residual


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_a_block_whose_layers_say_nothing_passes_the_stream_on(p):
    silent = Silent(1, 1, rng=None)
    drop = Dropout(p, rng=rng())
    block = Block(norm1=LayerNorm(4), attention=silent, norm2=LayerNorm(4), feedforward=silent, dropout=drop)
    x = randn(2, 3, 4)
    np.testing.assert_array_equal(block(Tensor(x)).data, x)


def test_a_block_adds_both_layers_and_normalises_what_they_read():
    seen = []

    class Spy(Linear):
        def __call__(self, x, *, residual, **_):
            seen.append(x.data)
            return residual + 1.0

    spy, drop = Spy(1, 1, rng=None), Dropout(0.0, rng=rng())
    block = Block(norm1=LayerNorm(4), attention=spy, norm2=LayerNorm(4), feedforward=spy, dropout=drop)
    x = randn(2, 3, 4) * 9
    np.testing.assert_allclose(block(Tensor(x)).data, x + 2, rtol=1e-6)
    assert len(seen) == 2
    for read in seen:
        np.testing.assert_allclose(read.var(axis=-1), 1, atol=1e-3)
