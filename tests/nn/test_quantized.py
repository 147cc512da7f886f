"""int8 layers: rounding by row, the model's twin, what it costs, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, arrays_with_layout, shapes

from tinyllm import Tensor, no_grad
from tinyllm.autograd import observe_ops
from tinyllm.decoding import generate
from tinyllm.models import GPT, GPTConfig
from tinyllm.nn import Embedding, FeedForward, Linear, QuantizedEmbedding, QuantizedLinear, quantize
from tinyllm.nn.quantized import quantize_rows


def rng():
    return np.random.default_rng(0)


def small_model(**changes):
    settings = {"vocab_size": 50, "block_size": 16, "n_layers": 2, "n_heads": 2, "d_model": 32, "init_std": 0.1, **changes}
    return GPT(GPTConfig(**settings), rng=rng())


@given(data=st.data(), shape=shapes(2, 2), dtype=DTYPES, scale=st.sampled_from([1e-30, 1.0, 1e30]))
def test_rounding_is_at_most_half_a_step_off_and_uses_the_whole_range(data, shape, dtype, scale):
    weight = data.draw(arrays_with_layout(shape, dtype, scale=scale))
    quantized, steps = quantize_rows(weight)
    assert (quantized.dtype, steps.dtype, steps.shape) == (np.int8, dtype, shape[:1]) and quantized.flags.c_contiguous
    error = np.abs(quantized.astype(np.float64) * steps[:, None] - weight)
    assert np.all(error <= 0.5001 * steps[:, None])
    assert np.all(np.abs(quantized.astype(int)).max(axis=1, initial=0) == (127 if shape[1] else 0))


def test_rounding_worked_by_hand():
    quantized, steps = quantize_rows(np.array([[1.27, -0.5, 0.004], [0, 0, 0], [2.54, 2.54, -2.54]]))
    assert quantized.tolist() == [[127, -50, 0], [0, 0, 0], [127, 127, -127]]
    np.testing.assert_allclose(steps, [0.01, 1, 0.02])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize_rows(np.array([[1.0, bad]]))
    with pytest.raises(ValueError, match=r"weight must be .* int64 \(2,\)"):
        quantize_rows(np.array([1, 2]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (1,), (2, 3), (40,)])
def test_a_layer_computes_with_the_rounded_weights(bias, leading):
    layer, x = Linear(20, 7, bias=bias, rng=rng()), Tensor(rng().standard_normal((*leading, 20), np.float32))
    twin = QuantizedLinear(layer)
    if bias:
        layer.bias.data[:] = 3
    layer.weight.data[:] = twin.weight.data * twin.scale.data[:, None]
    np.testing.assert_allclose(twin(x).data, layer(x.detach()).data, rtol=1e-5, atol=1e-5)
    residual = Tensor(np.ones((*leading, 7), np.float32))
    np.testing.assert_allclose(twin(x, residual=residual).data, twin(x).data + 1)


def test_a_table_is_read_and_scores_with_the_rounded_weights():
    table, x, ids = Embedding(9, 20, std=1.0, rng=rng()), Tensor(rng().standard_normal((2, 20), np.float32)), [[0, 8], [3, 3]]
    twin = QuantizedEmbedding(table)
    table.weight.data[:] = twin.weight.data * twin.scale.data[:, None]
    np.testing.assert_array_equal(twin(ids).data, table(ids).data)
    np.testing.assert_allclose(twin.scores(x).data, table.scores(x).data, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="ids"):
        twin([[9]])


def test_whoever_observes_ops_sees_int8_ones():
    layer, table, calls = QuantizedLinear(Linear(20, 7, rng=rng())), QuantizedEmbedding(Embedding(9, 20, std=1.0, rng=rng())), []
    with observe_ops(calls.append):
        y = layer(table([[0, 8]]), residual=Tensor(np.ones((1, 2, 7), np.float32)))
    assert [call.op for call in calls] == ["int8_embedding", "int8_linear"] and calls[1].out is y
    assert calls[1].inputs[0] is calls[0].out


def test_a_quantized_model_says_nearly_the_same_in_a_quarter_of_the_memory():
    model, tokens = small_model(d_model=128), rng().integers(0, 50, (3, 16))
    with no_grad():
        wanted = model(tokens).data
    size = sum(array.nbytes for array in model.state_dict().values())
    assert quantize(model) is model and not model.training
    got = model(tokens)  # nothing needs a gradient any more, so no_grad is not needed either
    assert not got.requires_grad
    assert 0 < np.abs(got.data - wanted).max() < 0.03 * np.abs(wanted).max()
    assert sum(array.nbytes for array in model.state_dict().values()) < 0.29 * size


def test_generating_with_a_cache_is_running_the_whole_text():
    model, prompts = quantize(small_model()), [[3], [14, 15, 9, 2, 6], [5, 35, 8]]
    result = generate(model, prompts, max_new_tokens=8, temperature=0)
    for prompt, tokens in zip(prompts, result.tokens, strict=True):
        for n, token in enumerate(tokens):
            assert model(np.array([prompt + tokens[:n]])).data[0, -1].argmax() == token


def test_positions_stay_as_they_are_unless_asked():
    assert isinstance(quantize(small_model()).positions, Embedding)
    assert isinstance(quantize(small_model(), keep=()).positions, QuantizedEmbedding)


def test_gradients_and_saving_are_refused_with_the_way_out(tmp_path):
    layer = quantize(FeedForward(8, 32, rng=rng()))
    with pytest.raises(ValueError, match="train the float model and quantize it after"):
        layer(Tensor(np.ones((1, 8), np.float32), requires_grad=True))
    with pytest.raises(ValueError, match=r"float32 \(\.\.\., 8\)"):
        layer(Tensor(np.ones((1, 8))))
    with pytest.raises(ValueError, match="save the float model"):
        quantize(small_model()).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_quantized_model_has_a_loss():
    rng = np.random.default_rng(0)
    model = quantize(GPT(GPTConfig(vocab_size=11, block_size=8, n_layers=1, n_heads=2, d_model=8), rng=rng))
    tokens = rng.integers(0, 11, (2, 8))
    with no_grad():
        logits = model(tokens).data
        expected = -np.take_along_axis(logits - np.log(np.exp(logits).sum(-1, keepdims=True)), tokens[..., None], -1).mean()
        assert model.loss(tokens, tokens).item() == pytest.approx(expected, rel=1e-5)
