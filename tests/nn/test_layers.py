"""Layers: dropout's two modes, attention and its cache, positions, the block's residual stream."""

import numpy as np
import pytest

from tinyllm import Tensor, no_grad, ops
from tinyllm.autograd import gradcheck
from tinyllm.nn import (
    Dropout,
    Embedding,
    FeedForward,
    KVCache,
    LayerNorm,
    Linear,
    RMSNorm,
    Rotary,
    RotaryScaling,
    SelfAttention,
    Sinusoidal,
    lay_out,
    rotary_frequencies,
    run_blocks,
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
    layer = SelfAttention(4, 2, bias=bias, std=0.5, out_std=0.5, rng=rng())
    mask = np.array([[True] * 3, [False, True, True]])
    layout = lay_out(np.zeros((2, 3), int), block_size=3, attention_mask=mask)
    names, weights = zip(*layer.named_parameters(), strict=True)
    assert names == (("qkv.weight", "qkv.bias", "out.weight", "out.bias") if bias else ("qkv.weight", "out.weight"))

    def function(x, *tensors):
        values = dict(zip(names, tensors, strict=True))
        for part in (layer.qkv, layer.out):
            path = "qkv" if part is layer.qkv else "out"
            part.weight, part.bias = values[f"{path}.weight"], values.get(f"{path}.bias")
        return layer(x, layout)

    gradcheck(function, randn(1, 5, 4).astype(float), *(w.data.astype(float) for w in weights))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="d_model 10 is not divisible by n_heads 4"):
        SelfAttention(10, 4, rng=rng())


@pytest.mark.parametrize("cuts", [[6], [1] * 6, [2, 1, 3], [5, 1]])
def test_attention_in_pieces_with_a_cache_is_attention_at_once(cuts):
    layer = SelfAttention(8, 2, std=0.5, rng=rng())
    x = randn(3, 6, 8)
    cache = KVCache(1, (3, 10, 2, 4), np.float32)
    pieces = []
    with no_grad():
        whole = layer(Tensor(x), lay_out(np.zeros((3, 6), int), block_size=6)).data
        for piece in np.split(x, np.cumsum(cuts)[:-1], axis=1):
            layout = lay_out(np.zeros(piece.shape[:2], int), block_size=6, cache=cache)
            out = run_blocks([layer], Tensor(piece.reshape(1, -1, 8)), layout, cache=cache)
            pieces.append(out.data.reshape(piece.shape))
    assert cache.lengths.tolist() == [6, 6, 6]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=1e-6)


# ---- cache


def fill(cache, n_new, numbers):
    """Append so many tokens to each row, all numbers of a token being that of `numbers`."""
    cache.make_place(np.array(n_new))
    for layer in cache.layers:
        new = np.array(numbers, float)[None, :, None, None] * np.ones((1, 1, 1, 2))
        keys, values = layer.append(new, -new)
    cache.lengths = cache.lengths + n_new
    rows = [keys.reshape(cache.batch_size, -1, 2)[row, :n, 0].tolist() for row, n in enumerate(cache.lengths)]
    assert [(-values.reshape(cache.batch_size, -1, 2)[row, :n, 0]).tolist() for row, n in enumerate(cache.lengths)] == rows
    return rows


def test_each_row_of_a_cache_goes_on_from_its_own_length():
    cache = KVCache(2, (3, 4, 1, 2), np.float64)
    assert fill(cache, [2, 0, 1], [1, 2, 3]) == [[1, 2], [], [3]]
    assert fill(cache, [1, 3, 1], [4, 5, 6, 7, 8]) == [[1, 2, 4], [5, 6, 7], [3, 8]]


def test_select_reorders_and_repeats_rows():
    cache = KVCache(2, (3, 5, 1, 2), np.float32)
    fill(cache, [2, 2, 1], [0, 0, 1, 1, 2])
    cache.select(np.array([2, 0, 2, 1]))
    assert cache.batch_size == 4 and cache.lengths.tolist() == [1, 2, 1, 2]
    assert fill(cache, [1, 1, 1, 1], [7, 7, 7, 7]) == [[2, 7], [0, 0, 7], [2, 7], [1, 1, 7]]


def test_a_full_cache_and_another_batch_size_are_refused():
    cache = KVCache(1, (2, 5, 1, 2), np.float32)
    fill(cache, [1, 3], [0, 0, 0, 0])
    cache.check_room(np.array([4, 2]))
    with pytest.raises(ValueError, match="room for 5 positions, row 1 has 3 and 3 more came; make it longer"):
        cache.check_room(np.array([1, 3]))
    with pytest.raises(ValueError, match="cache holds 2 rows, tokens have 3"):
        cache.check_room(np.array([1, 1, 1]))


# ---- positions


def test_positions_count_real_tokens_only():
    mask = np.array([[True, True, True, True], [False, False, True, True], [False] * 4])
    layout = lay_out(np.zeros((3, 4), int), block_size=4, attention_mask=mask)
    assert layout.positions.tolist() == [[0, 1, 2, 3, 0, 1]] and layout.n_new.tolist() == [4, 2, 0]


def test_sinusoids_follow_the_equation():
    table = Sinusoidal(4, 4)(np.array([[0, 3]]), dtype=np.float64).data
    np.testing.assert_allclose(table, [[[0, 1, 0, 1], [np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)]]], atol=1e-15)
    with pytest.raises(ValueError, match="positions up to 4 came, the table has 4"):
        Sinusoidal(4, 4)(np.array([4]), dtype=np.float64)
    with pytest.raises(ValueError, match="width must be even"):
        Sinusoidal(4, 3)


def test_rotary_turns_by_position_times_frequency():
    np.testing.assert_allclose(rotary_frequencies(4), [1, 0.01])
    x = np.ones((1, 2, 1, 4))
    turned = Rotary(4)(Tensor(x), np.array([[0, 3]])).data
    np.testing.assert_allclose(turned[0, 0, 0], 1)
    angles = np.array([3, 0.03])
    np.testing.assert_allclose(turned[0, 1, 0], np.r_[np.cos(angles) - np.sin(angles), np.cos(angles) + np.sin(angles)])
    with pytest.raises(ValueError, match="head_dim must be even"):
        rotary_frequencies(5)


def test_the_table_of_angles_grows_with_the_text():
    rotary = Rotary(8, base=500.0)
    long = Rotary(8, base=500.0)
    x = np.ones((1, 1, 1, 8), np.float32)
    rotary(Tensor(x), np.array([[3]]))
    for position in (3, 5000):
        place = np.array([[position]])
        np.testing.assert_array_equal(rotary(Tensor(x), place).data, long(Tensor(x), place).data)


@pytest.mark.parametrize("kind", ["linear", "llama3", "yarn"])
def test_scaled_angles_stay_between_the_old_ones_and_those_stretched_by_the_factor(kind):
    plain = rotary_frequencies(32)
    scaled = rotary_frequencies(32, scaling=RotaryScaling(kind, 4.0, original_context=128))
    assert (scaled <= plain).all() and (scaled >= plain / 4 - 1e-15).all()
    assert scaled[-1] == pytest.approx(plain[-1] / 4)
    assert scaled[0] == pytest.approx(plain[0] / (4 if kind == "linear" else 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "dynamic", "factor": 2.0}, "kind is 'dynamic'; expected one of linear, llama3, yarn"),
        ({"kind": "linear", "factor": 0.5}, "factor is 0.5; expected a number of at least 1"),
        ({"kind": "yarn", "factor": 2.0}, "original_context is None; yarn needs it"),
    ],
)
def test_scalings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RotaryScaling(**settings)
