"""The shape of an objective fits more than the next token: hidden words, asked through the same sources and the same loop."""

import numpy as np
import pytest

from tinyllm.data import Batch, EvaluationWindows, MixtureWindows, RandomWindows
from tinyllm.data.text.mixture import mix
from tinyllm.models import GPT, GPTConfig
from tinyllm.pretraining import next_token_loss, next_tokens
from tinyllm.training import TrainConfig, train

HIDDEN = 0
TOKENS = np.random.default_rng(0).integers(1, 9, 400)


def hidden_words(windows, rng):
    """A fifth of the tokens is hidden; what they were is asked."""
    words = windows[:, :-1]
    hidden = rng.random(words.shape) < 0.2
    hidden[:, 0] = True
    return Batch(np.where(hidden, HIDDEN, words), words, hidden)


def test_the_next_token_is_asked_unless_told_otherwise():
    one, other = (RandomWindows(TOKENS, batch_size=3, block_size=8, rng=np.random.default_rng(1), **more).next_batch()
                  for more in ({}, {"questions": next_tokens}))  # fmt: skip
    assert np.array_equal(one.tokens, other.tokens) and np.array_equal(one.targets, other.targets)
    assert np.array_equal(one.tokens[:, 1:], one.targets[:, :-1]) and one.loss_mask is None


@pytest.mark.parametrize("kind", ["random", "mixture"])
def test_hidden_words_go_on_from_where_a_source_stood(kind):
    def source(seed):
        settings = {"batch_size": 3, "block_size": 8, "rng": np.random.default_rng(seed), "questions": hidden_words}
        if kind == "random":
            return RandomWindows(TOKENS, **settings)
        return MixtureWindows(mix({"a": TOKENS, "b": TOKENS[:99]}, {"a": 400, "b": 99}), **settings)

    first, again = source(2), source(3)
    first.next_batch()
    again.restore(first.state())
    for _ in range(3):
        one, two = first.next_batch(), again.next_batch()
        assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("tokens", "targets", "loss_mask"))
        assert (one.tokens[one.loss_mask] == HIDDEN).all() and (one.targets != HIDDEN).all()
        assert np.array_equal(one.tokens[~one.loss_mask], one.targets[~one.loss_mask])


def test_a_held_out_set_hides_the_same_words_each_time():
    evaluation = EvaluationWindows(TOKENS, batch_size=4, block_size=8, max_windows=10, questions=hidden_words)
    one, two = list(evaluation), list(evaluation)
    assert [len(batch.tokens) for batch in one] == [4, 4, 2]
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(one, two, strict=True))


def test_the_training_loop_learns_what_was_asked():
    model = GPT(
        GPTConfig(vocab_size=9, block_size=8, n_layers=2, n_heads=2, d_model=32, init_std=0.1), rng=np.random.default_rng(0)
    )
    tokens = np.tile([1, 2, 3, 4], 100)
    source = RandomWindows(tokens, batch_size=8, block_size=8, rng=np.random.default_rng(0), questions=hidden_words)
    config = TrainConfig(max_steps=150, batch_size=8, learning_rate=1e-2, warmup_steps=5, eval_interval=0, checkpoint_interval=0)
    losses = [record.loss for record in train(model, source, config=config, loss_fn=next_token_loss)]
    assert losses[0] > 1.8 and np.mean(losses[-20:]) < 1  # the first word of a window cannot be known: ln 4 for one in 2.4
