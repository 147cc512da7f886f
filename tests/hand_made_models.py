"""Models whose every logit is written by hand, with the interface that decoding asks of a model."""

from types import SimpleNamespace

import numpy as np
import pytest

from tinyllm import Tensor
from tinyllm.models import GPT, GPTConfig


class LengthCache:
    """A cache that remembers nothing but how much it was given, and which original row each row continues."""

    def __init__(self, batch_size):
        self.length, self.rows = 0, np.arange(batch_size)

    def select(self, rows):
        self.rows = self.rows[rows]


class HandMadeModel:
    """`next_logits(token, n_read, row) -> (V,)` gives the logits after `token`, when n_read tokens have been read."""

    def __init__(self, next_logits, *, vocab_size, block_size=64):
        self.config = SimpleNamespace(vocab_size=vocab_size, block_size=block_size)
        self.next_logits, self.training = next_logits, False
        self.batch_sizes = []

    def train(self, mode=True):
        self.training = mode

    def eval(self):
        self.training = False

    def new_cache(self, batch_size, max_length=None):
        return LengthCache(batch_size)

    def hidden(self, tokens, *, cache, attention_mask=None):
        assert len(tokens) == len(cache.rows) and not self.training
        self.batch_sizes.append(len(tokens))
        rows = [
            [self.next_logits(int(token), cache.length + t + 1, int(row)) for t, token in enumerate(line)]
            for row, line in zip(cache.rows, tokens, strict=True)
        ]
        cache.length += tokens.shape[1]
        return Tensor(np.array(rows, dtype=np.float32))

    def logits(self, hidden):
        return hidden


@pytest.fixture
def hand_made_model():
    """The class HandMadeModel."""
    return HandMadeModel


@pytest.fixture
def table_model():
    """table (V, V) -> a model whose logits after token i are table[i]."""
    return lambda table, **sizes: HandMadeModel(lambda token, n_read, row: table[token], vocab_size=len(table), **sizes)


@pytest.fixture
def script_model():
    """script -> a model that writes these ids after a prompt of `n_prompt` tokens, whatever the prompt is."""

    def make(script, *, vocab_size, n_prompt=1, block_size=512):
        def next_logits(token, n_read, row):
            return 10.0 * (np.arange(vocab_size) == script[min(max(n_read - n_prompt, 0), len(script) - 1)])

        return HandMadeModel(next_logits, vocab_size=vocab_size, block_size=block_size)

    return make


@pytest.fixture(scope="session")
def small_gpt():
    """A real GPT, weights drawn wide enough that its text is not constant."""
    model = GPT(GPTConfig(vocab_size=40, block_size=48, n_layers=2, n_heads=2, d_model=16), rng=np.random.default_rng(7))
    rng = np.random.default_rng(29)
    model.load_state_dict(
        {
            name: rng.normal(0.0, 2.0 if name.startswith("positions") else 0.5, array.shape).astype(np.float32)
            + ("norm" in name and name.endswith("weight"))
            for name, array in model.state_dict().items()
        }
    )
    return model.eval()
