"""The plain forward that a reader opens first computes what the model computes."""

import numpy as np
import pytest

from tinyllm import no_grad
from tinyllm.models import GPT, GPTConfig, Llama, LlamaConfig, plain_llama
from tinyllm.models.plain_gpt import logits


@pytest.mark.parametrize("bias", [True, False])
def test_the_plain_forward_is_the_models(bias):
    config = GPTConfig(vocab_size=11, block_size=8, n_layers=2, n_heads=2, d_model=8, bias=bias, init_std=0.3)
    rng = np.random.default_rng(0)
    model = GPT(config, rng=rng)
    for weight in model.parameters():  # norms and biases too shall count
        weight.assign(weight.data + 0.1 * rng.standard_normal(weight.shape, dtype=np.float32))
    tokens = rng.integers(0, 11, (3, 6))
    plain = logits(tokens, model.state_dict(), n_layers=2, n_heads=2)
    with no_grad():
        np.testing.assert_allclose(model(tokens).data, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_the_plain_llama_is_the_model_s(tied):
    shape = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2}
    config = LlamaConfig(vocab_size=11, block_size=8, d_model=16, tied=tied, init_std=0.3, **shape)
    rng = np.random.default_rng(0)
    model = Llama(config, rng=rng)
    for weight in model.parameters():
        weight.assign(weight.data + 0.1 * rng.standard_normal(weight.shape, dtype=np.float32))
    tokens = rng.integers(0, 11, (3, 6))
    with no_grad():
        np.testing.assert_allclose(
            model(tokens).data, plain_llama.logits(tokens, model.state_dict(), **shape), rtol=1e-4, atol=1e-5
        )
